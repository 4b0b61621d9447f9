"""Serves one task's socket, which the supervisor owns and other workers may be listening on too.

1. Requests on one connection are answered one at a time, in order; connections do not wait for
   each other.
2. A bad request is told so and the connection stays; a frame over the limits ends it, because
   nothing after it can be found.
3. Retiring: no new connection is taken, every reply says `go_away`, and once nobody has asked for
   a while the rest are closed. Those who ask at that very moment ask the next worker again.
4. A caller that has gone is answered all the same: its record counts, and it may ask again.
"""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import cast

from edge_agent.errors import BadRequest, SupervisorGone
from edge_agent.local_api import frames
from edge_agent.sdk.messages import Infer, Refused, Reply
from edge_agent.sdk.wire import Frame, FrameReader, FrameTooLarge
from sync.clock import Clock

IDLE_S = 1.0
LONGEST_RETREAT_S = 10.0
AT_ONCE = 32
_LOOK_S = 0.02
_NO_DESCRIPTOR_S = 0.1

Answering = Callable[[Infer, bytearray, float], Awaitable[Reply | Refused]]
"""Request, data, and when it came; named refusals are replies, not exceptions."""

log = logging.getLogger(__name__)


class LocalApi:
    """The server of one listening socket."""

    def __init__(self, listening: socket.socket, answer: Answering, clock: Clock) -> None:
        listening.setblocking(False)
        self.answer = answer
        self.clock = clock
        self.retiring = False
        self.busy = 0
        """Requests in progress."""
        self.last_heard = 0.0
        self.connections: set[Connection] = set()
        self._listening = listening
        self._arriving: set[asyncio.Task[None]] = set()
        self._paused: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to accept connections."""
        asyncio.get_running_loop().add_reader(self._listening, self._accept)

    async def retire(self, *, idle_s: float = IDLE_S, longest_s: float = LONGEST_RETREAT_S) -> None:
        """Leave without dropping a request; returns once everything is answered and closed."""
        self.retiring = True
        begun = self.last_heard = self.clock.monotonic()
        await self._stop_accepting()
        while self.connections and (now := self.clock.monotonic()) < begun + longest_s:
            if not self.busy and now >= self.last_heard + idle_s:
                break
            await asyncio.sleep(_LOOK_S)
        await self.close()

    async def close(self) -> None:
        """Stop at once; what is unanswered stays so."""
        await self._stop_accepting()
        for connection in tuple(self.connections):
            connection.close()

    async def _stop_accepting(self) -> None:
        if self._listening.fileno() < 0:
            return
        asyncio.get_running_loop().remove_reader(self._listening)
        if self._paused is not None:
            self._paused.cancel()
        # A connection once taken is served, even when we are told to stop meanwhile.
        await asyncio.gather(*self._arriving, return_exceptions=True)
        self._listening.close()  # ours alone; the supervisor keeps the socket open

    def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            for _ in range(AT_ONCE):
                accepted, _ = self._listening.accept()
                arriving = loop.create_task(self._take(accepted))
                self._arriving.add(arriving)
                arriving.add_done_callback(self._arriving.discard)
        except BlockingIOError:
            return  # Nobody is waiting any more, or another worker was quicker.
        except OSError as error:
            # Out of descriptors: callers wait in the backlog until some are free.
            log.warning("local_api.not_accepting error=%s", error)
            loop.remove_reader(self._listening)
            self._paused = loop.call_later(_NO_DESCRIPTOR_S, self.start)

    async def _take(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: Connection(self), accepted)


class Connection(asyncio.BufferedProtocol):
    """One caller's connection."""

    def __init__(self, api: LocalApi) -> None:
        self._api = api
        self._reader = FrameReader()
        self._waiting: deque[tuple[Frame, float]] = deque()
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._broken: FrameTooLarge | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._api.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._waiting.clear()
        self._api.connections.discard(self)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._reader.buffer()

    def buffer_updated(self, count: int) -> None:
        received = self._api.last_heard = self._api.clock.monotonic()
        try:
            found = self._reader.filled(count)
        except FrameTooLarge as error:
            self._broken, found = error, error.before
        self._waiting.extend((frame, received) for frame in found)
        if self._task is None:
            if self._waiting or self._broken:
                self._task = asyncio.get_running_loop().create_task(self._answer_all())
        elif found and self._transport is not None:
            # Asked ahead of our answer: it is kept, and nothing more is read before it is its turn.
            self._transport.pause_reading()

    async def _answer_all(self) -> None:
        while self._waiting:
            frame, received = self._waiting.popleft()
            self._api.busy += 1
            try:
                reply = await self._reply(frame, received)
            except SupervisorGone:
                # Unrecorded, so unanswered: the caller asks the next worker.
                log.warning("local_api.unanswered reason=supervisor_gone")
                self.close()
                break
            finally:
                self._api.busy -= 1
            self._write(reply)
        self._task = None
        if self._broken is not None:
            self._write(Refused("", self._broken.code, str(self._broken)))
            self.close()
        elif self._transport is not None and not self._transport.is_reading():
            self._transport.resume_reading()

    async def _reply(self, frame: Frame, received: float) -> Reply | Refused:
        try:
            infer = frames.read_request(frame.meta)
        except BadRequest as error:
            return Refused(frames.id_of(frame.meta), error.code, str(error))
        try:
            return await self._api.answer(infer, frame.body, received)
        except SupervisorGone:
            raise
        except Exception:
            # A mistake of ours with one input must not end the worker for all others.
            log.exception("local_api.failed id=%s", infer.id)
            return Refused(infer.id, "internal", "the worker failed on this input; see its log")

    def _write(self, reply: Reply | Refused) -> None:
        self._api.last_heard = self._api.clock.monotonic()
        if self._api.retiring:
            reply = replace(reply, go_away=True)
        if self._transport is not None:
            self._transport.write(frames.write_reply(reply))
