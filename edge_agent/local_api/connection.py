"""One caller's connection to a worker.

1. Requests on one connection are answered one at a time, in order; connections do not wait for
   each other, and one that asks a thousand times at once gets `IN_A_ROW` answers at a turn.
2. A bad request is told so and the connection stays; a frame over the limits ends it, because
   nothing after it can be found.
3. A caller that has gone is answered all the same: its record counts, and it may ask again.
4. Nothing is read from a caller that does not read: replies it left lying come first.

The socket is met without asyncio's transport, which would take as long as the answer itself and
cannot hand over memory.
"""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

from edge_agent.errors import BadRequest, SupervisorGone
from edge_agent.local_api import frames
from edge_agent.local_api.memory import Room, SharedMemory
from edge_agent.sdk.messages import Infer, MemoryAsked, Refused, Reply
from edge_agent.sdk.wire import Frame, FrameReader, FrameTooLarge
from sync.clock import Clock

IN_A_ROW = 8

Body = bytes | bytearray | memoryview
Given = Reply | Refused | Awaitable[Reply | Refused]
Answering = Callable[[Infer, Body, float], Given]
"""Request, data, and when it came; named refusals are replies, not exceptions."""

_DONE = (Reply, Refused)  # a union would be made anew at each question

log = logging.getLogger(__name__)


class Serving(Protocol):
    """What a connection belongs to."""

    answer: Answering
    clock: Clock
    room: Room
    retiring: bool
    busy: int
    last_heard: float
    connections: "set[Connection]"


class Connection:
    """From its acceptance until one side has closed it."""

    def __init__(self, api: Serving, accepted: socket.socket) -> None:
        self.heard_at = api.clock.monotonic()
        self._api = api
        self._socket = accepted
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader()
        self._waiting: deque[tuple[Frame, float]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._broken: FrameTooLarge | None = None
        self._unsent = b""
        self._reading = True
        self._open = True
        self._memory: SharedMemory | None = None
        api.connections.add(self)
        self._loop.add_reader(accepted, self._readable)

    @property
    def in_progress(self) -> bool:
        return self._task is not None or bool(self._waiting)

    def close(self) -> None:
        """Hang up; what is in progress still ends."""
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        self._waiting.clear()
        self._api.connections.discard(self)
        if self._memory is not None:
            self._memory.close()

    def _readable(self) -> None:
        reader = self._reader
        while True:
            try:
                count = self._socket.recv_into(reader.buffer())
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                count = 0
            if count == 0:
                self.close()
                return
            try:
                found = reader.filled(count)
            except FrameTooLarge as error:
                self._broken, found = error, error.before
            if found or self._broken or not reader.in_body:
                break
        received = self.heard_at = self._api.last_heard = self._api.clock.monotonic()
        if not found and self._broken is None:
            return
        self._waiting.extend([(frame, received) for frame in found])
        if self._task is None and not self._unsent:
            self._go_on()
        else:
            # Asked ahead of our answer: it is kept, and nothing more is read before it is its turn.
            self._listen(on=False)

    def _go_on(self) -> None:
        """Answer what has come, as far as nothing has to be waited for."""
        for _ in range(IN_A_ROW):
            if not self._waiting or self._task is not None or self._unsent:
                break
            frame, received = self._waiting.popleft()
            try:
                given = self._given(frame, received)
            except SupervisorGone:
                self._forsaken()
                return
            if isinstance(given, _DONE):
                self._write(given)
                self._reader.take_back(frame.body)
            elif given is not None:
                self._task = self._loop.create_task(self._later(given, frame))
        if not self._open or self._task is not None or self._unsent:
            return
        if self._waiting:
            self._listen(on=False)
            self._loop.call_soon(self._go_on)
        elif self._broken is not None:
            self._write(Refused("", self._broken.code, str(self._broken)))
            self.close()
        else:
            self._listen(on=True)

    async def _later(self, given: Awaitable[Reply | Refused], frame: Frame) -> None:
        self._api.busy += 1
        try:
            reply = await given
        except SupervisorGone:
            self._forsaken()
            return
        except Exception:
            request_id = frames.id_of(frame.meta)
            log.exception("local_api.failed id=%s", request_id)
            reply = _ours(request_id)
        finally:
            self._api.busy -= 1
            self._task = None
        self._write(reply)
        self._go_on()

    def _given(self, frame: Frame, received: float) -> Given | None:
        """The reply, or what gives it; None where all has been said."""
        try:
            asked = frames.read_request(frame.meta)
        except BadRequest as error:
            if (wanted := frames.read_memory(frame.meta)) is not None:
                return self._lend(wanted)
            return Refused(frames.id_of(frame.meta), error.code, str(error))
        body: Body = frame.body
        if asked.size:
            if self._memory is None or not self._memory.holds(asked.at, asked.size):
                return Refused(asked.id, BadRequest.code, "the input lies outside the lent memory")
            body = self._memory.view(asked.at, asked.size)
        try:
            return self._api.answer(asked, body, received)
        except SupervisorGone:
            raise
        except Exception:
            log.exception("local_api.failed id=%s", asked.id)
            return _ours(asked.id)

    def _forsaken(self) -> None:
        # Unrecorded, so unanswered: the caller asks the next worker.
        log.warning("local_api.unanswered reason=supervisor_gone")
        self.close()

    def _lend(self, asked: MemoryAsked) -> Refused | None:
        """Hand memory over and say so; None once that is said."""
        if self._memory is not None:
            self._memory.close()
        self._memory = self._api.room.lend(asked.size)
        if self._memory is not None and self._memory.hand_over(self._socket):
            return None
        return Refused("", "overloaded", "no memory can be lent; send the input itself")

    def _write(self, reply: Reply | Refused) -> None:
        api = self._api
        api.last_heard = api.clock.monotonic()
        if api.retiring:
            reply.go_away = True
        if self._open:
            self._send(frames.write_reply(reply))

    def _send(self, data: bytes) -> None:
        try:
            sent = self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self.close()
            return
        self._unsent = data[sent:]
        if self._unsent:
            self._listen(on=False)
            self._loop.add_writer(self._socket, self._writable)

    def _writable(self) -> None:
        self._loop.remove_writer(self._socket)
        self._send(self._unsent)
        if self._open and not self._unsent:
            self._go_on()

    def _listen(self, *, on: bool) -> None:
        if on != self._reading and self._open:
            self._reading = on
            if on:
                self._loop.add_reader(self._socket, self._readable)
            else:
                self._loop.remove_reader(self._socket)


def _ours(request_id: str) -> Refused:
    """A mistake of ours with one input must not end the worker for all others."""
    return Refused(request_id, "internal", "the worker failed on this input; see its log")
