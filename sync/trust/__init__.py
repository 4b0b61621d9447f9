"""Whom to believe: signing keys and what they have signed."""
