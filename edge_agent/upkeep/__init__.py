"""Keeps the worker processes of a device up: started, listened to, replaced, retired."""
