"""Records taken in and counted once: `ranges`, `rollup` are pure, `ingest` is the shell."""
