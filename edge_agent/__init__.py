"""The half of Longstop that runs on a device: answer here, escalate the hard cases, survive without a link."""

__version__ = "0.1.0"
