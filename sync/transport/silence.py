"""When silence means that a connection is dead.

1. Silence counts from the first question since something was last heard; without questions it means
   nothing.
2. Patience doubles with every connection that died of silence, until one speaks again: where the
   gateway is slow and not gone, new connections do not help and must not become a storm.
"""

PATIENCE_S = 2.0
MOST_S = 16.0


class Silence:
    """What one side of a conversation knows of the other. Time enters as an argument."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._deaths = 0

    def asked(self, now: float) -> None:
        """A question went out."""
        if self._since is None:
            self._since = now

    def heard(self, now: float, *, still_asking: bool) -> None:
        """Something came, whatever it was."""
        self._since = now if still_asking else None
        self._deaths = 0

    def busy(self, now: float) -> None:
        """The last question has not left this machine yet: that is no silence of the other side."""
        if self._since is not None:
            self._since = now

    def reconnected(self) -> None:
        """A new connection, on which nothing has been asked."""
        self._since = None

    def died(self) -> None:
        """The connection was given up for its silence."""
        self._since = None
        self._deaths += 1

    def ends_at(self) -> float | None:
        """When the connection is to be given up; None while nothing is waited for."""
        if self._since is None:
            return None
        return self._since + min(PATIENCE_S * 2.0 ** min(self._deaths, 16), MOST_S)
