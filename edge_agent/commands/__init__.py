"""What the verbs of `longstop-agent` do, one file each; `cli` reads the words."""
