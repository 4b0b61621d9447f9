"""Requests whose deadline passed without an answer, counted once each, whoever tells of them.

Both the worker and the program that asked may know, and a program that asks again uses the same id.
"""

from collections import OrderedDict
from collections.abc import Iterable

REMEMBERED = 4096


class Unanswered:
    """Those of one task, since the agent started."""

    def __init__(self) -> None:
        self.count = 0
        self._known: OrderedDict[str, None] = OrderedDict()

    def saw(self, request_ids: Iterable[str]) -> None:
        """These had no answer."""
        for request_id in request_ids:
            if request_id in self._known:
                continue
            self.count += 1
            self._known[request_id] = None
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
