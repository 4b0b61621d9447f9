"""A request that comes again under its id gets the same answer, whichever worker it comes to."""

import asyncio
import os

from edge_agent.cloud import handover
from edge_agent.local_api.recent import Recent
from edge_agent.sdk.messages import Refused, Reply, Timings
from edge_agent.upkeep.said import Said
from sync.wire import codec, v1
from tests.records import answered


def reply(request_id: str, label: str = "left") -> Reply:
    return Reply(
        request_id, label, 0.9, "edge", True, "confident", False, "1", "ab", Timings(1, 2, 0, 3)
    )


def packed(record: v1.Answered) -> bytes:
    body = handover.pack_record(record)
    assert body is not None
    return body


def test_the_first_answer_to_an_id_counts() -> None:
    recent = Recent()
    first = reply("a")
    assert recent.keep("shop", first) is first
    assert recent.keep("shop", reply("a", "right")) is first
    assert recent.find("shop", "a") is first
    assert recent.find("till", "a") is None, "an id belongs to the client that gave it"


def test_no_more_is_remembered_than_was_said() -> None:
    recent = Recent(most=3)
    for number in range(5):
        recent.keep("shop", reply(str(number)))
    assert [recent.find("shop", str(number)) is None for number in range(5)] == [
        True, True, False, False, False,
    ]  # fmt: skip


def test_whoever_waits_for_a_second_answer_gets_the_first() -> None:
    async def later(given: Reply | Refused) -> Reply | Refused:
        await asyncio.sleep(0)
        return given

    async def scene() -> None:
        recent = Recent()
        one, two = await asyncio.gather(
            recent.keep_later("shop", later(reply("a"))),
            recent.keep_later("shop", later(reply("a", "right"))),
        )
        assert one is two
        refused = Refused("b", "overloaded", "later")
        assert await recent.keep_later("shop", later(refused)) is refused
        assert recent.find("shop", "b") is None

    asyncio.run(scene())


def test_what_another_worker_answered_is_answered_again() -> None:
    recent = Recent()
    record = answered("a")
    recent.told(record, None)
    again = recent.find(record.client, "a")
    assert again is not None
    assert (again.label, again.confidence, again.source, again.final) == (
        record.label,
        record.confidence,
        record.route,
        record.final,
    )
    assert (again.version, again.timings.total_us) == (record.version, record.total_us)


def test_workers_hear_what_was_answered_before_them_and_beside_them() -> None:
    said, heard = Said(most=3), {"old": b"", "new": b""}

    def hear(name: str, records: bytes) -> None:
        heard[name] += records

    said.join("old", lambda records: hear("old", records))
    said.add("old", [b"a", b"b", b"c", b"d"])
    assert heard["old"] == b"", "its own it knows"
    said.join("new", lambda records: hear("new", records))
    assert heard["new"] == b"bcd"
    said.add("old", [b"e"])
    said.leave("new")
    said.add("old", [b"f"])
    assert heard["new"] == b"bcde"


def test_records_cut_anywhere_are_put_together_again() -> None:
    records = [answered(str(number)) for number in range(20)]
    whole = b"".join(map(packed, records))
    begun, found = b"", []
    for at in range(0, len(whole), 37):
        begun += whole[at : at + 37]
        some, end = handover.split_records(begun)
        found += some
        begun = begun[end:]
    assert begun == b""
    size = handover.RECORD_LENGTH.size
    assert [codec.decode_record(one[size:]) for one in found] == records
    assert handover.split_records(os.urandom(1)) == ([], 0)
