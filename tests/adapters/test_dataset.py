"""Samples as users have them: every form of file says the same; what is wrong is named."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow  # type: ignore[import-untyped]
import pytest
from pyarrow import parquet

from models.calibrate.overlap import row_hashes
from models.dataset import Samples, load_samples
from models.errors import (
    ColumnUnknown,
    DataEmpty,
    DataUnreadable,
    FileMissing,
    LabelOutside,
    ModelsError,
    RowUnreadable,
    WrongDtype,
    WrongShape,
)
from models.manifest import TensorSpec

LABELS = ("box", "tube", "bag")
RECORD = TensorSpec("order", "record")
TEXT = TensorSpec("note", "text")
FILE = TensorSpec("image", "bytes")
PAIR = TensorSpec("pair", "float32", (2,), "C")
GRID = TensorSpec("grid", "uint8", (2, 3), "HW")
ROWS: list[dict[str, Any]] = [
    {"size": 1.5, "where": "north", "new": True, "label": "bag", "person": 4, "cloud": "box"},
    {"size": 2, "where": None, "new": False, "label": "box", "person": 4, "cloud": "box"},
    {"size": None, "where": "007", "new": True, "label": "tube", "person": 9, "cloud": "bag"},
]
Table = Sequence[Mapping[str, Any]]


def write_csv(file: Path, rows: Table) -> Path:
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(
            [
                {k: str(v).lower() if v is True or v is False else v for k, v in row.items()}
                for row in rows
            ]
        )
    return file


def write_jsonl(file: Path, rows: Table) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def write_parquet(file: Path, rows: Table) -> Path:
    parquet.write_table(pyarrow.Table.from_pylist(list(rows)), file)
    return file


WRITERS: dict[str, Callable[[Path, Table], Path]] = {
    "csv": write_csv,
    "jsonl": write_jsonl,
    "parquet": write_parquet,
}


@pytest.fixture(params=list(WRITERS))
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Table], Path]:
    return lambda rows: WRITERS[request.param](tmp_path / f"rows.{request.param}", rows)


def test_a_table_of_records_says_the_same_in_every_form(table: Callable[[Table], Path]) -> None:
    found = load_samples(table(ROWS), RECORD, LABELS, group="person")
    assert list(found.values) == [
        {"size": 1.5, "where": "north", "new": True},
        {"size": 2, "where": None, "new": False},
        {"size": None, "where": "007", "new": True},
    ]
    assert found.y is not None
    assert found.cloud is not None
    assert found.groups is not None
    assert (found.y.tolist(), str(found.y.dtype)) == ([2, 0, 1], "int64")
    assert found.cloud.tolist() == [0, 0, 2]
    assert (found.groups.tolist(), str(found.groups.dtype)) == ([4, 4, 9], "int64")
    assert found.names == ("1", "2", "3")
    assert len(set(found.hashes.tolist())) == 3


def test_an_unlabelled_table_and_one_with_the_cloud_s_answers_only(
    table: Callable[[Table], Path],
) -> None:
    bare = load_samples(table([{"size": 1}]), RECORD, LABELS)
    assert (bare.y, bare.targets, bare.groups, bare.cloud) == (None, None, None, None)
    taught = load_samples(table([{"size": 1, "cloud": "tube"}]), RECORD, LABELS)
    assert taught.y is None
    assert taught.cloud is not None
    assert taught.cloud.tolist() == [1]


def test_columns_may_have_other_names_and_rows_names_of_their_own(
    table: Callable[[Table], Path],
) -> None:
    file = table([{"size": 1, "truth": "bag", "who": "ann", "said": 0, "number": "A-7"}])
    found = load_samples(
        file, RECORD, LABELS, label="truth", group="who", cloud="said", name="number"
    )
    assert list(found.values) == [{"size": 1}]
    assert found.y is not None
    assert found.cloud is not None
    assert found.groups is not None
    assert (found.y.tolist(), found.cloud.tolist(), found.groups.tolist()) == ([2], [0], ["ann"])
    assert found.names == ("A-7",)


def test_texts_come_from_the_column_called_text(table: Callable[[Table], Path]) -> None:
    file = table([{"text": "12 broken", "label": "1"}, {"text": "true", "label": "bag"}])
    found = load_samples(file, TEXT, LABELS)
    assert list(found.values) == ["12 broken", "true"]
    assert found.y is not None
    assert found.y.tolist() == [1, 2]


def test_true_numbers_stand_in_for_labels_where_there_is_no_label_set(
    table: Callable[[Table], Path],
) -> None:
    found = load_samples(table([{"size": 1, "label": 2.5}, {"size": 2, "label": 3}]), RECORD, ())
    assert found.y is None
    assert found.targets is not None
    assert found.targets.tolist() == [2.5, 3.0]


@pytest.mark.parametrize("writer", [write_csv, write_parquet])
def test_columns_of_numbers_are_an_array(
    writer: Callable[[Path, Table], Path], tmp_path: Path
) -> None:
    rows = [{"a": 1.5, "b": 2, "label": 0}, {"a": -1, "b": 0.25, "label": 2}]
    found = load_samples(writer(tmp_path / f"n.{writer.__name__[6:]}", rows), PAIR, LABELS)
    assert [np.asarray(value).tolist() for value in found.values] == [[1.5, 2.0], [-1.0, 0.25]]
    assert np.asarray(found.values[0]).dtype == np.float32
    wide = [{f"p{at}": at for at in range(6)}]
    (grid,) = load_samples(writer(tmp_path / f"g.{writer.__name__[6:]}", wide), GRID, LABELS).values
    assert np.asarray(grid).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_lists_of_numbers_are_an_array_in_lines_and_parquet(tmp_path: Path) -> None:
    rows = [{"x": [[0, 1, 2], [3, 4, 255]]}]
    for file in (
        write_jsonl(tmp_path / "a.jsonl", rows),
        write_parquet(tmp_path / "a.parquet", rows),
    ):
        (value,) = load_samples(file, GRID, LABELS).values
        assert np.asarray(value).tolist() == rows[0]["x"]
        assert np.asarray(value).dtype == np.uint8


def test_pictures_may_stand_in_a_parquet_column(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "p.parquet", [{"bytes": b"\x89PNG", "label": "box"}])
    assert list(load_samples(file, FILE, LABELS).values) == [b"\x89PNG"]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_with_labels_groups_and_the_cloud_s_answers(
    save: Callable[..., None], order: str, tmp_path: Path
) -> None:
    x = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
    file = tmp_path / "a.npz"
    save(
        file,
        x=np.asarray(x, order="F") if order == "F" else x,
        y=np.array([0, 1, 2, 0], np.uint8),
        group=np.array(["a", "a", "b", "b"]),
        cloud=np.array(["bag", "box", "box", "tube"]),
    )
    found = load_samples(file, GRID, LABELS)
    np.testing.assert_array_equal(np.stack([np.asarray(value) for value in found.values]), x)
    assert found.y is not None
    assert found.cloud is not None
    assert found.groups is not None
    assert (found.y.tolist(), found.cloud.tolist()) == ([0, 1, 2, 0], [2, 0, 0, 1])
    assert found.groups.tolist() == ["a", "a", "b", "b"]
    np.testing.assert_array_equal(found.hashes, row_hashes(x))


def test_float64_arrays_lose_precision_and_nothing_else(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([[0.1, 1.0]]))
    (value,) = load_samples(tmp_path / "a.npz", PAIR, LABELS).values
    np.testing.assert_array_equal(np.asarray(value), np.array([0.1, 1.0], np.float32))


def test_texts_may_be_an_array(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array(["one", "two"]), y=[0, 1])
    found = load_samples(tmp_path / "a.npz", TEXT, LABELS)
    assert list(found.values) == ["one", "two"]
    np.testing.assert_array_equal(found.hashes, row_hashes(["one", "two"]))


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def test_a_folder_of_a_folder_for_each_label_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    files = {"bag/2.PNG": b"two", "bag/1.jpg": b"one", "box/3.wav": b"three", "box/.4.png": b"no"}
    folder = fill(tmp_path, {**files, "box/notes.md": b"no", ".old/5.png": b"no"})
    found = load_samples(folder, FILE, LABELS)
    assert found.names == ("bag/1.jpg", "bag/2.PNG", "box/3.wav")
    assert found.y is not None
    assert found.y.tolist() == [2, 2, 0]
    assert list(found.values) == [b"one", b"two", b"three"]
    np.testing.assert_array_equal(found.hashes, row_hashes([b"one", b"two", b"three"]))
    (folder / "bag" / "2.PNG").write_bytes(b"changed")
    assert found.values[1] == b"changed"


def test_a_folder_in_a_label_s_folder_is_a_group(tmp_path: Path) -> None:
    fill(tmp_path, {"bag/ann/1.txt": b"one", "bag/bob/1.txt": b"two", "box/ann/2.txt": b"three"})
    found = load_samples(tmp_path, TEXT, LABELS)
    assert found.groups is not None
    assert found.groups.tolist() == ["ann", "bob", "ann"]


def test_a_flat_folder_and_a_single_file_have_no_labels(tmp_path: Path) -> None:
    fill(tmp_path, {"1.json": b'{"size": 3}', "2.json": b'{"size": 4}'})
    assert list(load_samples(tmp_path, RECORD, LABELS).values) == [{"size": 3}, {"size": 4}]
    alone = load_samples(tmp_path / "2.json", RECORD, LABELS)
    assert (alone.names, list(alone.values), alone.y) == (("2.json",), [{"size": 4}], None)


def test_arrays_may_be_files_of_a_folder(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([1.0, 2.0]))
    (value,) = load_samples(tmp_path, PAIR, LABELS).values
    assert np.asarray(value).tolist() == [1, 2]


def test_taking_some_samples_takes_what_is_known_of_them(tmp_path: Path) -> None:
    rows = [{"x": [at, at], "label": at % 3, "group": at} for at in range(6)]
    taken = load_samples(write_jsonl(tmp_path / "a.jsonl", rows), PAIR, LABELS).take(
        np.array([4, 1])
    )
    assert [np.asarray(value)[0] for value in taken.values] == [4, 1]
    assert [np.asarray(value)[0] for value in taken.values[1:]] == [1]
    assert taken.y is not None
    assert taken.groups is not None
    assert (len(taken), taken.y.tolist(), taken.groups.tolist()) == (2, [1, 1], [4, 1])
    assert taken.names == ("5", "2")


def test_long_work_tells_how_far_it_is(tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    np.savez(tmp_path / "a.npz", x=np.zeros((600, 2), np.float32))
    load_samples(
        tmp_path / "a.npz", PAIR, LABELS, progress=lambda done, of: told.append((done, of))
    )
    assert told == [(256, 600), (512, 600), (600, 600)]


# What is wrong, by name.


def refused(error: type[ModelsError], path: Path, spec: TensorSpec, **columns: str) -> str:
    with pytest.raises(error) as caught:
        load(path, spec, **columns)
    return str(caught.value)


def load(path: Path, spec: TensorSpec, **columns: str) -> Samples:
    return load_samples(path, spec, LABELS, **columns)  # type: ignore[arg-type]


def test_no_such_file(tmp_path: Path) -> None:
    assert "none.csv" in refused(FileMissing, tmp_path / "none.csv", RECORD)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_nothing_in_a_file(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    assert "empty" in refused(DataEmpty, tmp_path / name, RECORD)


def test_a_header_and_no_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("size,label\n")
    assert "no rows" in refused(DataEmpty, tmp_path / "a.csv", RECORD)


def test_nothing_in_a_folder_says_which_files_it_looked_for(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(b"GIF89a")
    assert ".png" in refused(DataEmpty, tmp_path, FILE)


def test_a_suffix_nobody_reads(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    assert ".parquet" in refused(DataUnreadable, tmp_path / "a.xlsx", RECORD)


@pytest.mark.parametrize("name", ["a.npz", "a.parquet"])
def test_a_file_that_is_not_what_its_name_says(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"not this")
    assert "write it" in refused(DataUnreadable, tmp_path / name, RECORD)


def test_arrays_that_end_too_early(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 2), np.float32), y=np.zeros(3, int))
    assert "one value for each row" in refused(DataUnreadable, tmp_path / "a.npz", PAIR)


def test_an_unknown_column_is_named_with_those_there_are(table: Callable[[Table], Path]) -> None:
    for column in ("label", "group", "cloud", "name"):
        said = refused(
            ColumnUnknown, table([{"size": 1, "truth": "bag"}]), RECORD, **{column: "klass"}
        )
        assert "'klass'" in said
        assert "size, truth" in said


def test_a_folder_has_no_columns(tmp_path: Path) -> None:
    fill(tmp_path, {"bag/1.png": b"one"})
    assert "'klass'" in refused(ColumnUnknown, tmp_path, FILE, label="klass")


@pytest.mark.parametrize("label", ["crate", "3", 3, -1, 1.5, None, True, ""], ids=repr)
def test_a_label_outside_the_label_set_is_named_with_its_row(label: object, tmp_path: Path) -> None:
    rows = [{"size": 1, "label": "bag"}, {"size": 2, "label": label}]
    said = refused(LabelOutside, write_jsonl(tmp_path / "a.jsonl", rows), RECORD)
    assert "row 2" in said
    assert "box, tube, bag" in said


def test_a_folder_that_is_no_label_is_named_with_its_file(tmp_path: Path) -> None:
    fill(tmp_path, {"bag/1.png": b"one", "crate/2.png": b"two"})
    assert "crate/2.png" in refused(LabelOutside, tmp_path, FILE)
    fill(tmp_path / "flat", {"bag/1.png": b"one", "loose.png": b"two"})
    assert "loose.png) has no label" in refused(LabelOutside, tmp_path / "flat", FILE)


def test_names_that_are_numbers_are_names_first(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "a.csv", [{"size": 1, "label": "1"}])
    found = load_samples(file, RECORD, ("2", "0", "1"))
    assert found.y is not None
    assert found.y.tolist() == [2]


def test_a_true_value_that_is_no_number(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "a.csv", [{"size": 1, "label": "many"}])
    with pytest.raises(LabelOutside, match="row 1 has 'many'"):
        load_samples(file, RECORD, ())


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("a.csv", b"size,label\n1,bag\n2\n", "1 cells"),
        ("a.csv", b"size,label\n1,bag\n\xff,bag\n", "UTF-8"),
        ("a.jsonl", b'{"size": 1, "label": "bag"}\n{"size": 2,\n', "no JSON"),
        ("a.jsonl", b'{"size": 1, "label": "bag"}\n{"size": [2], "label": "bag"}\n', "'size'"),
        ("a.jsonl", b'{"size": 1, "label": "bag"}\n{"size": ' + b"[" * 50_000, "recursion"),
        ("a.jsonl", b'{"size": 1, "label": "bag"}\n\n{"size": "\xff"}\n', "no JSON"),
    ],
)
def test_an_unreadable_row_is_named_by_its_number(
    name: str, data: bytes, why: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(data)
    said = refused(RowUnreadable, tmp_path / name, RECORD)
    assert "row 2" in said
    assert why in said


def test_an_open_quote_is_a_row_and_not_the_end(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'text,label\nfine,bag\n"open' + b"x" * 140_000 + b"\n")
    assert "row 2" in refused(RowUnreadable, tmp_path / "a.csv", TEXT)


def test_a_cell_that_is_no_number_is_named_with_its_column(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "a.csv", [{"a": 1, "b": 2}, {"a": 3, "b": "wide"}])
    said = refused(RowUnreadable, file, PAIR)
    assert "row 2" in said
    assert "'b' is 'wide'" in said


def test_a_value_that_is_not_finite_is_named_with_its_row(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([[0, 1], [0, np.nan], [0, 1e300]]))
    assert "row 2" in refused(RowUnreadable, tmp_path / "a.npz", PAIR)


def test_numbers_beyond_the_package_s_type_are_refused(tmp_path: Path) -> None:
    for number in (256, -1, 0.5, 1e30):
        file = write_jsonl(tmp_path / "a.jsonl", [{"x": [[0, 1, 2], [3, 4, number]]}])
        assert "uint8" in refused(RowUnreadable, file, GRID)


def test_another_number_of_columns_is_a_wrong_shape(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "a.csv", [{"a": 1, "b": 2, "c": 3}])
    assert "3 columns" in refused(WrongShape, file, PAIR)


def test_arrays_of_another_shape_or_type_are_refused_as_a_whole(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((5, 3, 2), np.uint8))
    assert "[3, 2]" in refused(WrongShape, tmp_path / "a.npz", GRID)
    np.savez(tmp_path / "a.npz", x=np.zeros((5, 2, 3), np.float32))
    assert "uint8" in refused(WrongDtype, tmp_path / "a.npz", GRID)


def test_python_objects_in_arrays_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([{"size": 1}, None]))
    assert "Python objects" in refused(DataUnreadable, tmp_path / "a.npz", RECORD)


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("size,size\n1,2\n")
    assert "two columns 'size'" in refused(DataUnreadable, tmp_path / "a.csv", RECORD)


def test_an_empty_group_is_refused(tmp_path: Path) -> None:
    rows: Table = [{"size": 1, "group": "a"}, {"size": 1, "group": None}]
    assert "row 2 has no group" in refused(
        RowUnreadable, write_csv(tmp_path / "a.csv", rows), RECORD
    )
