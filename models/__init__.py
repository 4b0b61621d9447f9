"""What a model is to Longstop: its package, its runtimes, and the rule that turns scores into a decision."""
