"""Serves one task's socket, which the supervisor owns and other workers may be listening on too.

1. At most `MOST_CONNECTIONS` callers at a time: beyond, the one that has been silent longest makes
   room if it has been so for `SILENT_S`; else the newcomer is told `overloaded` and closed.
2. Retiring: no new connection is taken, every reply says `go_away`, and once nobody has asked for
   a while the rest are closed. Those who ask at that very moment ask the next worker again.
"""

import asyncio
import logging
import socket

from edge_agent.local_api import frames
from edge_agent.local_api.connection import Answering, Connection, Given, Serving
from edge_agent.local_api.memory import Room
from edge_agent.sdk.messages import Refused
from sync.clock import Clock

__all__ = ["Answering", "Given", "LocalApi"]

IDLE_S = 1.0
LONGEST_RETREAT_S = 10.0
AT_ONCE = 32
MOST_CONNECTIONS = 256
"""Each may hold two descriptors, and a process has 1,024 unless told otherwise."""
SILENT_S = 5.0
_LOOK_S = 0.02
_NO_DESCRIPTOR_S = 0.1

log = logging.getLogger(__name__)


class LocalApi(Serving):
    """The server of one listening socket."""

    def __init__(
        self,
        listening: socket.socket,
        answer: Answering,
        clock: Clock,
        *,
        most: int = MOST_CONNECTIONS,
        silent_s: float = SILENT_S,
    ) -> None:
        listening.setblocking(False)
        self.answer = answer
        self.clock = clock
        self.room = Room()
        self.retiring = False
        self.busy = 0
        """Requests in progress."""
        self.last_heard = 0.0
        self.connections: set[Connection] = set()
        self._listening = listening
        self._most = most
        self._silent_s = silent_s
        self._paused: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to accept connections."""
        asyncio.get_running_loop().add_reader(self._listening, self._accept)

    async def retire(self, *, idle_s: float = IDLE_S, longest_s: float = LONGEST_RETREAT_S) -> None:
        """Leave without dropping a request; returns once everything is answered and closed."""
        self.retiring = True
        begun = self.last_heard = self.clock.monotonic()
        self._stop_accepting()
        while self.connections and (now := self.clock.monotonic()) < begun + longest_s:
            if not self.busy and now >= self.last_heard + idle_s:
                break
            await asyncio.sleep(_LOOK_S)
        await self.close()

    async def close(self) -> None:
        """Stop at once; what is unanswered stays so."""
        self._stop_accepting()
        for connection in tuple(self.connections):
            connection.close()

    def _stop_accepting(self) -> None:
        if self._listening.fileno() < 0:
            return
        asyncio.get_running_loop().remove_reader(self._listening)
        if self._paused is not None:
            self._paused.cancel()
        self._listening.close()  # ours alone; the supervisor keeps the socket open

    def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            for _ in range(AT_ONCE):
                accepted, _ = self._listening.accept()
                accepted.setblocking(False)
                self._take(accepted)
        except BlockingIOError:
            return  # Nobody is waiting any more, or another worker was quicker.
        except OSError as error:
            # Out of descriptors: callers wait in the backlog until some are free.
            log.warning("local_api.not_accepting error=%s", error)
            loop.remove_reader(self._listening)
            self._paused = loop.call_later(_NO_DESCRIPTOR_S, self.start)

    def _take(self, accepted: socket.socket) -> None:
        if len(self.connections) >= self._most:
            silent = min(self.connections, key=lambda one: one.heard_at)
            if silent.in_progress or silent.heard_at + self._silent_s > self.clock.monotonic():
                with accepted:
                    accepted.send(frames.write_reply(self._full()))
                return
            silent.close()
        Connection(self, accepted)

    def _full(self) -> Refused:
        return Refused(
            "",
            "overloaded",
            f"{len(self.connections)} programs are connected to this task and all have asked in"
            f" the last {self._silent_s:g} s; use one Client for many requests",
        )
