"""The way from a device to its cloud: asked for in the worker, travelled by the supervisor."""
