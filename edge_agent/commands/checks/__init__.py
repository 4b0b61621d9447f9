"""What `longstop-agent doctor` looks at: one file per family, each check a small function."""
