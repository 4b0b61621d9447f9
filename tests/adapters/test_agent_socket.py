"""`agent.sock` over a real socket: what it answers, and what it makes of nonsense."""

import asyncio
import json
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from edge_agent.control import messages
from edge_agent.control.run import AgentSocket
from edge_agent.errors import AgentAlreadyRunning, SocketTaken
from edge_agent.sdk import AsyncClient
from edge_agent.sdk.call import now
from edge_agent.sdk.channel import Channel
from edge_agent.sdk.errors import BadArgument, SocketPathTooLong
from edge_agent.sdk.wire import HEADER, MAX_META, head
from edge_agent.upkeep.sockets import RunFolder
from sync.wire import v1


class Device:
    """What is asked about."""

    def __init__(self) -> None:
        self.waiting: list[v1.Revised] = []
        self.skipped: list[messages.Skipped] = []
        self.told: dict[str, tuple[str, str, str]] = {}

    def tasks(self) -> tuple[str, ...]:
        return ("apparel",)

    async def status(self) -> messages.StatusReport:
        return messages.StatusReport(
            device="bench-1",
            agent_version="0",
            gateway="http://there",
            link="http",
            connected=True,
            last_contact=None,
            turned_away=None,
            started=0,
            now=1,
            incarnation="ab",
            boot=1,
            issued=3,
            pending=2,
            lost_unreported=0,
            escalations_waiting=1,
            revisions_waiting=len(self.waiting),
            tasks=(),
        )

    async def revisions(self, client: str, limit: int) -> tuple[v1.Revised, ...]:
        return tuple(one for one in self.waiting if one.client == client)[:limit]

    async def take(self, client: str, request_ids: tuple[str, ...]) -> None:
        self.waiting = [
            one for one in self.waiting if one.client != client or one.request_id not in request_ids
        ]

    async def record_skipped(self, skipped: messages.Skipped) -> None:
        self.skipped.append(skipped)

    async def feedback(self, client: str, task: str, request_id: str, label: str) -> bool:
        first = request_id not in self.told
        self.told.setdefault(request_id, (client, task, label))
        return first


def revised(request_id: str, client: str = "app") -> v1.Revised:
    return v1.Revised(request_id, client, "apparel", "coat", 0.9, "1.0.0", 5.0)


Story = Callable[[Device, AgentSocket, Path], Awaitable[None]]


def play(folder: Path, story: Story) -> None:
    async def run() -> None:
        device, sockets = Device(), RunFolder(folder)
        agent = AgentSocket(device, debug=False)
        await agent.start(sockets.agent())
        try:
            await story(device, agent, folder)
        finally:
            await agent.close()
            sockets.close()

    asyncio.run(run())
    assert list(folder.iterdir()) == []


async def ask(folder: Path, *frames: bytes) -> list[dict[str, object]]:
    """Send these bytes and read what is answered until the agent hangs up."""
    reader, writer = await asyncio.open_unix_connection(str(folder / "agent.sock"))
    writer.write(b"".join(frames))
    writer.write_eof()
    said = await reader.read()
    writer.close()
    told = []
    while said:
        size, _ = HEADER.unpack_from(said)
        told.append(json.loads(said[HEADER.size : HEADER.size + size]))
        said = said[HEADER.size + size :]
    return told


def framed(meta: bytes) -> bytes:
    return HEADER.pack(len(meta), 0) + meta


def test_the_sdk_reads_tasks_and_status(tmp_path: Path) -> None:
    async def story(device: Device, agent: AgentSocket, folder: Path) -> None:
        client = AsyncClient("apparel", run=folder)
        assert await client.tasks() == ("apparel",)
        status = await client.status()
        assert (status.device, status.issued, status.pending) == ("bench-1", 3, 2)
        await client.close()

    play(tmp_path, story)


def test_a_client_that_waits_gets_its_revision_when_it_comes_and_only_its_own(
    tmp_path: Path,
) -> None:
    async def story(device: Device, agent: AgentSocket, folder: Path) -> None:
        client = AsyncClient("apparel", name="app", run=folder)

        async def first() -> str:
            async for revision in client.revisions(wait_s=10):
                return revision.request_id
            return "none came"

        waiting = asyncio.create_task(first())
        await asyncio.sleep(0.05)
        device.waiting.append(revised("other", client="another"))
        agent.revised("another")
        await asyncio.sleep(0.05)
        assert not waiting.done()
        device.waiting.append(revised("r1"))
        agent.revised("app")
        assert await asyncio.wait_for(waiting, 5) == "r1"
        await client.close()

    play(tmp_path, story)


def test_what_a_client_has_taken_is_gone(tmp_path: Path) -> None:
    async def story(device: Device, agent: AgentSocket, folder: Path) -> None:
        device.waiting += [revised(f"r{number}") for number in range(5)]
        client = AsyncClient("apparel", name="app", run=folder)
        found = [revision.request_id async for revision in client.revisions()]
        assert found == ["r0", "r1", "r2", "r3", "r4"]
        assert device.waiting == []
        await client.close()

    play(tmp_path, story)


@pytest.mark.parametrize(
    "nonsense",
    [
        b"",
        b"{}",
        b"\xff\xfe",
        b'{"op":"reboot"}',
        b'{"op":"revisions"}',
        b'{"op":"revisions","client":""}',
        b'{"op":"revisions","client":"a","limit":100000}',
        b'{"op":"revisions","client":"a","wait_ms":-1}',
        b'{"op":"modules"}',
    ],
)
def test_nonsense_is_told_so_and_the_connection_goes_on(tmp_path: Path, nonsense: bytes) -> None:
    async def story(device: Device, agent: AgentSocket, folder: Path) -> None:
        refused, tasks = await ask(folder, framed(nonsense), framed(b'{"op":"tasks"}'))
        assert (refused["ok"], refused["code"]) == (False, "bad_request")
        assert tasks == {"tasks": ["apparel"], "ok": True}

    play(tmp_path, story)


def test_a_frame_over_the_limit_ends_the_connection_by_name(tmp_path: Path) -> None:
    async def story(device: Device, agent: AgentSocket, folder: Path) -> None:
        for header in (HEADER.pack(MAX_META + 1, 0), HEADER.pack(2, 1)):
            (refused,) = await ask(folder, header, b"{}", framed(b'{"op":"tasks"}'))
            assert refused["code"] == "frame_too_large"
        assert await ask(folder, b"\x01\x00") == []
        assert len(await ask(folder, framed(b'{"op":"tasks"}'))) == 1

    play(tmp_path, story)


def test_a_socket_left_by_a_dead_agent_is_replaced(tmp_path: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "apparel.sock"))
    left.close()
    sockets = RunFolder(tmp_path)
    first = sockets.task("apparel")
    assert sockets.task("apparel") is first
    with socket.socket(socket.AF_UNIX) as knocking:
        knocking.connect(str(tmp_path / "apparel.sock"))
    sockets.close()
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    sockets = RunFolder(tmp_path)
    (tmp_path / "notes.sock").write_text("mine")
    with pytest.raises(SocketTaken, match=r"notes\.sock is not a socket"):
        sockets.task("notes")
    mine = RunFolder(tmp_path).agent()
    with pytest.raises(AgentAlreadyRunning, match="another agent answers"):
        sockets.agent()
    mine.close()
    deep = RunFolder(tmp_path / ("x" * 120))
    with pytest.raises(SocketPathTooLong, match="choose a shorter run folder"):
        deep.agent()
    assert not (tmp_path / ("x" * 120)).exists()
    mode = os.stat(tmp_path / "notes.sock").st_mode
    assert stat.S_ISREG(mode)


def test_a_program_of_the_device_s_own_says_what_it_skipped(tmp_path: Path) -> None:
    async def story(device: Device, _: AgentSocket, folder: Path) -> None:
        channel = await Channel.open(str(folder / "agent.sock"))
        said = {
            "op": "skipped",
            "task": "apparel",
            "source": "stdin",
            "reason": "near_duplicate",
            "count": 2,
            "first_id": "1",
            "last_id": "2",
        }
        for count, ok in ((2, True), (0, False)):
            frame = head(json.dumps(said | {"count": count}).encode())
            reply = await channel.exchange((frame,), now() + 10)
            assert json.loads(reply.meta)["ok"] is ok
        channel.close()
        assert device.skipped == [
            messages.Skipped("apparel", "stdin", "near_duplicate", 2, "1", "2")
        ]

    play(tmp_path, story)


def test_feedback_says_whether_it_was_the_first_word(tmp_path: Path) -> None:
    async def story(device: Device, agent: AgentSocket, folder: Path) -> None:
        client = AsyncClient("apparel", name="app", run=folder)
        assert await client.feedback("r-1", "coat")
        assert not await client.feedback("r-1", "shirt")
        assert device.told == {"r-1": ("app", "apparel", "coat")}
        for request_id, label in (("", "coat"), ("r" * 129, "coat"), ("r-2", ""), ("r-2", 5)):
            with pytest.raises(BadArgument, match="must be text"):
                await client.feedback(request_id, label)  # type: ignore[arg-type]
        await client.close()

    play(tmp_path, story)
