"""Pictures, texts and records all the way: program, worker, cascade, gateway, over both links."""

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import msgspec
import pytest

from edge_agent.sdk import Answer, AsyncClient, Client, InvalidInput
from edge_agent.sources.answer_files import Written
from sync.wire import oip, v1
from sync.wire.elements import pack_bytes, unpack_bytes
from tests import raw_packages
from tests.local_device import LocalDevice
from tests.programs import Agent, Gateway, until
from tests.raw_packages import photo

pytestmark = pytest.mark.e2e

PACKAGES = {
    "photos": raw_packages.photos,
    "notes": raw_packages.notes,
    "orders": raw_packages.orders,
}
EASY: dict[str, object] = {
    "photos": photo((90, 5), (0, 0)),
    "notes": "nine zero zero",
    "orders": {"amount": 3},
}
HARD: dict[str, object] = {
    "photos": photo((45, 5), (95, 90)),
    "notes": "one zero zero zero nine seven",
    "orders": {"amount": 0.1, "risk": 5, "note": "größer", "seen": None, "new": True},
}
HERE = {"photos": "1 box", "notes": "sales", "orders": "fine"}
THERE = {"photos": "2 box", "notes": "support", "orders": "odd"}
DETAILED = ("photos", "notes")
"""Whose label does not say it all."""


class World(NamedTuple):
    """A gateway with every package, and an agent that serves them."""

    gateway: Gateway
    agent: Agent
    token: str
    folders: Path
    """One watched folder for each task."""


@pytest.fixture(scope="module", params=["http", "mqtt"])
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("raw")
    broker = "auto" if request.param == "mqtt" else "none"
    settings = ["cloud.pace.beat_s=1", "outbox.linger_ms=50"]
    for task in PACKAGES:
        (folder / "in" / task).mkdir(parents=True)
        settings.append(f"sources.{task}={folder / 'in' / task}")
    with Gateway(folder / "cloud", broker=broker) as gateway:
        for task, make in PACKAGES.items():
            gateway.publish_folder(make(folder / task))
            gateway.desire("1", task=task)
        invitation = gateway.invite("bench-1")
        token = invitation[invitation.index("--token") + 1]
        with Agent(folder / "a", invitation, *settings) as agent:
            until(lambda: all(agent.serves("1", task=task) for task in PACKAGES), what="served")
            assert agent.status()["link"] == request.param
            yield World(gateway, agent, token, folder / "in")


def ask(world: World, task: str, given: object, deadline_ms: float = 10_000) -> Answer:
    with world.agent.client(task) as client:
        return client.infer(given, deadline_ms=deadline_ms)


@pytest.mark.parametrize("task", PACKAGES)
def test_an_easy_input_is_answered_here(world: World, task: str) -> None:
    answer = ask(world, task, EASY[task])
    assert (answer.label, answer.source, answer.final) == (HERE[task], "edge", True)
    assert (answer.details is not None) is (task in DETAILED)


@pytest.mark.parametrize("task", PACKAGES)
def test_a_hard_input_reaches_the_cloud_whole(world: World, task: str) -> None:
    answer = ask(world, task, HARD[task])
    assert (answer.label, answer.source, answer.final) == (THERE[task], "cloud", True)
    assert (answer.details is not None) is (task in DETAILED)


def boxes(answer: Answer) -> list[object]:
    assert answer.details is not None
    assert answer.details["kind"] == "detected"
    objects = answer.details["objects"]
    assert isinstance(objects, list)
    return [one["box"] for one in objects]


def test_objects_have_their_places_whoever_saw_them(world: World) -> None:
    here, there = ask(world, "photos", EASY["photos"]), ask(world, "photos", HARD["photos"])
    assert boxes(here) == [[0, 0, 4, 4]]
    assert boxes(there) == [[0, 0, 4, 4], [4, 4, 8, 8]]
    nothing = ask(world, "photos", photo((5, 5), (0, 0)))
    assert (nothing.label, nothing.source) == ("nothing", "edge"), "and it is sure of that"
    assert boxes(nothing) == []


def test_classes_have_their_ranks_whoever_judged(world: World) -> None:
    for given, label, second in (
        (EASY["notes"], "sales", "support"),
        (HARD["notes"], "support", "spam"),
    ):
        details = ask(world, "notes", given).details
        assert details is not None
        top = details["top"]
        assert isinstance(top, list)
        assert [one["label"] for one in top] == [label, second]


@pytest.mark.parametrize("task", PACKAGES)
def test_a_late_answer_is_a_revision_and_brings_its_details(world: World, task: str) -> None:
    world.gateway.process.send_signal(signal.SIGSTOP)
    try:
        with world.agent.client(task, name=f"late-{task}") as client:
            answer = client.infer(HARD[task], deadline_ms=400)
            assert (answer.source, answer.final) == ("edge", False)
            world.gateway.process.send_signal(signal.SIGCONT)
            revision = next(client.revisions(wait_s=30))
    finally:
        world.gateway.process.send_signal(signal.SIGCONT)
    assert (revision.request_id, revision.label) == (answer.request_id, THERE[task])
    assert (revision.details is not None) is (task in DETAILED)
    if task == "photos":
        assert revision.details is not None
        objects = revision.details["objects"]
        assert isinstance(objects, list)
        assert len(objects) == 2


@pytest.mark.parametrize(
    ("task", "given", "code", "says"),
    [
        ("photos", b"no picture", "undecodable_input", "photo|picture"),
        ("photos", "a text", "wrong_dtype", "'photo' is text, the package wants bytes"),
        ("notes", {"a": 1}, "wrong_dtype", "'note' is record, the package wants text"),
        ("notes", "   ", "empty_input", "no token"),
        ("orders", b"{}", "wrong_dtype", "'order' is bytes, the package wants record"),
        ("orders", {"amount": "much"}, "field_invalid", "'amount'"),
        ("orders", {"amount": [1]}, "undecodable_input", "no record"),
    ],
)
def test_an_input_that_cannot_be_read_is_refused_by_name(
    world: World, task: str, given: object, code: str, says: str
) -> None:
    with pytest.raises(InvalidInput, match=says) as refused:
        ask(world, task, given)
    assert refused.value.code == code


FILES = {"photos": "one.png", "notes": "one.txt", "orders": "one.json"}


def content(given: object) -> bytes:
    match given:
        case bytes():
            return given
        case str():
            return given.encode()
        case _:
            return json.dumps(given).encode()


@pytest.mark.parametrize("task", PACKAGES)
def test_the_command_takes_them_as_files(world: World, task: str, tmp_path: Path) -> None:
    file = tmp_path / FILES[task]
    file.write_bytes(content(EASY[task]))
    told = world.agent.tell("infer", str(file), "--task", task, "--deadline-ms", "9000", "--json")
    assert told.returncode == 0, told.stderr
    said = json.loads(told.stdout)
    assert said["label"] == HERE[task]
    assert (said["details"] is not None) is (task in DETAILED)


@pytest.mark.parametrize("task", PACKAGES)
def test_a_watched_folder_takes_them_as_files(world: World, task: str) -> None:
    file = world.folders / task / FILES[task]
    part = file.with_suffix(".part")
    part.write_bytes(content(HARD[task]))
    part.rename(file)
    said = file.with_name(f"{file.name}.json")
    until(said.exists, what="answered")
    written = msgspec.json.decode(said.read_bytes(), type=Written)
    assert (written.ok, written.label, written.source) == (True, THERE[task], "cloud"), written
    assert bool(bytes(written.answer)) is (task in DETAILED)


def test_a_watched_file_gains_the_cloud_s_late_answer(world: World) -> None:
    world.gateway.process.send_signal(signal.SIGSTOP)
    try:
        file = world.folders / "notes" / "late.txt"
        part = file.with_suffix(".part")
        part.write_text(str(HARD["notes"]))
        part.rename(file)
        said = file.with_name(f"{file.name}.json")
        until(said.exists, what="answered provisionally")
        first = msgspec.json.decode(said.read_bytes(), type=Written)
        assert (first.source, first.final) == ("edge", False)
    finally:
        world.gateway.process.send_signal(signal.SIGCONT)

    def found() -> Written:
        return msgspec.json.decode(said.read_bytes(), type=Written)

    until(lambda: found().final, what="revised")
    assert (found().label, found().reason) == (THERE["notes"], "revised")
    assert (found().provisional, found().request_id) == (first.label, first.request_id)
    assert bytes(found().answer)


INPUTS = {"photos": "photo", "notes": "note", "orders": "order"}


@pytest.mark.parametrize("task", PACKAGES)
def test_any_program_may_ask_the_gateway_by_its_protocol(world: World, task: str) -> None:
    data = pack_bytes([content(HARD[task])] * 2)
    question = oip.OipRequest((v1.Tensor(INPUTS[task], "BYTES", (2,), data),))
    encoded = oip.encode_request(question)
    answer = httpx.post(
        f"{world.gateway.url}/v2/models/{task}/infer",
        content=encoded.body,
        headers={
            "Authorization": f"Bearer {world.token}",
            oip.HEADER_LENGTH: str(encoded.header_length),
        },
    )
    assert answer.status_code == 200, answer.text
    outputs = {one.name: one for one in oip.decode_response(answer.content, None).outputs}
    assert list(unpack_bytes(outputs["label"].data)) == [THERE[task].encode()] * 2
    facts = httpx.get(f"{world.gateway.url}/v2/models/{task}").json()
    assert facts["inputs"] == [{"name": INPUTS[task], "datatype": "BYTES", "shape": [1]}]


def test_a_text_may_be_asked_in_plain_json(world: World) -> None:
    given = {"name": "note", "datatype": "BYTES", "shape": [1], "data": [HARD["notes"]]}
    answer = httpx.post(
        f"{world.gateway.url}/v2/models/notes/infer",
        json={"inputs": [given]},
        headers={"Authorization": f"Bearer {world.token}"},
    )
    assert answer.status_code == 200, answer.text
    said = {one["name"]: one["data"] for one in answer.json()["outputs"]}
    assert said["label"] == ["support"]
    assert json.loads(said["answer"][0])["kind"] == "classified"


def test_records_of_raw_inputs_reach_the_gateway(world: World) -> None:
    until(lambda: world.agent.status()["pending"] == 0, what="records delivered")
    assert world.agent.status()["lost_unreported"] == 0


# Without processes: what the SDK sends, and what escalates.


@pytest.mark.parametrize("task", PACKAGES)
def test_both_clients_send_the_same(tmp_path: Path, task: str) -> None:
    async def asked(device: LocalDevice) -> Answer:
        async with AsyncClient(task, run=device.folder) as client:
            return await client.infer(EASY[task], deadline_ms=5000)

    package = PACKAGES[task](tmp_path / "made")
    with LocalDevice(tmp_path, task=task, package=package) as device:
        with Client(task, run=tmp_path) as client:
            blocking = client.infer(EASY[task], deadline_ms=5000)
            client.infer(HARD[task], deadline_ms=5000)
        awaited = asyncio.run(asked(device))
        assert (blocking.label, blocking.details) == (awaited.label, awaited.details)
        first, _, last = device.heard
        assert (first.dtype, first.shape) == (last.dtype, last.shape)
        ((tensor,),) = [one.inputs for one in device.cloud.asked]
    assert (tensor.datatype, tensor.shape) == ("BYTES", (1,))
    assert list(unpack_bytes(tensor.data)) == [content(HARD[task])]
