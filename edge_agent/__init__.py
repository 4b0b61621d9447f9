"""The half of Longstop on a device: it answers here, escalates hard cases, lives without a link."""

__version__ = "0.1.0"
