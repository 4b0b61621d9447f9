"""Whether the promise of a package's certificate holds in the field, and what follows if not."""
