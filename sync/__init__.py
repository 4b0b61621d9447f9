"""What both halves share: the wire, the outbox, transports, trust, settings and the clock."""
