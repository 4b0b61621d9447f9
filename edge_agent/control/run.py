"""Serves `agent.sock`. Questions on one connection are answered one at a time, in order."""

import asyncio
import logging
import socket
import sys
from typing import Protocol

from edge_agent.control import messages
from edge_agent.control.messages import Said, SaidNo
from edge_agent.errors import BadRequest
from edge_agent.sdk import wire
from sync.errors import SyncError
from sync.wire import v1

log = logging.getLogger(__name__)

MAX_QUESTION = wire.MAX_META


class Device(Protocol):
    """What is asked about."""

    def tasks(self) -> tuple[str, ...]: ...

    async def status(self) -> messages.StatusReport: ...

    async def revisions(self, client: str, limit: int) -> tuple[v1.Revised, ...]: ...

    async def record_skipped(self, skipped: messages.Skipped) -> None: ...

    async def take(self, client: str, request_ids: tuple[str, ...]) -> None: ...

    async def feedback(self, client: str, task: str, request_id: str, label: str) -> bool: ...


class AgentSocket:
    """The server. `revised` wakes the clients that wait for a revision."""

    def __init__(self, device: Device, *, debug: bool) -> None:
        self._device = device
        self._debug = debug
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, listening: socket.socket) -> None:
        """Serve this socket from now on."""
        self._server = await asyncio.start_unix_server(
            self._serve, sock=listening, limit=MAX_QUESTION
        )

    async def close(self) -> None:
        """End the server and everybody who waits on it."""
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def revised(self, client: str) -> None:
        """A revision waits for this client."""
        for waiting in self._waiting.get(client, ()):
            waiting.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (task := asyncio.current_task()) is not None:
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
        try:
            while True:
                meta = await _question(reader)
                writer.write(_frame(await self._answer(meta)))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the client has gone
        except wire.FrameTooLarge as error:
            # Nothing after it can be found, so this is the last word.
            writer.write(_frame(SaidNo(error.code, str(error))))
        except asyncio.CancelledError:
            return  # the agent ends
        finally:
            writer.close()

    async def _answer(self, meta: bytes) -> Said:
        try:
            match messages.read_question(meta):
                case messages.Tasks():
                    return messages.SaidTasks(self._device.tasks())
                case messages.Status():
                    return messages.SaidStatus(await self._device.status())
                case messages.Revisions() as asked:
                    return messages.SaidRevisions(await self._revisions(asked))
                case messages.Skipped() as skipped:
                    await self._device.record_skipped(skipped)
                    return messages.SaidDone()
                case messages.Feedback(client, task, request_id, label):
                    return messages.SaidFeedback(
                        await self._device.feedback(client, task, request_id, label)
                    )
                case messages.Modules():
                    if self._debug:
                        return messages.SaidModules(tuple(sorted(sys.modules)))
                    return SaidNo(
                        "bad_request", "start the agent with LONGSTOP_DEBUG=1 to ask this"
                    )
        except (BadRequest, SyncError) as error:
            return SaidNo(error.code, str(error))

    async def _revisions(self, asked: messages.Revisions) -> tuple[messages.Revision, ...]:
        if asked.taken:
            await self._device.take(asked.client, asked.taken)
        # Listening begins before looking: what comes in between is not missed.
        coming = asyncio.Event()
        self._waiting.setdefault(asked.client, set()).add(coming)
        try:
            found = await self._device.revisions(asked.client, asked.limit)
            if not found and asked.wait_ms and await _within(coming, asked.wait_ms / 1000):
                found = await self._device.revisions(asked.client, asked.limit)
        finally:
            listeners = self._waiting[asked.client]
            listeners.discard(coming)
            if not listeners:
                del self._waiting[asked.client]
        return tuple(
            messages.Revision(
                one.request_id,
                one.task,
                one.label,
                one.confidence,
                one.version,
                one.at,
                one.answer,
            )
            for one in found
        )


async def _question(reader: asyncio.StreamReader) -> bytes:
    meta_size, body_size = wire.HEADER.unpack(await reader.readexactly(wire.HEADER.size))
    if meta_size > MAX_QUESTION or body_size:
        raise wire.FrameTooLarge(
            f"a question has at most {MAX_QUESTION} bytes of JSON and no data, not {meta_size} and"
            f" {body_size}; inputs go to their task's own socket"
        )
    return await reader.readexactly(meta_size)


def _frame(said: Said) -> bytes:
    meta = messages.write_said(said)
    return wire.HEADER.pack(len(meta), 0) + meta


async def _within(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True
