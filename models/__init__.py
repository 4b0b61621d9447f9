"""What a model is to Longstop: a package, its runtimes, the rule from scores to a decision."""
