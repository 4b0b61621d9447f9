"""Where inputs come from when no program hands them in."""
