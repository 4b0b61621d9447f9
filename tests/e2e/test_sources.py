"""Inputs no program sends, all the way: a film, sensors, a folder and a pipe; to the gateway."""

import json
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import httpx
import numpy as np
import pytest

from sync.wire import codec, v1
from tests import raw_packages
from tests.contracts.links import MOSQUITTO, Broker, broker
from tests.mqtt_client import Client as Sensor
from tests.programs import PYTHON, Agent, Gateway, until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed"),
]

FRAMES = 6
EASY = {"amount": 3}


class World(NamedTuple):
    """A gateway, an agent whose every task has a source, and what feeds them."""

    gateway: Gateway
    agent: Agent
    sensors: Broker
    inbox: Path


def film(path: Path) -> None:
    """Three pictures, each twice."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 64))
    for shade in (0, 0, 120, 120, 240, 240):
        writer.write(np.full((64, 64, 3), shade, np.uint8))
    writer.release()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("sources")
    inbox = folder / "inbox"
    inbox.mkdir()
    film(folder / "film.avi")
    with broker("mosquitto") as sensors, Gateway(folder / "cloud") as gateway:
        for task in ("photos", "notes", "orders"):
            gateway.publish_folder(getattr(raw_packages, task)(folder / task))
            gateway.desire("1", task=task)
        settings = (
            "cloud.pace.beat_s=1",
            "outbox.linger_ms=50",
            f'sources.photos={{kind="camera", file="{folder}/film.avi", fps=50, same_below=0.02}}',
            (
                'sources.notes={kind="mqtt", host="127.0.0.1", topic="notes/+",'
                f" port={sensors.port}}}"
            ),
            f'sources.orders={{kind="directory", path="{inbox}", look_s=3600}}',
        )
        with Agent(folder / "a", gateway.invite("bench-1"), *settings) as agent:
            for task in ("photos", "notes", "orders"):
                until(partial(agent.serves, "1", task=task), what=f"{task} served")
            yield World(gateway, agent, sensors, inbox)


def source(world: World, task: str) -> dict[str, Any]:
    """What status says of a task's source."""
    for one in world.agent.status()["tasks"]:
        if one["task"] == task and one["source"] is not None:
            found: dict[str, Any] = one["source"]
            return found
    return {"state": "", "answered": 0, "skipped": [], "error": ""}


def counted(world: World, task: str) -> dict[str, int]:
    """Skipped inputs of a task by reason, as the gateway's database has them."""
    rows = world.gateway.rows(
        "SELECT reason, sum(n) FROM device_skips WHERE task = ? GROUP BY reason", task
    )
    return dict(rows)


def answers(world: World, task: str) -> int:
    (row,) = world.gateway.rows(
        "SELECT coalesce(sum(n), 0) FROM device_answers WHERE task = ? AND route <> 'revised'", task
    )
    return int(row[0])


def records(world: World) -> list[v1.Answered]:
    """The answers to what sensors published, as the gateway has them."""
    bodies = world.gateway.rows("SELECT body FROM batch WHERE body IS NOT NULL")
    found = [record for (body,) in bodies for record in codec.unpack_records(body)]
    return [one for one in found if isinstance(one, v1.Answered) and one.client == "mqtt"]


def test_a_film_is_answered_to_its_end_and_its_still_frames_are_accounted_for(
    world: World,
) -> None:
    until(lambda: source(world, "photos")["state"] == "finished", what="the end of the film")
    told = source(world, "photos")
    skipped = {one["reason"]: one["count"] for one in told["skipped"]}
    assert told["offered"] == FRAMES
    assert (told["answered"], skipped) == (3, {"near_duplicate": 3})
    until(lambda: counted(world, "photos") == {"near_duplicate": 3}, what="the gateway knows")
    until(lambda: answers(world, "photos") == 3, what="its answers arrive")


def test_a_film_is_not_answered_again_by_another_worker(world: World) -> None:
    until(lambda: source(world, "photos")["state"] == "finished", what="the end of the film")
    until(lambda: answers(world, "photos") == 3, what="its answers arrive")
    pid = next(one["pid"] for one in world.agent.status()["tasks"] if one["task"] == "photos")
    subprocess.run(["kill", "-9", str(pid)], check=True)
    until(
        lambda: any(
            one["task"] == "photos" and one["pid"] not in (None, pid) and one["state"] == "serving"
            for one in world.agent.status()["tasks"]
        ),
        what="another worker",
    )
    until(
        lambda: (
            source(world, "photos")["state"] == "finished"
            and source(world, "photos")["offered"] == 0
        ),
        what="the film is over for it, too",
    )
    assert answers(world, "photos") == 3


def test_what_sensors_publish_is_answered(world: World) -> None:
    until(lambda: source(world, "notes")["state"] == "running", what="the source runs")
    with Sensor(f"127.0.0.1:{world.sensors.port}", None, None) as sensor:

        def answered() -> bool:
            sensor.publish("notes/a", b"nine zero zero")
            return answers(world, "notes") > 0

        until(answered, what="an answer at the gateway")
        sensor.publish("notes/a", b"")
        until(lambda: counted(world, "notes").get("unreadable") == 1, what="nonsense is counted")
    assert source(world, "notes")["error"] == ""


def test_a_swap_hands_the_topic_over_and_nothing_is_counted_twice(
    world: World, tmp_path: Path
) -> None:
    world.gateway.publish_folder(raw_packages.notes(tmp_path / "notes", version="2"))
    sent = 0
    with Sensor(f"127.0.0.1:{world.sensors.port}", None, None) as sensor:

        def served(version: str) -> bool:
            nonlocal sent
            sensor.publish("notes/b", b"nine zero zero")
            sent += 1
            return world.agent.serves(version, task="notes")

        before = answers(world, "notes")
        until(lambda: served("1"), what="the old one")
        world.gateway.desire("2", task="notes")
        until(lambda: served("2"), what="the new one")
        until(
            lambda: served("2") and any(one.version == "2" for one in records(world)),
            what="the new one reads the topic",
        )
    until(lambda: world.agent.status()["pending"] == 0, what="records delivered")
    ids = [record.request_id for record in records(world)]
    assert len(ids) == len(set(ids))
    assert before < answers(world, "notes") <= before + sent


def test_a_broker_that_is_gone_stands_in_status_and_the_source_outlives_it(world: World) -> None:
    world.sensors.kill()
    try:
        until(
            lambda: "link_down" in source(world, "notes")["error"], what="status says the trouble"
        )
        lines = world.agent.tell("status").stdout
        assert "source trouble: link_down: broker 127.0.0.1" in lines
    finally:
        world.sensors.start()
    until(lambda: source(world, "notes")["error"] == "", what="it is there again")
    assert source(world, "notes")["state"] == "running"


def test_a_folder_hears_from_the_kernel_and_hands_over_at_a_crash(world: World) -> None:
    (world.inbox / "one.part").write_text(json.dumps(EASY))
    (world.inbox / "one.part").rename(world.inbox / "one.json")
    until((world.inbox / "one.json.json").exists, what="the first answer")
    pid = next(one["pid"] for one in world.agent.status()["tasks"] if one["task"] == "orders")
    subprocess.run(["kill", "-9", str(pid)], check=True)
    (world.inbox / "two.json").write_text(json.dumps(EASY))
    until((world.inbox / "two.json.json").exists, what="another worker's answer")
    assert json.loads((world.inbox / "two.json.json").read_text())["label"] == "fine"


def fed(world: World, text: str, *options: str) -> tuple[int, list[dict[str, Any]], str]:
    done = subprocess.run(
        [*PYTHON, "edge_agent", "feed", "orders", "--data", str(world.agent.data), *options],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_lines_are_answered_in_their_order(world: World) -> None:
    lines = [json.dumps({"amount": n % 4}) for n in range(20)]
    code, told, errors = fed(world, "\n".join(lines) + "\n")
    assert (code, errors) == (0, "")
    assert [one["line"] for one in told] == list(range(1, 21))
    assert all(one["ok"] for one in told)


def test_what_cannot_be_answered_says_so_in_its_line_and_in_the_exit_code(world: World) -> None:
    text = '{"id": "a", "input": {"amount": 3}}\nnonsense\n\n{"amount": "much"}\n{"amount": 3}'
    code, told, _ = fed(world, text)
    assert code == 3
    assert [(one["line"], one["id"], one["ok"], one.get("code")) for one in told] == [
        (1, "a", True, None),
        (2, None, False, "bad_request"),
        (4, None, False, "field_invalid"),
        (5, None, True, None),
    ]
    until(
        lambda: (
            counted(world, "orders").get("unreadable") == 1
            and counted(world, "orders").get("refused") == 1
        ),
        what="both are in the records",
    )


def test_repeated_lines_are_skipped_by_the_rule_that_was_asked_for(world: World) -> None:
    code, told, _ = fed(world, '{"amount": 3}\n' * 5 + '{"amount": 2}\n', "--same-below", "0.5")
    assert code == 0
    assert [one.get("code") for one in told] == [None, *["near_duplicate"] * 4, None]
    until(lambda: counted(world, "orders").get("near_duplicate") == 4, what="they are counted")


def test_a_growing_file_is_answered_as_it_grows(world: World, tmp_path: Path) -> None:
    log = tmp_path / "orders.jsonl"
    log.write_text("")
    with (
        subprocess.Popen(["tail", "-n", "+1", "-f", str(log)], stdout=subprocess.PIPE) as tail,
        subprocess.Popen(
            [*PYTHON, "edge_agent", "feed", "orders", "--data", str(world.agent.data)],
            stdin=tail.stdout,
            stdout=subprocess.PIPE,
            text=True,
        ) as feed,
    ):
        assert feed.stdout is not None
        for number in (1, 2, 3):
            with log.open("a") as file:
                file.write('{"amount": 3}\n')
            assert json.loads(feed.stdout.readline())["line"] == number
        tail.terminate()
        feed.stdout.close()
    assert feed.returncode == 0


def test_nobody_to_ask_is_said_before_anything_is_read(tmp_path: Path) -> None:
    done = subprocess.run(
        [*PYTHON, "edge_agent", "feed", "orders", "--run-folder", str(tmp_path)],
        input='{"amount": 3}\n',
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "agent_unavailable" in done.stderr
    assert done.stdout == ""


def test_the_gateway_s_metric_counts_what_was_skipped(world: World) -> None:
    until(lambda: counted(world, "photos") == {"near_duplicate": 3}, what="the gateway knows")
    page = httpx.get(f"{world.gateway.url}/metrics").text
    line = 'longstop_skipped_inputs_total{reason="near_duplicate",source="camera"} 3.0'
    assert line in page
