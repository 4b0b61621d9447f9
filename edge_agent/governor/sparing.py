"""What a worker does while the device spares itself: slower sources, at last nothing.

Inputs of sources are thinned out, one in four answered and the others left for later or skipped by
the source's own rules; what programs ask is answered until the very last level.
"""


class Sparing:
    """As last told by the supervisor; a worker begins without any."""

    def __init__(self) -> None:
        self.refusing = ""
        """Why new inputs are refused; empty where they are not."""
        self._sources = 1.0
        self._credit = 0.0

    def told(self, *, sources: float, refusing: str) -> None:
        """The last word counts."""
        self._sources, self.refusing = sources, refusing

    def takes_from_source(self) -> bool:
        """Whether the next input of a source is answered now."""
        self._credit += self._sources
        if self._credit < 1.0:
            return False
        self._credit -= 1.0
        return True
