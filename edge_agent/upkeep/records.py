"""The supervisor's end of a worker's record pipe.

1. A worker writes a record for every answer, and a write that wakes a sleeping reader costs the
   answer more than its model may take. So a pipe that has just held something is looked at again
   after `LOOK_S`; only one found empty is listened to.
2. What is in the pipe survives its writer. `look` reads it at once, to be called when the writer is
   known to be gone.
"""

import asyncio
import os
from collections.abc import Callable

LOOK_S = 0.02
READ_BYTES = 256 << 10


class PipeReader:
    """Reads until the pipe's end, then closes it."""

    def __init__(
        self, pipe: int, on_data: Callable[[bytes], None], on_end: Callable[[], None]
    ) -> None:
        os.set_blocking(pipe, False)
        self._loop = asyncio.get_running_loop()
        self._pipe = pipe
        self._on_data = on_data
        self._on_end = on_end
        self._ended = False
        self._later: asyncio.TimerHandle | None = None
        self._loop.add_reader(pipe, self.look)

    def look(self) -> None:
        """Read what is there now, and look or listen again."""
        if self._ended:
            return
        found = False
        while True:
            try:
                data = os.read(self._pipe, READ_BYTES)
            except BlockingIOError:
                break
            if not data:
                self._end()
                return
            self._on_data(data)
            found = True
            if len(data) < READ_BYTES:
                break
        self._wait(listen=not found)

    def _wait(self, *, listen: bool) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if listen:
            self._loop.add_reader(self._pipe, self.look)
        else:
            self._loop.remove_reader(self._pipe)
            self._later = self._loop.call_later(LOOK_S, self.look)

    def _end(self) -> None:
        self._ended = True
        if self._later is not None:
            self._later.cancel()
        self._loop.remove_reader(self._pipe)
        os.close(self._pipe)
        self._on_end()
