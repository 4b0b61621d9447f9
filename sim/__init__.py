"""The real agent and the real gateway on virtual time, joined by links that fail on command."""
