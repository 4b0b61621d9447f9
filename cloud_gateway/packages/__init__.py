"""Releases and their archives, and which version each device should run."""
