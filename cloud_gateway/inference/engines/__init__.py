"""What computes an answer: `local` runs the package's cloud pipeline in this process."""
