"""The worker's end of the record pipe: a record in it survives kill -9 of its writer."""

import asyncio
import logging
import os
from collections.abc import Callable

from edge_agent.cloud.handover import pack_record
from edge_agent.errors import SupervisorGone
from sync.wire import v1

TELL_S = 0.05

log = logging.getLogger(__name__)


class RecordPipe:
    """Writes records whole or not at all, and counts those that found no room."""

    def __init__(self, descriptor: int, on_missed: Callable[[int], None]) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._on_missed = on_missed
        self._missed = 0

    def put(self, record: v1.Answered | v1.Skipped) -> None:
        """Write a record, or count it as missed. Raises `SupervisorGone`."""
        packed = pack_record(record)
        if packed is None:
            log.warning("record.too_large id=%s", _name(record))
            self._miss()
            return
        try:
            # At most PIPE_BUF bytes, so it is written whole or not at all.
            os.write(self._descriptor, packed)
        except BlockingIOError:
            self._miss()
        except BrokenPipeError as error:
            raise SupervisorGone(
                f"record of {_name(record)} has nowhere to go; this worker ends"
            ) from error

    def tell(self) -> None:
        """Say now how many were missed."""
        if self._missed:
            missed, self._missed = self._missed, 0
            self._on_missed(missed)

    def _miss(self) -> None:
        self._missed += 1
        if self._missed == 1:
            asyncio.get_running_loop().call_later(TELL_S, self.tell)


def _name(record: v1.Answered | v1.Skipped) -> str:
    return record.request_id if isinstance(record, v1.Answered) else record.first_id
