"""What an operator measures."""
