"""A source of features in memory: for tests, the simulator and trying a package out."""

from collections.abc import Mapping

from models.errors import FeatureSourceOut
from models.pipeline.features import Key, Row


class FeatureTable:
    """Rows by key. `asked` holds every key it was asked for while it was there."""

    def __init__(self, rows: Mapping[Key, Mapping[str, float | None]]) -> None:
        self._rows = rows
        self._out = False
        self.asked: list[Key] = []

    def read(self, key: Key, names: tuple[str, ...], timeout_s: float) -> Row | None:
        if self._out:
            raise FeatureSourceOut("the table is out")
        self.asked.append(key)
        row = self._rows.get(key)
        return None if row is None else Row(tuple(row.get(name) for name in names))

    def goes_out(self) -> None:
        self._out = True

    def comes_back(self) -> None:
        self._out = False
