"""A package over a whole file or folder: every row once, whatever kills it."""

import csv
import fcntl
import io
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from pyarrow import parquet  # type: ignore[import-untyped]

from models import package
from models.batch.output import read_output
from models.batch.progress import Counts, Progress
from models.batch.run import BatchOptions, BatchReport, run_batch
from models.batch.score import Opening, Scored
from models.build import Chosen, Drawn, Half, Parts, build, one_model
from models.calibrate.by_hand import by_hand
from models.data.rows import Columns
from models.errors import (
    BatchRunning,
    DataEmpty,
    DataUnreadable,
    FileMissing,
    TargetUnwritable,
    WrongShape,
)
from models.manifest import Role, TensorSpec
from models.pipeline.declared import Gives
from models.pipeline.heads import Classify
from models.pipeline.ops.families import Step
from models.pipeline.ops.image import DecodeImage, Resize
from models.pipeline.ops.tensor import Cast, Reshape
from models.runtimes.twin import TwinFile
from models.twins import LABELS, build_twin, twin_sample

SUFFIXES = ("csv", "jsonl", "npz", "parquet")
Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_twin("sides", "1", tmp_path_factory.mktemp("twin") / "package")


def samples(count: int, *, seed: int = 1) -> Floats:
    """Every third is hard; the edge says `row mod 3`, the cloud the next label."""
    random = np.random.default_rng(seed)
    confidences = np.where(np.arange(count) % 3, 0.9, 0.5) + random.uniform(0, 0.05, count)
    return np.stack(
        [
            twin_sample(at % 3, (at + 1) % 3, confidence=confidence)
            for at, confidence in enumerate(confidences)
        ]
    )


def write_npz(file: Path, x: Floats) -> Path:
    np.savez(file, x=x)
    return file


def write_csv(file: Path, x: Floats) -> Path:
    lines = [
        ",".join(f"v{at}" for at in range(x.shape[1])),
        *(",".join(map(str, row)) for row in x),
    ]
    file.write_text("\n".join(lines) + "\n")
    return file


def options(given: Path, output: Path, twin: Path, **more: Any) -> BatchOptions:
    asked = {"chunk_rows": 16, "batch_rows": 4, **more}
    return BatchOptions(input=given, output=output, package=twin, **asked)


def rows_of(output: Path) -> list[Scored]:
    return [one for piece in read_output(output) for one in piece]


def beside(output: Path) -> list[str]:
    return sorted(path.name for path in output.parent.iterdir() if output.name in path.name)


# What is answered.


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_hard_rows_are_answered_by_the_cloud_and_all_others_by_the_edge(
    suffix: str, twin: Path, tmp_path: Path
) -> None:
    output = tmp_path / f"scores.{suffix}"
    report = run_batch(options(write_npz(tmp_path / "x.npz", samples(50)), output, twin))
    rows = rows_of(output)
    assert [row.name for row in rows] == [str(at + 1) for at in range(50)]
    for at, row in enumerate(rows):
        hard = at % 3 == 0
        label = LABELS[(at + 1) % 3 if hard else at % 3]
        assert (row.hard, row.source, row.label) == (hard, "cloud" if hard else "edge", label)
        assert row.reason == ("below_threshold" if hard else "confident")
        assert row.confidence is not None
        assert row.confidence > 0.8
        assert json.loads(row.answer or "")["label"] == label
        assert row.error is None
    assert report.counts == Counts(rows=50, edge=33, cloud=17, hard=17, errors=0)
    assert (report.resumed, report.kept, report.notes) == (0, 0, ())
    assert beside(output) == [output.name, f"{output.name}.seen"]


def test_every_form_of_output_holds_the_same_in_its_own_way(twin: Path, tmp_path: Path) -> None:
    x = samples(5)
    x[1] = np.nan  # a row with an error has neither label nor confidence
    given = write_npz(tmp_path / "x.npz", x)
    for suffix in SUFFIXES:
        run_batch(options(given, tmp_path / f"s.{suffix}", twin))
    wanted = rows_of(tmp_path / "s.jsonl")
    assert all(rows_of(tmp_path / f"s.{suffix}") == wanted for suffix in SUFFIXES)
    assert (wanted[1].error, wanted[1].label, wanted[1].confidence) == ("not_finite", None, None)
    with (tmp_path / "s.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert (lines[0]["hard"], lines[1]["label"], lines[2]["source"]) == ("true", "", "edge")
    first = json.loads((tmp_path / "s.jsonl").read_text().splitlines()[0])
    assert (first["source"], first["answer"]["kind"]) == ("cloud", "classified")
    table = parquet.read_table(tmp_path / "s.parquet")
    assert table.column("confidence").null_count == 1
    assert table.column("hard").to_pylist() == [True, True, False, True, False]
    with np.load(tmp_path / "s.npz") as held:
        assert (held["hard"].dtype, held["confidence"].dtype) == (np.bool_, np.float64)
        assert np.isnan(held["confidence"]).tolist() == [False, True, False, False, False]


def test_without_the_cloud_hard_rows_keep_the_edge_s_answer_and_are_marked(
    twin: Path, tmp_path: Path
) -> None:
    output = tmp_path / "s.jsonl"
    given = write_npz(tmp_path / "x.npz", samples(9))
    report = run_batch(options(given, output, twin, opening=Opening(edge_only=True)))
    assert [(row.source, row.hard) for row in rows_of(output)[:2]] == [
        ("edge", True),
        ("edge", False),
    ]
    assert rows_of(output)[0].label == LABELS[0]
    assert report.counts == Counts(rows=9, edge=9, cloud=0, hard=3, errors=0)


def test_a_folder_with_the_edge_half_only_needs_to_be_told_so(twin: Path, tmp_path: Path) -> None:
    edge = package.unpack(package.pack(twin, Role.EDGE), tmp_path / "edge")
    asked = options(write_npz(tmp_path / "x.npz", samples(3)), tmp_path / "s.csv", edge)
    with pytest.raises(FileMissing, match="--edge-only"):
        run_batch(asked)
    run_batch(msgspec.structs.replace(asked, opening=Opening(edge_only=True)))
    assert len(rows_of(tmp_path / "s.csv")) == 3


def test_a_package_that_is_not_calibrated_finds_every_row_hard(tmp_path: Path) -> None:
    bare = build_twin("sides", "1", tmp_path / "package", threshold=None)
    report = run_batch(options(write_npz(tmp_path / "x.npz", samples(6)), tmp_path / "s.csv", bare))
    assert report.counts.cloud == 6
    assert {row.reason for row in rows_of(tmp_path / "s.csv")} == {"uncertified"}
    assert "not calibrated" in report.notes[0]


def test_where_the_golden_answers_differ_no_certificate_holds(twin: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for file in twin.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    manifest = json.loads((other / "manifest.json").read_bytes())
    manifest["golden"]["edge"][0]["confidence"] -= 0.02
    (other / "manifest.json").write_text(json.dumps(manifest))
    report = run_batch(
        options(write_npz(tmp_path / "x.npz", samples(6)), tmp_path / "s.csv", other)
    )
    assert report.counts.cloud == 6
    assert "no certificate holds" in report.notes[0]


def test_tables_in_text_give_the_answers_of_arrays(twin: Path, tmp_path: Path) -> None:
    x = samples(40)
    run_batch(options(write_npz(tmp_path / "x.npz", x), tmp_path / "n.jsonl", twin))
    run_batch(options(write_csv(tmp_path / "x.csv", x), tmp_path / "c.jsonl", twin))
    assert (tmp_path / "c.jsonl").read_bytes() == (tmp_path / "n.jsonl").read_bytes()


def test_columns_that_are_no_part_of_the_sample_are_left_out(twin: Path, tmp_path: Path) -> None:
    x = samples(2)
    lines = [
        json.dumps({"x": row.tolist(), "label": "left", "part": f"p-{at}"})
        for at, row in enumerate(x)
    ]
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    run_batch(options(tmp_path / "x.jsonl", tmp_path / "s.csv", twin, columns=Columns(name="part")))
    assert [row.name for row in rows_of(tmp_path / "s.csv")] == ["p-0", "p-1"]


# Bad rows.


def test_bad_rows_are_counted_and_written_and_the_others_answered(
    twin: Path, tmp_path: Path
) -> None:
    x = samples(12)
    text = write_csv(tmp_path / "x.csv", x).read_text().splitlines()
    text[2] = "1,2"
    text[5] = text[5].replace(text[5].split(",")[0], "wide", 1)
    (tmp_path / "x.csv").write_text("\n".join(text))
    report = run_batch(options(tmp_path / "x.csv", tmp_path / "s.csv", twin))
    rows = rows_of(tmp_path / "s.csv")
    assert [row.name for row in rows if row.error] == ["2", "5"]
    assert {(row.error, row.hard, row.source) for row in rows if row.error} == {
        ("row_unreadable", True, None)
    }
    assert report.counts == Counts(rows=12, edge=6, cloud=4, hard=4, errors=2)


def picture(shade: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((4, 4), shade, np.uint8)).save(out, "PNG")
    return out.getvalue()


def packaged(
    folder: Path, given: TensorSpec, steps: tuple[Step, ...], golden: Chosen | Drawn
) -> Path:
    """Of what the steps give, three values are the edge's logits and three the cloud's."""

    def half(role: Role, twin: TwinFile) -> Half:
        file = folder / f"{role.value}.json"
        file.write_bytes(msgspec.json.encode(twin))
        return one_model(given, steps, file, gives=Gives("logits", (3,)), role=role, form="twin")

    parts = Parts(
        name="shades",
        task="shades",
        given=given,
        answer=Classify(LABELS),
        edge=half(Role.EDGE, TwinFile(3)),
        cloud=half(Role.CLOUD, TwinFile(3, skip=3)),
        certificate=by_hand(note="none", threshold=0.8),
        golden=golden,
    )
    return build(parts, "1", folder / "package")


def picture_package(folder: Path) -> Path:
    steps = (
        DecodeImage(mode="gray"),
        Resize(height=1, width=6, method="nearest"),
        Cast("float32"),
        Reshape((6,)),
    )
    ramp = io.BytesIO()
    Image.fromarray(np.array([[0, 0, 90, 0, 0, 90]], np.uint8)).save(ramp, "PNG")
    return packaged(folder, TensorSpec("image", "bytes"), steps, Chosen((ramp.getvalue(),)))


def test_a_folder_of_pictures_with_a_broken_one(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    sure = io.BytesIO()
    Image.fromarray(np.array([[0, 40, 0, 0, 0, 0]], np.uint8)).save(sure, "PNG")
    (folder / "b.png").write_bytes(sure.getvalue())
    (folder / "a.png").write_bytes(picture(7)[:-20])
    (folder / "empty.png").write_bytes(b"")
    (folder / "sub" / "c.png").write_bytes(picture(7))  # all logits are equal
    output = tmp_path / "s.jsonl"
    report = run_batch(options(folder, output, picture_package(tmp_path), batch_rows=8))
    found = {row.name: (row.label, row.reason, row.error) for row in rows_of(output)}
    assert list(found) == ["a.png", "b.png", "empty.png", "sub/c.png"]
    assert found["a.png"] == (None, None, "undecodable_input")
    assert found["empty.png"] == (None, None, "empty_input")
    assert found["b.png"] == ("middle", "confident", None)
    assert found["sub/c.png"][1] == "degenerate"
    assert report.counts.errors == 2


# Going on.


KILLED = """
import pathlib, sys, time
from models.batch.run import BatchOptions, run_batch
given, output, package = map(pathlib.Path, sys.argv[1:])
asked = BatchOptions(input=given, output=output, package=package, chunk_rows=16, batch_rows=4)
run_batch(asked, tell=lambda progress: time.sleep(0.02))
"""


def start(given: Path, output: Path, twin: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", KILLED, str(given), str(output), str(twin)],
        stdout=subprocess.DEVNULL,
    )


def until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.002)


def write_folder(folder: Path, x: Floats) -> Path:
    folder.mkdir()
    for at, row in enumerate(x):
        np.save(folder / f"{at:04}.npy", row)
    return folder


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("form", "suffix"),
    [("folder", "csv"), ("folder", "parquet"), ("npz", "jsonl"), ("npz", "npz")],
)
def test_a_run_killed_in_the_middle_goes_on_and_gives_the_same_bytes(
    form: str, suffix: str, twin: Path, tmp_path: Path
) -> None:
    x = samples(400)
    given = (
        write_folder(tmp_path / "in", x) if form == "folder" else write_npz(tmp_path / "x.npz", x)
    )
    output, whole = tmp_path / f"s.{suffix}", tmp_path / "whole" / f"s.{suffix}"
    run_batch(options(given, whole, twin))
    part = tmp_path / f"s.{suffix}.part"
    process = start(given, output, twin)
    until((part / "chunk-00000003").exists, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not output.exists()
    report = run_batch(options(given, output, twin))
    assert 64 <= report.resumed < 400
    assert report.resumed % 16 == 0
    assert report.counts == Counts(rows=400, edge=266, cloud=134, hard=134, errors=0)
    assert output.read_bytes() == whole.read_bytes()
    assert beside(output) == [output.name, f"{output.name}.seen"]


@pytest.mark.e2e
def test_two_runs_into_one_output_are_refused(twin: Path, tmp_path: Path) -> None:
    given, output = write_npz(tmp_path / "x.npz", samples(400)), tmp_path / "s.csv"
    process = start(given, output, twin)
    until((tmp_path / "s.csv.part" / "chunk-00000000").exists, process)
    with pytest.raises(BatchRunning, match=r"s\.csv"):
        run_batch(options(given, output, twin))
    process.kill()
    process.wait()
    run_batch(options(given, output, twin))


class PowerCut(BaseException):
    pass


def interrupted(asked: BatchOptions, *, after: int) -> None:
    def tell(progress: Progress) -> None:
        if progress.counts.rows >= after:
            raise PowerCut

    with pytest.raises(PowerCut):
        run_batch(asked, tell=tell)


@pytest.mark.parametrize("change", ["input", "package", "options"])
def test_what_another_run_left_is_not_used(change: str, twin: Path, tmp_path: Path) -> None:
    given = write_npz(tmp_path / "x.npz", samples(64))
    asked = options(given, tmp_path / "s.csv", twin)
    interrupted(asked, after=40)
    if change == "input":
        write_npz(given, samples(64, seed=2))
    elif change == "package":
        other = build_twin("sides", "2", tmp_path / "package", threshold=0.99)
        asked = msgspec.structs.replace(asked, package=other)
    else:
        asked = msgspec.structs.replace(asked, opening=Opening(edge_only=True))
    report = run_batch(asked)
    assert report.resumed == 0
    assert "discarded" in report.notes[0]
    run_batch(msgspec.structs.replace(asked, output=tmp_path / "again.csv"))
    assert (tmp_path / "s.csv").read_bytes() == (tmp_path / "again.csv").read_bytes()


def test_a_folder_that_grew_meanwhile_goes_on_with_what_it_began_with(
    twin: Path, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "in", samples(64))
    asked = options(folder, tmp_path / "s.csv", twin)
    interrupted(asked, after=40)
    np.save(folder / "0000a.npy", samples(1)[0])
    report = run_batch(asked)
    assert (report.resumed, report.counts.rows) == (32, 64)
    added = run_batch(msgspec.structs.replace(asked, since=True))
    assert (added.counts.rows, added.kept) == (1, 64)


@pytest.mark.parametrize("gone", [True, False], ids=["gone", "changed"])
def test_a_folder_that_lost_or_changed_a_file_meanwhile_begins_anew(
    gone: bool, twin: Path, tmp_path: Path
) -> None:
    x = samples(64)
    folder = write_folder(tmp_path / "in", x)
    asked = options(folder, tmp_path / "s.csv", twin)
    interrupted(asked, after=40)
    if gone:
        (folder / "0002.npy").unlink()
    else:
        np.save(folder / "0002.npy", x[0])
        os.utime(folder / "0002.npy", (1, 1))
    report = run_batch(asked)
    assert (report.resumed, report.counts.rows) == (0, 63 if gone else 64)
    changed = [row.source for row in rows_of(asked.output) if row.name == "0002.npy"]
    assert changed == ([] if gone else ["cloud"])


def test_a_file_that_vanishes_while_the_run_goes_is_a_bad_row(twin: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "in", samples(12))

    def tell(progress: Progress) -> None:
        (folder / "0009.npy").unlink(missing_ok=True)

    report = run_batch(options(folder, tmp_path / "s.csv", twin), tell=tell)
    assert report.counts.errors == 1
    assert rows_of(tmp_path / "s.csv")[9].error == "row_unreadable"


def test_a_power_cut_at_any_step_of_the_end_changes_nothing(
    twin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each write, rename and sync in turn is the one that does not happen."""
    given = write_npz(tmp_path / "x.npz", samples(20))
    run_batch(options(given, tmp_path / "whole.csv", twin))
    whole = (tmp_path / "whole.csv").read_bytes()
    done, cut = False, 0
    while not done:
        cut += 1
        output = tmp_path / f"cut-{cut}" / "s.csv"
        left = [cut]

        def last(real: Callable[..., Any], left: list[int] = left) -> Callable[..., Any]:
            def perform(*given: Any, **named: Any) -> Any:
                left[0] -= 1
                if left[0] < 0:
                    raise PowerCut
                return real(*given, **named)

            return perform

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", last(os.fsync))
            patched.setattr(Path, "replace", last(Path.replace))
            patched.setattr(Path, "rename", last(Path.rename))
            try:
                run_batch(options(given, output, twin))
                done = True
            except PowerCut:
                pass
        run_batch(options(given, output, twin))
        assert output.read_bytes() == whole
        assert beside(output) == ["s.csv", "s.csv.seen"]
        assert run_batch(options(given, output, twin, since=True)).counts.rows == 0
        assert output.read_bytes() == whole
    assert cut > 10


# Only what is new.


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_folder_s_new_and_changed_files_are_added(
    suffix: str, twin: Path, tmp_path: Path
) -> None:
    x = samples(30)
    folder = write_folder(tmp_path / "in", x[:20])
    asked = options(folder, tmp_path / f"s.{suffix}", twin, since=True)
    first = run_batch(asked)
    assert (first.counts.rows, first.kept) == (20, 0)
    assert "no earlier run" in first.notes[0]
    np.save(folder / "0100.npy", x[20])
    np.save(folder / "0003.npy", x[0])
    os.utime(folder / "0003.npy", (1, 1))  # changed, and older than the last run
    second = run_batch(asked)
    assert (second.counts.rows, second.kept, second.notes) == (2, 19, ())
    rows = rows_of(asked.output)
    assert [row.name for row in rows][-3:] == ["0019.npy", "0003.npy", "0100.npy"]
    assert (len(rows), len({row.name for row in rows})) == (21, 21)
    before = asked.output.read_bytes()
    assert run_batch(asked).counts.rows == 0
    assert asked.output.read_bytes() == before


def test_a_table_s_new_and_changed_rows_are_added(twin: Path, tmp_path: Path) -> None:
    x = samples(30)
    given = write_npz(tmp_path / "x.npz", x[:20])
    asked = options(given, tmp_path / "s.csv", twin)
    run_batch(asked)
    asked = msgspec.structs.replace(asked, since=True)
    write_npz(given, np.concatenate([x[:4], x[25:26], x[5:22], x[:1]]))
    report = run_batch(asked)
    rows = rows_of(asked.output)
    # Row 5 holds another value, 21 and 22 are new, and so is 23, though its value is an old one.
    assert [row.name for row in rows][-4:] == ["5", "21", "22", "23"]
    assert (report.counts.rows, report.kept, len(rows)) == (4, 19, 23)
    write_npz(given, x[:4])
    assert run_batch(asked).counts.rows == 0
    assert len(rows_of(asked.output)) == 23


def test_an_output_that_was_moved_away_holds_the_new_rows_alone(twin: Path, tmp_path: Path) -> None:
    x = samples(30)
    given = write_npz(tmp_path / "x.npz", x[:20])
    asked = options(given, tmp_path / "s.csv", twin, since=True)
    run_batch(asked)
    asked.output.rename(tmp_path / "monday.csv")
    write_npz(given, x)
    report = run_batch(asked)
    assert (report.kept, [row.name for row in rows_of(asked.output)]) == (
        0,
        [str(at) for at in range(21, 31)],
    )


def test_an_interrupted_run_for_new_rows_goes_on_too(twin: Path, tmp_path: Path) -> None:
    x = samples(90)
    given = write_npz(tmp_path / "x.npz", x[:20])
    asked = options(given, tmp_path / "s.csv", twin, since=True)
    run_batch(asked)
    write_npz(given, x)
    interrupted(asked, after=40)
    report = run_batch(asked)
    assert (report.resumed, report.counts.rows, report.kept) == (32, 70, 20)
    assert [row.name for row in rows_of(asked.output)] == [str(at + 1) for at in range(90)]


def test_rows_kept_from_another_package_are_told_of(twin: Path, tmp_path: Path) -> None:
    given = write_npz(tmp_path / "x.npz", samples(4))
    run_batch(options(given, tmp_path / "s.csv", twin))
    other = build_twin("sides", "2", tmp_path / "package")
    report = run_batch(options(given, tmp_path / "s.csv", other, since=True))
    assert "another package" in report.notes[0]


# How far it is.


def test_progress_tells_rows_a_second_the_share_of_hard_rows_and_the_time_left(
    twin: Path, tmp_path: Path
) -> None:
    told: list[Progress] = []
    moments = iter(range(100))
    run_batch(
        options(write_npz(tmp_path / "x.npz", samples(12)), tmp_path / "s.csv", twin),
        tell=told.append,
        clock=lambda: float(next(moments)),
    )
    assert [(one.counts.rows, one.expected, one.rows_per_s) for one in told] == [
        (4, 12, 4.0),
        (8, 12, 4.0),
        (12, 12, 4.0),
    ]
    assert [one.eta_s for one in told] == [2.0, 1.0, 0.0]
    assert told[0].line() == "4 of 12 rows, 4/s, 50.0 % hard, 0:02 to go"


def test_the_rest_of_a_csv_file_is_guessed_from_what_was_read(twin: Path, tmp_path: Path) -> None:
    told: list[Progress] = []
    given = write_csv(tmp_path / "x.csv", samples(200))
    run_batch(options(given, tmp_path / "s.csv", twin), tell=told.append)
    assert told[10].expected == pytest.approx(200, rel=0.1)


def test_memory_holds_a_batch_and_not_the_file(tmp_path: Path) -> None:
    wide = packaged(tmp_path, TensorSpec("row", "float32", (2000,), "C"), (), Drawn(-6, 6, 1))
    given = write_npz(tmp_path / "x.npz", np.eye(1500, 2000, dtype=np.float32))
    assert given.stat().st_size > 12_000_000
    tracemalloc.start()
    try:
        run_batch(
            options(given, tmp_path / "s.csv", wide, batch_rows=16),
            tell=lambda told: tracemalloc.reset_peak() if told.counts.rows <= 64 else None,
        )
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


# What is refused.


def refuse(error: type[Exception], match: str, asked: BatchOptions) -> BatchReport | None:
    with pytest.raises(error, match=match):
        return run_batch(asked)
    return None


def test_bad_outputs_are_refused_before_anything_is_scored(twin: Path, tmp_path: Path) -> None:
    given = write_npz(tmp_path / "x.npz", samples(4))
    refuse(TargetUnwritable, r"\.parquet", options(given, tmp_path / "s.xlsx", twin))
    refuse(TargetUnwritable, "input", options(given, given, twin))
    (tmp_path / "f.csv").mkdir()
    refuse(TargetUnwritable, "folder", options(given, tmp_path / "f.csv", twin))
    (tmp_path / "file").write_text("")
    refuse(TargetUnwritable, "file", options(given, tmp_path / "file" / "s.csv", twin))
    with pytest.raises(ValueError, match="at least 1"):
        run_batch(options(given, tmp_path / "s.csv", twin, chunk_rows=0))


def test_a_file_of_another_shape_is_refused_and_leaves_nothing(twin: Path, tmp_path: Path) -> None:
    given = write_npz(tmp_path / "x.npz", np.zeros((4, 5), np.float32))
    refuse(WrongShape, r"\[6\]", options(given, tmp_path / "s.csv", twin))
    assert beside(tmp_path / "s.csv") == []


def test_nothing_to_score_is_refused_and_leaves_nothing(twin: Path, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b,c,d,e,f\n")
    refuse(DataEmpty, "no rows", options(tmp_path / "x.csv", tmp_path / "s.csv", twin))
    assert beside(tmp_path / "s.csv") == []


def test_an_earlier_output_that_is_damaged_is_refused_and_kept(twin: Path, tmp_path: Path) -> None:
    x = samples(8)
    for suffix in SUFFIXES:
        given = write_npz(tmp_path / "x.npz", x[:4])
        asked = options(given, tmp_path / f"s.{suffix}", twin, since=True)
        run_batch(asked)
        asked.output.write_bytes(b"name\nnot this")
        write_npz(given, x)
        refuse(DataUnreadable, "move it away", asked)
        assert asked.output.read_bytes() == b"name\nnot this"


def test_a_lock_left_by_a_killed_run_holds_nobody_up(twin: Path, tmp_path: Path) -> None:
    part = tmp_path / "s.csv.part"
    part.mkdir()
    with (part / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
    run_batch(options(write_npz(tmp_path / "x.npz", samples(4)), tmp_path / "s.csv", twin))
