"""What `longstop-gateway` does, one file per noun: its verbs, their options, what they print."""
