"""Answers here what is easy, asks the cloud for what is hard, and keeps the deadline either way."""
