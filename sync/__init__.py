"""What device and cloud share and neither owns: the wire, the outbox, transports, trust, settings, clock."""
