"""A file exported for so many rows at a time takes any number: a batch is divided, then put back.

1. A batch of exactly that size goes through untouched.
2. A larger one is run in parts; the last part is filled up with its own last row, and what comes
   back for the filling is dropped.
3. An output that has no row for each row given cannot be put back: `RuntimeFailed`.
"""

from collections.abc import Sequence

import numpy as np

from models.errors import RuntimeFailed
from models.runtimes.base import Array, Port, Runtime


class Divided:
    """A runtime of fixed batch size behind the port."""

    def __init__(self, whole: Runtime, rows: int) -> None:
        self._whole, self._rows = whole, rows
        self.name, self.version = whole.name, whole.version
        self.provider, self.skipped = whole.provider, whole.skipped
        self.precision = whole.precision
        self.inputs = tuple(_free(port) for port in whole.inputs)
        self.outputs = tuple(_free(port) for port in whole.outputs)

    def run(self, feeds: Sequence[Array]) -> tuple[Array, ...]:
        count, rows = len(feeds[0]) if feeds else 0, self._rows
        if count == rows or count == 0 or any(len(feed) != count for feed in feeds):
            return self._whole.run(feeds)
        parts = [
            self._whole.run([_filled(feed[at : at + rows], rows) for feed in feeds])
            for at in range(0, count, rows)
        ]
        outputs = zip(self.outputs, *parts, strict=True)
        return tuple(self._joined(port, count, pieces) for port, *pieces in outputs)

    def _joined(self, port: Port, count: int, parts: Sequence[Array]) -> Array:
        if any(part.ndim == 0 or len(part) != self._rows for part in parts):
            raise RuntimeFailed(
                f"output {port.name!r} is {list(parts[0].shape)} for {self._rows} rows, so {count} "
                "rows cannot be told apart; export it with a batch axis of any length"
            )
        joined: Array = np.concatenate(parts)[:count]
        return joined


def any_rows(runtime: Runtime) -> Runtime:
    """The same runtime, behind `Divided` if its file fixes the number of rows.

    Raises `RuntimeFailed` when its inputs fix different numbers.
    """
    fixed = {port.shape[0] for port in runtime.inputs if port.shape} - {None}
    if len(fixed) > 1:
        raise RuntimeFailed(
            "the inputs' first axes are fixed to different lengths "
            f"({', '.join(f'{port.name} {list(port.shape)}' for port in runtime.inputs)}); "
            "export them with a batch axis of any length"
        )
    rows = next(iter(fixed), None)
    return runtime if rows is None else Divided(runtime, rows)


def _free(port: Port) -> Port:
    return port._replace(shape=(None, *port.shape[1:])) if port.shape else port


def _filled(part: Array, rows: int) -> Array:
    missing = rows - len(part)
    return part if missing == 0 else np.concatenate([part, np.repeat(part[-1:], missing, axis=0)])
