"""How long live questions lately took to be answered, as the link is now.

1. Only the present state counts: what was measured over another way, or before the link was down,
   says nothing about now.
2. A question without an answer counts as if it had taken at least as long as a link may be silent.
   Left out, it would make a sick link look quick.
"""

from collections import deque

MOST = 64


class RoundTrips:
    """The last round trips over one way, in seconds, oldest first."""

    def __init__(self) -> None:
        self._way = ""
        self._recent: deque[float] = deque(maxlen=MOST)

    def recent(self) -> tuple[float, ...]:
        """At most `MOST` of them."""
        return tuple(self._recent)

    def took(self, way: str, seconds: float) -> None:
        """A live question came to its end over this way."""
        if way != self._way:
            self._way = way
            self._recent.clear()
        self._recent.append(seconds)

    def went_down(self) -> None:
        """The link as it was is no more."""
        self._recent.clear()
