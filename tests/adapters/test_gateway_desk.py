"""What devices say to the desk over HTTP, and what a gateway in trouble answers."""

import asyncio
import sqlite3
from pathlib import Path

import pytest
from msgspec import msgpack, structs
from sqlalchemy import Connection

from sync.wire import codec, v1
from tests.asgi_gateway import PLAIN, AsgiGateway, asgi_gateway
from tests.records import answered

BEAT = v1.Beat(
    device="d1",
    incarnation="i1",
    boot=3,
    at=10.0,
    link="http",
    tasks=(v1.TaskState("sides", "1", "abc", "serving"),),
    refusals=(v1.Refusal("sides", "2", "hash_mismatch", "not what was signed", 9.0),),
    issued=7,
    pending=2,
    escalations_waiting=1,
    agent_version="0.1.0",
)


def batch(lo: int = 1, hi: int = 1, *, device: str = "d1") -> v1.Batch:
    body = codec.pack_records([answered()] * (hi - lo + 1))
    return v1.Batch(device, "i1", 1, lo, hi, 10.0, body)


def rows(data: Path, statement: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(data / "gateway.db") as connection:
        found = connection.execute(statement).fetchall()
    connection.close()
    return found


async def sql(made: AsgiGateway, statement: str) -> None:
    def run(connection: Connection) -> None:
        connection.exec_driver_sql(statement)

    await made.gateway.database.write(run)


def test_a_heartbeat_is_kept_as_the_device_said_it(tmp_path: Path) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path) as made:
            device = await made.add("d1")
            reply = await device.up(BEAT)
            assert isinstance(reply, v1.BeatReply)
            assert reply.at > 1_700_000_000

    asyncio.run(check())
    state = "SELECT incarnation, boot, link, issued, pending, escalations_waiting FROM device_state"
    assert rows(tmp_path, state) == [("i1", 3, "http", 7, 2, 1)]
    tasks = "SELECT device, task, version, digest, state FROM task_state"
    assert rows(tmp_path, tasks) == [("d1", "sides", "1", "abc", "serving")]
    refusals = "SELECT version, code, reason, at FROM refusal"
    assert rows(tmp_path, refusals) == [("2", "hash_mismatch", "not what was signed", 9.0)]


def test_what_a_device_says_no_longer_is_gone(tmp_path: Path) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path) as made:
            device = await made.add("d1")
            await device.up(BEAT)
            await made.gateway.beats.flush()
            moved = structs.replace(BEAT.tasks[0], version="2")
            await device.up(structs.replace(BEAT, tasks=(moved,), refusals=(), issued=8))
            await made.gateway.beats.flush()
            await device.up(structs.replace(BEAT, tasks=(moved,), refusals=(), issued=9))

    asyncio.run(check())
    assert rows(tmp_path, "SELECT task, version FROM task_state") == [("sides", "2")]
    assert rows(tmp_path, "SELECT * FROM refusal") == []
    assert rows(tmp_path, "SELECT issued FROM device_state") == [(9,)]


def test_one_devices_nonsense_keeps_no_other_heartbeat_from_the_database(tmp_path: Path) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path) as made:
            odd, sane = await made.add("odd"), await made.add("d1")
            twice = (BEAT.tasks[0], structs.replace(BEAT.tasks[0], version="9"))
            refused = (structs.replace(BEAT.refusals[0], at=float("nan")),)
            await odd.up(
                structs.replace(
                    BEAT,
                    device="odd",
                    at=float("nan"),
                    issued=1 << 63,
                    pending=-1,
                    tasks=twice,
                    refusals=refused * 2,
                )
            )
            await sane.up(BEAT)

    asyncio.run(check())
    state = "SELECT device, issued FROM device_state ORDER BY device"
    assert rows(tmp_path, state) == [("d1", 7), ("odd", (1 << 63) - 1)]


def test_a_message_in_anothers_name_is_refused_but_not_for_good(tmp_path: Path) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path) as made:
            device = await made.add("d1")
            await made.add("d2")
            for message in (
                structs.replace(BEAT, device="d2"),
                batch(device="d2"),
                v1.LossReport("d2", "i1", (v1.Lost(1, 2, "budget"),), 1.0),
                v1.Escalation("d2", "r", "sides", "1", 0, ()),
            ):
                reply = await device.up(message)
                assert isinstance(reply, v1.Refused)
                assert (reply.code, reply.permanent) == ("wrong_device", False)

    asyncio.run(check())
    for statement in ("SELECT * FROM device_state", "SELECT * FROM batch", "SELECT * FROM loss"):
        assert rows(tmp_path, statement) == []


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"", "unknown_tag"),
        (b"\x02" + codec.encode(BEAT)[1:], "unknown_tag"),
        (b"\x01" + msgpack.encode(["song", "la"]), "unknown_tag"),
        (b"\x01" + msgpack.encode(["beat", "d1"]), "malformed_message"),
        (b"\x01" + msgpack.encode({"beat": "d1"}), "malformed_message"),
        (b"\x01" + msgpack.encode(7), "malformed_message"),
        (codec.encode(batch())[:-4], "malformed_message"),
        (codec.encode(v1.Notice("desired")), "unknown_tag"),
    ],
    ids=["empty", "version", "tag", "fields", "map", "number", "cut off", "down"],
)
def test_what_nobody_can_read_is_kept_and_refused_for_good(
    tmp_path: Path, message: bytes, code: str
) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path) as made:
            device = await made.add("d1")
            for _ in range(2):
                answer = await made.http.post("/v1/up", content=message, headers=device.headers)
                reply = codec.decode_down(answer.content)
                assert isinstance(reply, v1.Refused)
                assert (reply.code, reply.permanent) == (code, True)
                assert len(reply.message) > 20
            # The process stays up, and the next message is taken.
            assert isinstance(await device.up(batch()), v1.BatchAck)

    asyncio.run(check())
    assert rows(tmp_path, "SELECT device, code, message FROM dead_letter") == [
        ("d1", code, message)
    ]


def test_a_gateway_that_cannot_write_acknowledges_nothing_and_recovers_by_itself(
    tmp_path: Path,
) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path) as made:
            device = await made.add("d1")
            await device.up(batch(1, 2))
            # Below SQLAlchemy, which would begin a transaction first.
            driver = made.gateway.database._writer.raw_connection().driver_connection
            assert isinstance(driver, sqlite3.Connection)
            driver.execute("PRAGMA query_only=ON")
            reply = await device.up(batch(3, 4))
            assert isinstance(reply, v1.Refused)
            assert (reply.code, reply.permanent) == ("storage_unavailable", False)
            assert reply.retry_after_s > 0
            await device.up(BEAT)
            ready = await made.http.get("/health/ready")
            assert ready.status_code == 503
            assert [one["name"] for one in ready.json()["checks"] if not one["ok"]] == ["database"]
            assert (await made.http.get("/health/live")).status_code == 200
            add = await made.http.post("/v1/admin/devices", json={"name": "d2"}, headers=made.admin)
            assert (add.status_code, add.json()["code"]) == (503, "storage_unavailable")
            assert add.headers["retry-after"] == "5"
            driver.execute("PRAGMA query_only=OFF")
            ack = await device.up(batch(3, 4))
            assert isinstance(ack, v1.BatchAck)
            assert ack.outcome == "committed"
            assert (await made.http.get("/health/ready")).status_code == 200

    asyncio.run(check())
    assert rows(tmp_path, "SELECT lo, hi FROM batch ORDER BY lo") == [(1, 2), (3, 4)]
    assert rows(tmp_path, "SELECT sum(n) FROM device_answers") == [(4,)]
    # Heard while nothing could be written, and written since.
    assert rows(tmp_path, "SELECT device FROM device_state") == [("d1",)]
    assert rows(tmp_path, "SELECT name FROM device") == [("d1",)]


def test_a_full_disk_is_no_acknowledgement(tmp_path: Path) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path) as made:
            device = await made.add("d1")
            await sql(made, "PRAGMA max_page_count=1")
            refused = 0
            for lo in range(1, 2000, 50):
                reply = await device.up(batch(lo, lo + 49))
                if isinstance(reply, v1.Refused):
                    assert (reply.code, reply.permanent) == ("storage_unavailable", False)
                    refused += 1
            assert refused
            await sql(made, "PRAGMA max_page_count=1000000")
            for lo in range(1, 2000, 50):
                assert isinstance(await device.up(batch(lo, lo + 49)), v1.BatchAck)

    asyncio.run(check())
    assert rows(tmp_path, "SELECT sum(n) FROM device_answers") == [(2000,)]


def test_metrics_tell_what_was_heard(tmp_path: Path) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path, structs.replace(PLAIN)) as made:
            device = await made.add("d1")
            for _ in range(2):
                await device.up(batch(1, 5))
            await device.up(batch(2, 3))
            await made.http.post("/v1/up", content=b"?", headers=device.headers)
            page = (await made.http.get("/metrics")).text.splitlines()
            for line in (
                'longstop_batches_total{outcome="committed"} 1.0',
                'longstop_batches_total{outcome="duplicate"} 1.0',
                'longstop_batches_total{outcome="conflict"} 1.0',
                "longstop_records_total 5.0",
                "longstop_conflicts_total 1.0",
                'longstop_messages_total{link="http"} 4.0',
                'longstop_dead_letters_total{code="unknown_tag"} 1.0',
            ):
                assert line in page
            # Whatever devices call themselves, no series carries their names.
            assert not [line for line in page if "d1" in line]

    asyncio.run(check())


def test_every_route_that_is_none_is_a_problem_too(tmp_path: Path) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path) as made:
            for method, path, status, code in (
                ("GET", "/nothing", 404, "not_found"),
                ("GET", "/v1/up", 405, "method_not_allowed"),
                ("POST", "/v1/fleet", 405, "method_not_allowed"),
                ("GET", "/v1/fleet?limit=many", 400, "bad_request"),
                ("GET", "/docs", 404, "not_found"),
                ("GET", "/openapi.json", 404, "not_found"),
            ):
                answer = await made.http.request(method, path)
                assert answer.headers["content-type"] == "application/problem+json", path
                assert (answer.status_code, answer.json()["code"]) == (status, code)

    asyncio.run(check())
