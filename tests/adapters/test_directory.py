"""A watched folder with real files: what is answered, what is left out, what a restart repeats."""

import asyncio
import os
import zipfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_agent.sdk.answer import Revision
from edge_agent.sdk.messages import Infer, Refused, Reply, Timings
from edge_agent.sources import arrays
from edge_agent.sources.admission import Policy, Report
from edge_agent.sources.answer_files import Written
from edge_agent.sources.arrays import Kind, Unreadable
from edge_agent.sources.directory import DirectorySource
from edge_agent.sources.intake import Intake
from sync.runner import InlineRunner

KIND = Kind("float32", (2, 3))
NUMBERS = np.arange(6, dtype=np.float32).reshape(2, 3)


class Answered:
    """Answers everything, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Infer, bytes]] = []
        self.refusals: list[Refused] = []
        self.details = ""
        self.reports: list[Report] = []

    async def __call__(self, infer: Infer, data: bytes) -> Reply | Refused:
        self.asked.append((infer, data))
        if self.refusals:
            return self.refusals.pop()
        return Reply(
            id=infer.id,
            label="right",
            confidence=0.9,
            source="edge",
            final=True,
            reason="confident",
            hard=False,
            version="3",
            digest="ab",
            timings=Timings(1, 1, 0, 2),
            answer=self.details,
        )


EIGHT = Policy(at_once=8)


class Brisk:
    """A clock on which whatever is to be waited for has passed."""

    def __init__(self) -> None:
        self._now = 0.0

    def monotonic(self) -> float:
        self._now += 1.0
        return self._now

    def wall(self) -> float:
        return self._now


def watch(
    folder: Path,
    answer: Answered,
    until: Callable[[], bool],
    *,
    kind: Kind = KIND,
    policy: Policy = EIGHT,
    inotify: bool = False,
    look_s: float = 0.0,
    revisions: "Late | None" = None,
) -> None:
    """Run a source without pauses until something is true."""

    async def story() -> None:
        source = DirectorySource(
            folder,
            answer=answer,
            runner=InlineRunner(),
            kind=kind,
            inotify=inotify,
            soon_s=0.0,
            look_s=look_s,
            revisions=revisions,
        )
        intake = Intake(policy, clock=Brisk(), report=answer.reports.append)
        running = asyncio.create_task(source.run(intake))
        async with asyncio.timeout(10):
            while not until():
                assert not running.done(), running
                await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await intake.close()

    asyncio.run(story())


def written(folder: Path, name: str) -> Written:
    return msgspec.json.decode((folder / f"{name}.json").read_bytes(), type=Written)


def exists(*paths: Path) -> Callable[[], bool]:
    return lambda: all(path.exists() for path in paths)


def test_files_are_answered_beside_themselves(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", NUMBERS)
    (tmp_path / "b.bin").write_bytes(NUMBERS.tobytes())
    answer = Answered()
    watch(tmp_path, answer, exists(tmp_path / "a.npy.json", tmp_path / "b.bin.json"))
    assert [(infer.dtype, infer.shape) for infer, _ in answer.asked] == [("float32", (2, 3))] * 2
    assert {data for _, data in answer.asked} == {NUMBERS.tobytes()}
    told = written(tmp_path, "a.npy")
    assert (told.ok, told.label, told.source, told.final) == (True, "right", "edge", True)
    assert told.size == (tmp_path / "a.npy").stat().st_size


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("notes.txt", b"buy milk", "unknown_kind"),
        ("odd.npy", b"\x93NUMPY\x01\x00\x40\x00" + b"(" * 64, "not_an_array"),
        ("late.npy", b"\x93NUMPY\x09\x00\x40\x00" + b" " * 64, "not_an_array"),
        ("cut.npy", b"\x93NUMPY\x01\x00v\x00{'descr'", "not_an_array"),
        ("empty.npy", b"", "not_an_array"),
        ("text.npy", b"not numpy at all", "not_an_array"),
        ("huge.bin", bytes((16 << 20) + (1 << 17)), "input_too_large"),
    ],
)
def test_what_is_left_out_is_named_with_the_reason(
    tmp_path: Path, name: str, content: bytes, code: str
) -> None:
    (tmp_path / name).write_bytes(content)
    answer = Answered()
    watch(tmp_path, answer, exists(tmp_path / f"{name}.json"))
    told = written(tmp_path, name)
    assert (told.ok, told.code) == (False, code)
    assert name in told.message
    assert answer.asked == []


RAW = {
    "bytes": ("a.png", b"\x89PNG"),
    "text": ("a.txt", "größer\n".encode()),
    "record": ("a.json", b'{"amount": 3}'),
}


@pytest.mark.parametrize("dtype", RAW)
def test_what_is_no_array_goes_as_it_is(tmp_path: Path, dtype: str) -> None:
    name, content = RAW[dtype]
    (tmp_path / name).write_bytes(content)
    answer = Answered()
    answer.details = '{"kind":"detected","objects":[]}'
    watch(tmp_path, answer, exists(tmp_path / f"{name}.json"), kind=Kind(dtype, ()))
    ((infer, data),) = answer.asked
    assert (infer.dtype, infer.shape, data) == (dtype, (len(content),), content)
    told = written(tmp_path, name)
    assert told.ok
    assert told.answer == msgspec.Raw(answer.details.encode())


@pytest.mark.parametrize("name", ["a.JPG", "a.jpeg", "a.wav", "a.bin"])
def test_pictures_and_sounds_are_known_by_their_names(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"content")
    assert arrays.read(tmp_path / name, Kind("bytes", ())).data == b"content"


@pytest.mark.parametrize(
    ("dtype", "name", "says"),
    [
        ("float32", "a.png", "takes float32, which comes in .npy, .bin files"),
        ("bytes", "a.npy", "takes bytes, which comes in .jpg, .jpeg, .png, .wav, .bin files"),
        ("text", "a.png", "takes text, which comes in .txt files"),
        ("record", "a.txt", "takes record, which comes in .json files"),
    ],
)
def test_a_file_of_another_kind_is_told_what_would_be_right(
    tmp_path: Path, dtype: str, name: str, says: str
) -> None:
    (tmp_path / name).write_bytes(b"content")
    answer = Answered()
    watch(tmp_path, answer, exists(tmp_path / f"{name}.json"), kind=Kind(dtype, (2, 3)))
    told = written(tmp_path, name)
    assert told.code == "unknown_kind"
    assert says in told.message
    assert answer.asked == []


def test_an_answer_to_a_record_is_no_record(tmp_path: Path) -> None:
    """Both are `.json` files, and an answer stays when its record is taken away."""
    (tmp_path / "one.json").write_bytes(b'{"amount": 3}')
    (tmp_path / "odd.txt").write_bytes(b"left out")
    kind = Kind("record", ())
    first, second = Answered(), Answered()
    answers = exists(tmp_path / "one.json.json", tmp_path / "odd.txt.json")
    watch(tmp_path, first, answers, kind=kind)
    (tmp_path / "odd.txt").unlink()
    (tmp_path / "one.json").unlink()
    (tmp_path / "two.2.json").write_bytes(b'{"file": "two", "size": 1, "mtime_ns": 1, "ok": true}')
    watch(tmp_path, second, exists(tmp_path / "two.2.json.json"), kind=kind)
    looks = iter(range(50))
    watch(tmp_path, second, lambda: next(looks) == 40, kind=kind)
    assert [data for _, data in first.asked] == [b'{"amount": 3}']
    assert len(second.asked) == 1, "what stands in a record is the caller's, even this"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "odd.txt.json",
        "one.json.json",
        "two.2.json",
        "two.2.json.json",
    ]


def test_a_refused_input_is_named_and_not_tried_again(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", NUMBERS)
    answer = Answered()
    answer.refusals = [Refused("", "not_finite", "holds NaN")]
    watch(tmp_path, answer, exists(tmp_path / "a.npy.json"))
    assert written(tmp_path, "a.npy").code == "not_finite"
    assert len(answer.asked) == 1


def test_a_device_that_is_busy_says_nothing_about_the_file(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", NUMBERS)
    answer = Answered()
    answer.refusals = [Refused("", "overloaded", "later")] * 2
    watch(tmp_path, answer, exists(tmp_path / "a.npy.json"))
    assert written(tmp_path, "a.npy").ok
    assert len({infer.id for infer, _ in answer.asked}) == 1, "each time under the same id"


def test_a_restart_answers_nothing_twice(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", NUMBERS)
    first, second = Answered(), Answered()
    watch(tmp_path, first, exists(tmp_path / "a.npy.json"))
    np.save(tmp_path / "b.npy", NUMBERS)
    watch(tmp_path, second, exists(tmp_path / "b.npy.json"))
    assert len(first.asked) == len(second.asked) == 1


def test_a_file_written_anew_is_answered_anew(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", NUMBERS)
    answer = Answered()
    watch(tmp_path, answer, exists(tmp_path / "a.npy.json"))
    before = written(tmp_path, "a.npy").mtime_ns
    np.save(tmp_path / "a.npy", NUMBERS + 1)
    os.utime(tmp_path / "a.npy", ns=(before + 1, before + 1))
    watch(tmp_path, answer, lambda: written(tmp_path, "a.npy").mtime_ns > before)
    assert [data for _, data in answer.asked] == [NUMBERS.tobytes(), (NUMBERS + 1).tobytes()]
    assert answer.asked[0][0].id != answer.asked[1][0].id


def test_a_folder_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    looks = 0

    def until() -> bool:
        nonlocal looks
        looks += 1
        if looks == 20:
            folder.mkdir()
            np.save(folder / "a.npy", NUMBERS)
        return (folder / "a.npy.json").exists()

    watch(folder, Answered(), until)


@pytest.mark.parametrize(
    "given",
    [
        NUMBERS,
        np.asfortranarray(NUMBERS),
        NUMBERS.astype(">f4"),
        NUMBERS.astype(np.uint8),
        np.array(2.5),
    ],
    ids=["plain", "column order", "foreign byte order", "bytes", "no axis"],
)
def test_an_npy_file_gives_its_numbers_row_by_row(
    tmp_path: Path, given: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]"
) -> None:
    np.save(tmp_path / "a.npy", given)
    array = arrays.read(tmp_path / "a.npy", KIND)
    assert array.shape == given.shape
    read = np.frombuffer(array.data, array.dtype).reshape(array.shape)
    assert np.array_equal(read, given)
    assert read.dtype.isnative


def test_an_npy_file_that_promises_more_than_it_holds_is_not_believed(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", NUMBERS)
    data = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(data.replace(b"(2, 3)", b"(9, 3)"))
    with pytest.raises(Unreadable, match="promises"):
        arrays.read(tmp_path / "a.npy", KIND)


def test_objects_and_archives_are_no_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "zip.npy", "w") as archive:
        archive.writestr("a.npy", b"")
    for name in ("objects.npy", "zip.npy"):
        with pytest.raises(Unreadable) as refused:
            arrays.read(tmp_path / name, KIND)
        assert refused.value.code == "not_an_array"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="cannot be read"):
        arrays.read(tmp_path / "gone.npy", KIND)


def test_near_duplicates_are_left_out_named_and_not_thought_of_again(tmp_path: Path) -> None:
    alike = Policy(at_once=1, same_below=0.01, answer_every_s=0)
    for name, given in (("a", NUMBERS), ("b", NUMBERS + 1e-4), ("c", NUMBERS + 5)):
        np.save(tmp_path / f"{name}.npy", given)
    first, second = Answered(), Answered()
    answers = exists(*(tmp_path / f"{name}.npy.json" for name in "abc"))
    watch(tmp_path, first, answers, policy=alike)
    assert [data for _, data in first.asked] == [NUMBERS.tobytes(), (NUMBERS + 5).tobytes()]
    told = written(tmp_path, "b.npy")
    assert (told.ok, told.code) == (False, "near_duplicate")
    assert first.reports == [Report("near_duplicate", 1, "b.npy", "b.npy")]
    looks = iter(range(50))
    watch(tmp_path, second, lambda: next(looks) == 40, policy=alike)
    assert (second.asked, second.reports) == ([], [])


def test_what_cannot_be_read_is_in_the_records_too(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(b"buy milk")
    np.save(tmp_path / "odd.npy", NUMBERS)
    answer = Answered()
    answer.refusals = [Refused("", "wrong_shape", "not this one")]
    watch(tmp_path, answer, exists(tmp_path / "notes.txt.json", tmp_path / "odd.npy.json"))
    assert sorted((one.reason, one.count, one.first_id) for one in answer.reports) == [
        ("refused", 1, "odd.npy"),
        ("unreadable", 1, "notes.txt"),
    ]


def test_answers_may_lie_in_a_folder_of_their_own(tmp_path: Path) -> None:
    inbox, answers = tmp_path / "in", tmp_path / "out"
    inbox.mkdir()
    answers.mkdir()
    np.save(inbox / "a.npy", NUMBERS)

    async def story() -> None:
        source = DirectorySource(
            inbox,
            answers=answers,
            answer=Answered(),
            runner=InlineRunner(),
            kind=KIND,
            inotify=False,
            soon_s=0.0,
        )
        intake = Intake(EIGHT, clock=Brisk(), report=lambda _: None)
        running = asyncio.create_task(source.run(intake))
        async with asyncio.timeout(10):
            while not (answers / "a.npy.json").exists():  # noqa: ASYNC110 - files have no event
                await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await intake.close()

    asyncio.run(story())
    assert [path.name for path in inbox.iterdir()] == ["a.npy"]


def test_a_name_that_is_no_text_is_spelt_out(tmp_path: Path) -> None:
    name = os.fsdecode(b"gr\xf6sse.npy")
    odd = os.fsdecode(b"gr\xf6sse.txt")
    np.save(tmp_path / "a.npy", NUMBERS)
    (tmp_path / "a.npy").rename(tmp_path / name)
    (tmp_path / odd).write_bytes(b"odd")
    answer, second = Answered(), Answered()
    watch(tmp_path, answer, exists(tmp_path / f"{name}.json", tmp_path / f"{odd}.json"))
    assert written(tmp_path, name).file == "gr\\udcf6sse.npy"
    assert written(tmp_path, name).ok
    assert not written(tmp_path, odd).ok
    assert [one.first_id for one in answer.reports] == ["gr\\udcf6sse.txt"]
    looks = iter(range(50))
    watch(tmp_path, second, lambda: next(looks) == 40)
    assert second.asked == []


def test_nothing_is_asked_twice_because_its_answer_cannot_be_written(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", NUMBERS)
    (tmp_path / ".a.npy.json.part").mkdir()  # where the answer is to be begun
    answer, looks = Answered(), 0

    def until() -> bool:
        nonlocal looks
        looks += 1
        if looks == 200:
            (tmp_path / ".a.npy.json.part").rmdir()
        return (tmp_path / "a.npy.json").exists()

    watch(tmp_path, answer, until)
    assert len(answer.asked) == 1


class Late:
    """The cloud's later answers, kept until they are taken."""

    def __init__(self, *waiting: Revision) -> None:
        self.waiting = list(waiting)
        self.came = bool(waiting)
        self.asked = 0

    def add(self, one: Revision) -> None:
        self.came = True
        self.waiting.append(one)

    async def __call__(self) -> AsyncIterator[Revision]:
        self.asked += 1
        while not self.waiting:  # noqa: ASYNC110 - as the agent does, until something comes
            await asyncio.sleep(0)
        for one in tuple(self.waiting):
            yield one
            self.waiting.remove(one)


class Unsure(Answered):
    """Answers with what the cloud may correct later."""

    async def __call__(self, infer: Infer, data: bytes) -> Reply | Refused:
        reply = await super().__call__(infer, data)
        assert isinstance(reply, Reply)
        reply.final, reply.reason, reply.degraded = False, "deadline", True
        return reply


def revision(request_id: str) -> Revision:
    return Revision(request_id, "kiln", "left", 0.8, "7", 5.0, {"kind": "classified"})


def test_the_cloud_s_late_answer_makes_the_file_final(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", NUMBERS)
    answer, late = Unsure(), Late()

    def final() -> bool:
        if exists(tmp_path / "a.npy.json")() and not late.came:
            late.add(revision(answer.asked[0][0].id))
        return late.came and not late.waiting

    watch(tmp_path, answer, final, revisions=late)
    found = written(tmp_path, "a.npy")
    assert (found.label, found.confidence, found.source) == ("left", 0.8, "cloud")
    assert (found.final, found.reason, found.version) == (True, "revised", "7")
    assert (found.provisional, found.revised_at, found.degraded) == ("right", 5.0, False)
    assert bytes(found.answer) == b'{"kind":"classified"}'
    assert len(answer.asked) == 1


def test_a_late_answer_that_overtakes_the_provisional_one_waits_for_it(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", NUMBERS)
    late = Late()

    class Overtaken(Unsure):
        async def __call__(self, infer: Infer, data: bytes) -> Reply | Refused:
            late.add(revision(infer.id))
            while late.asked < 3:  # noqa: ASYNC110 - it comes, is not taken, and comes again
                await asyncio.sleep(0)
            return await super().__call__(infer, data)

    watch(tmp_path, Overtaken(), lambda: late.came and not late.waiting, revisions=late)
    assert written(tmp_path, "a.npy").final


def test_a_late_answer_waits_for_a_file_that_a_worker_died_over(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", NUMBERS)
    before, after = Unsure(), Unsure()
    watch(tmp_path, before, exists(tmp_path / "a.npy.json"))
    (tmp_path / "a.npy.json").unlink()  # as if it had died before this was written
    late = Late(revision(before.asked[0][0].id))
    watch(tmp_path, after, lambda: not late.waiting, revisions=late)
    assert written(tmp_path, "a.npy").final
    assert len(after.asked) == 1


@pytest.mark.parametrize("kind", [KIND, Kind("record", (1,))])
def test_a_late_answer_finds_its_file_after_a_restart(tmp_path: Path, kind: Kind) -> None:
    name = "a.json" if kind.dtype == "record" else "a.npy"
    if kind.dtype == "record":
        (tmp_path / name).write_text('{"amount": 3}')
    else:
        np.save(tmp_path / name, NUMBERS)
    before, after = Unsure(), Unsure()
    watch(tmp_path, before, exists(tmp_path / f"{name}.json"), kind=kind)
    late = Late(revision(before.asked[0][0].id), revision("file-nobody"))
    watch(tmp_path, after, lambda: not late.waiting, kind=kind, revisions=late)
    found = written(tmp_path, name)
    assert (found.label, found.final, found.provisional) == ("left", True, "right")
    assert after.asked == []


def test_a_file_written_anew_is_not_given_the_old_one_s_late_answer(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", NUMBERS)
    before, after = Unsure(), Unsure()
    watch(tmp_path, before, exists(tmp_path / "a.npy.json"))
    np.save(tmp_path / "a.npy", NUMBERS + 1)
    os.utime(tmp_path / "a.npy", ns=(1, 1))
    late = Late(revision(before.asked[0][0].id))
    watch(tmp_path, after, lambda: not late.waiting and len(after.asked) == 1, revisions=late)
    found = written(tmp_path, "a.npy")
    assert (found.label, found.final) == ("right", False)


def test_a_late_answer_that_cannot_be_written_is_not_taken(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", NUMBERS)
    answer = Unsure()
    watch(tmp_path, answer, exists(tmp_path / "a.npy.json"))
    obstacle = tmp_path / ".a.npy.json.part"
    obstacle.mkdir()
    late = Late(revision(answer.asked[0][0].id))

    def written_at_last() -> bool:
        if late.asked == 3:
            assert late.waiting
            obstacle.rmdir()
            late.asked += 1
        return not late.waiting

    watch(tmp_path, answer, written_at_last, revisions=late)
    assert written(tmp_path, "a.npy").final
