"""Where programs on this device hand in their inputs: a Unix socket per task."""
