"""Packages of every head and kind of input, built and answered end to end, golden answers too."""

import io
import math
import struct
import tracemalloc
import zipfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from models import package
from models.archive import Entry
from models.build import Chosen, Drawn, Half, Parts, build, file_ref
from models.calibrate.by_hand import by_hand
from models.errors import ManifestInvalid
from models.manifest import Role, TensorSpec
from models.pipeline.answers import Classified, Detected, Estimated, Flagged, Found
from models.pipeline.declared import (
    Crop,
    Features,
    Gives,
    Join,
    Model,
    Nms,
    Node,
    Pipeline,
    Relabel,
    Steps,
)
from models.pipeline.features_twin import FeatureTable
from models.pipeline.heads import Anomaly, Classify, Detect, Head, Regress, Search
from models.pipeline.ops.image import DecodeImage, Resize
from models.pipeline.ops.series import SlidingWindow
from models.pipeline.ops.table import Columns, Numeric
from models.pipeline.ops.tensor import Cast, Scale
from models.pipeline.values import Value
from models.predict import Predictor
from models.references import read_references
from models.tensors import check_input
from tests.contracts.model_files import In, Out, write_onnx, write_twin


def entry(folder: Path, name: str, inputs: Sequence[In], outputs: Sequence[Out]) -> Entry:
    """An ONNX file that gives parts of what it is given."""
    return Entry(name, write_onnx(folder / name, inputs, outputs, None).read_bytes())


def model(id: str, after: str, file: Entry, *outputs: Out) -> Model:
    gives = tuple(Gives(out.name, out.shape, out.dtype) for out in outputs)
    return Model(id, (after,), file_ref(file), gives)


FOUR = Drawn(0, 1, count=4)


def built(
    folder: Path,
    given: TensorSpec,
    head: Head,
    nodes: tuple[Node, ...],
    files: tuple[Entry, ...],
    *,
    golden: Drawn | Chosen = FOUR,
    others: tuple[Entry, ...] = (),
) -> Path:
    """A package whose halves are the same graph."""
    half = Half(Pipeline(nodes, nodes[-1].id), files)
    parts = Parts(
        name="built",
        task="built",
        given=given,
        answer=head,
        edge=half,
        cloud=half,
        certificate=by_hand(note="for a test", threshold=0.5),
        golden=golden,
        others=others,
    )
    return build(parts, "1", folder / "package")


def served(folder: Path, sources: dict[str, FeatureTable] | None = None) -> Predictor:
    """The edge half as a device gets it: through its archive, golden answers checked."""
    for role in Role:
        packed = package.pack(folder, role)
        unpacked = package.unpack(packed, folder.parent / f"served-{role.value}")
        Predictor.load(package.read(unpacked, role)).check_golden()
    return Predictor.load(
        package.read(folder.parent / "served-edge", Role.EDGE), sources=sources or {}
    )


def row(*values: float) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    return np.array(values, np.float32)


def test_an_interval_is_estimated(tmp_path: Path) -> None:
    out = Out("interval", (3,))
    file = entry(tmp_path, "m.onnx", [In("x", (3,))], [out])
    head = Regress(tolerance=2.0, unit="kWh")
    given = TensorSpec("load", "float32", (3,), "T")
    predictor = served(built(tmp_path, given, head, (model("m", "load", file, out),), (file,)))
    found = predictor.predict(row(11, 12.34, 13))
    assert found.label == "12.34 kWh"
    assert found.confidence == pytest.approx(0.5)
    assert isinstance(found.answer, Estimated)
    assert (found.answer.low, found.answer.high) == (11, 13)
    assert msgspec.json.decode(found.details())["kind"] == "estimated"
    assert predictor.predict(row(3, 2, 1)).confidence is None, "an interval upside down"
    broken = predictor.predict(row(1, math.nan, 3))
    assert (broken.label, broken.confidence) == ("no value", None)


def test_members_of_an_ensemble_are_an_interval(tmp_path: Path) -> None:
    outs = [Out("v", (1,), skip=at) for at in range(3)]
    files = tuple(
        entry(tmp_path, f"m{at}.onnx", [In("x", (3,))], [out]) for at, out in enumerate(outs)
    )
    nodes: tuple[Node, ...] = tuple(
        model(f"m{at}", "load", file, out)
        for at, (file, out) in enumerate(zip(files, outs, strict=True))
    )
    given = TensorSpec("load", "float32", (3,), "T")
    head = Regress(tolerance=4.0, form="members")
    whole = (*nodes, Join("all", ("m0", "m1", "m2")))
    found = served(built(tmp_path, given, head, whole, files)).predict(row(2, 3, 4))
    assert found.answer == Estimated(3, 2, 4)
    assert found.confidence == pytest.approx(1 / 1.5)


def test_an_alarm_needs_k_of_w_windows(tmp_path: Path) -> None:
    out = Out("score", (1,))
    file = entry(tmp_path, "m.onnx", [In("x", (2, 1))], [out])
    nodes: tuple[Node, ...] = (
        Steps("windows", "series", (SlidingWindow(2, 2),)),
        model("m", "windows", file, out),
    )
    given = TensorSpec("series", "float32", (12, 1), "TC")
    head = Anomaly(threshold=0.8, scale=0.1, needed=2, of=3)
    predictor = served(built(tmp_path, given, head, nodes, (file,)))

    def scores(*values: float) -> tuple[str, float | None]:
        series = np.repeat(row(*values), 2)[:, None]
        found = predictor.predict(series)
        assert isinstance(found.answer, Flagged)
        return found.label, found.confidence

    assert scores(0.1, 0.9, 0.1, 0.9, 0.1, 0.1)[0] == "anomalous", "two of windows 1 to 3"
    assert scores(0.9, 0.1, 0.1, 0.9, 0.1, 0.1)[0] == "normal", "never two of three"
    label, sure = scores(0, 0, 0.7, 0.7, 0, 0)
    assert label == "normal"
    assert sure == pytest.approx(1 - math.exp(-1), rel=1e-4)
    assert scores(0, math.nan, 0, 0, 0, 0) == ("normal", None)


def reference(*rows: Sequence[float]) -> Entry:
    held = io.BytesIO()
    np.savez(held, rows=np.array(rows, np.float32))
    return Entry("reference.npz", held.getvalue())


def searching(folder: Path, rows: Entry) -> Path:
    out = Out("embedding", (2,))
    file = entry(folder, "m.onnx", [In("x", (2,))], [out])
    head = Search(("bolt", "nut", "nut"), file_ref(rows))
    given = TensorSpec("shape", "float32", (2,), "C")
    nodes = (model("m", "shape", file, out),)
    return built(folder, given, head, nodes, (file,), others=(rows,))


def test_the_nearest_reference_is_found_by_both_halves(tmp_path: Path) -> None:
    folder = searching(tmp_path, reference([1, 0], [0, 2], [0, -1]))
    assert package.read(folder, Role.CLOUD).manifest.labels == ("bolt", "nut", "nut")
    predictor = served(folder)
    found = predictor.predict(row(3, 4))
    assert isinstance(found.answer, Found)
    assert found.label == "nut"
    assert found.answer.similarity == pytest.approx(0.8)
    assert found.confidence == pytest.approx(0.1)
    assert predictor.predict(row(0, 0)).confidence is None


def test_references_that_are_not_one_row_a_label_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestInvalid, match=r"reference\.npz does not hold one row for each"):
        searching(tmp_path, reference([1, 0], [0, 2]))


def zipped(name: str, data: bytes, packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", packing) as file:
        file.writestr(name, data)
    return held.getvalue()


def npy(shape: tuple[int, ...], values: bytes, dtype: str = "<f4") -> bytes:
    """A `.npy` file whose header says what it likes."""
    head = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + values


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no archive",
        zipped("rows.txt", b"no array"),
        zipped("rows.npy", npy((3, 2), bytes(23))),
        zipped("rows.npy", npy((3, 2), bytes(24), "<U1")),
        zipped("rows.npy", npy((3, 2), bytes(24)), zipfile.ZIP_LZMA),
        zipped("rows.npy", npy((3, 1 << 40), b"")),
        zipped("rows.npy", npy((3, -1), bytes(1 << 20))),
    ],
    ids=["empty", "text", "entry", "short", "letters", "lzma", "claims", "negative"],
)
def test_a_file_of_references_takes_no_more_memory_than_its_rows(
    tmp_path: Path, data: bytes
) -> None:
    head = Search(("bolt", "nut", "nut"), file_ref(Entry("reference.npz", data)))
    path = tmp_path / "reference.npz"
    path.write_bytes(data)
    tracemalloc.start()
    with pytest.raises(ManifestInvalid, match=r"reference\.npz does not hold one row"):
        read_references(head, path, None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_references_in_any_order_of_memory_are_the_same(tmp_path: Path) -> None:
    rows = np.array([[1, 0], [0, 2], [0, -1]], np.float64)
    head = Search(("bolt", "nut", "nut"), file_ref(reference([1, 0])))
    for order in ("C", "F"):
        np.savez(tmp_path / "rows.npz", rows=np.asarray(rows, order=order))
        found = read_references(head, tmp_path / "rows.npz", 2)
        np.testing.assert_array_equal(found.rows, [[1, 0], [0, 1], [0, -1]])


def png(boxes: Sequence[Sequence[int]], scores: Sequence[int]) -> bytes:
    """8 x 8: its first pixels say what the detector will, the lower half what the crops are."""
    held = np.zeros((8, 8, 3), np.uint8)
    flat = held.reshape(-1)
    flat[:8], flat[8:10] = np.array(boxes).ravel(), scores
    held[4:, :4], held[4:, 4:] = (0, 250, 0), (0, 0, 250)
    file = io.BytesIO()
    Image.fromarray(held).save(file, "PNG")
    return file.getvalue()


BOXES = [[0, 4, 4, 8], [4, 4, 8, 8]]
SEEN = Out("boxes", (2, 4)), Out("scores", (2, 1), 8)
NAMES = Out("logits", (3,))


LABELS = ("red", "green", "blue")


def detecting(folder: Path, labels: tuple[str, ...] = LABELS) -> Path:
    looks = entry(folder, "detector.onnx", [In("x", (8, 8, 3))], SEEN)
    names = entry(folder, "namer.onnx", [In("x", (1, 1, 3))], [NAMES])
    nodes: tuple[Node, ...] = (
        Steps("picture", "photo", (DecodeImage(), Resize(8, 8, "nearest"))),
        Steps("pixels", "picture", (Cast("float32"),)),
        model("detector", "pixels", looks, *SEEN),
        Steps("shares", "detector.scores", (Scale((0.01,)),)),
        Nms("found", "detector.boxes", "shares", floor=0.2),
        Crop("crops", "picture", "found", 1, 1),
        Steps("ready", "crops", (Cast("float32"),)),
        model("namer", "ready", names, NAMES),
        Relabel("named", "found", "namer"),
    )
    head = Detect(labels, threshold=0.5)
    given = TensorSpec("photo", "bytes")
    golden = Chosen((png(BOXES, (90, 80)), png(BOXES, (10, 5))))
    return built(folder, given, head, nodes, (looks, names), golden=golden)


def test_objects_are_found_and_named(tmp_path: Path) -> None:
    predictor = served(detecting(tmp_path))
    found = predictor.predict(png(BOXES, (90, 80)))
    assert found.label == "1 green, 1 blue"
    assert found.confidence == pytest.approx(0.8)
    assert isinstance(found.answer, Detected)
    assert [(one.label, one.box) for one in found.answer.objects] == [
        ("green", (0, 4, 4, 8)),
        ("blue", (4, 4, 8, 8)),
    ]
    assert msgspec.json.decode(found.details())["objects"][1]["label"] == "blue"
    nothing = predictor.predict(png(BOXES, (10, 40)))
    assert nothing.label == "nothing"
    assert nothing.confidence == pytest.approx(0.6)
    assert [one.label for one in predictor.predict_batch([png(BOXES, (90, 10))] * 2)] == [
        "1 green",
        "1 green",
    ]


def test_a_detector_of_more_classes_than_labels_is_refused(tmp_path: Path) -> None:
    says = r"node 'named': candidates of 3 classes cannot have 2 labels"
    with pytest.raises(ManifestInvalid, match=says):
        detecting(tmp_path, ("red", "green"))


def test_a_detector_that_shows_no_candidate_at_all_is_judged_by_its_floor(tmp_path: Path) -> None:
    rows = Out("rows", (0, 6))
    looks = Entry(
        "detector.json",
        write_twin(tmp_path / "detector.json", [In("x", (8, 8, 3))], [rows], None).read_bytes(),
    )
    names = entry(tmp_path, "namer.onnx", [In("x", (1, 1, 3))], [NAMES])
    nodes: tuple[Node, ...] = (
        Steps("pixels", "photo", (Cast("float32"),)),
        Model("detector", ("pixels",), file_ref(looks), (Gives("rows", (None, 6)),), "twin"),
        Crop("crops", "photo", "detector", 1, 1),
        Steps("ready", "crops", (Cast("float32"),)),
        model("namer", "ready", names, NAMES),
        Relabel("named", "detector", "namer"),
    )
    head = Detect(LABELS, threshold=0.5, floor=0.3)
    given = TensorSpec("photo", "uint8", (8, 8, 3), "HWC")
    golden = Drawn(0, 255, count=1)
    folder = built(tmp_path, given, head, nodes, (looks, names), golden=golden)
    found = served(folder).predict(np.zeros((8, 8, 3), np.uint8))
    assert found.label == "nothing"
    assert found.confidence == pytest.approx(0.7)


# Inputs that are no arrays, and one that is of halves.


def test_a_record_with_features_is_classified_and_says_how_old_they_are(tmp_path: Path) -> None:
    out = Out("logits", (2,))
    file = entry(tmp_path, "m.onnx", [In("x", (2,))], [out])
    nodes: tuple[Node, ...] = (
        Features("past", "payment", "store", ("spent",), (0.5,), 60.0, "customer"),
        Steps("now", "payment", (Columns((Numeric("amount"),)),)),
        Join("row", ("now", "past")),
        model("m", "row", file, out),
    )
    given = TensorSpec("payment", "record")
    golden = Chosen((b'{"amount": 3, "customer": "zoe"}', b'{"amount": -3, "customer": "zoe"}'))
    head = Classify(("fine", "fraud"), top=2)
    folder = built(tmp_path, given, head, nodes, (file,), golden=golden)
    sources = {"store": FeatureTable({"ann": {"spent": 9.0}})}
    predictor = served(folder, sources)
    known = predictor.predict(check(given, b'{"amount": 3, "customer": "ann"}'))
    assert known.label == "fraud"
    assert known.feature_age_s == pytest.approx(0, abs=5)
    assert isinstance(known.answer, Classified)
    assert [one.label for one in known.answer.top] == ["fraud", "fine"]
    new = predictor.predict(check(given, b'{"amount": 3, "customer": "eve"}'))
    assert new.label == "fine"
    assert new.feature_age_s is not None
    assert math.isnan(new.feature_age_s)


def check(given: TensorSpec, data: bytes) -> Value:
    return check_input(given, given.dtype, (len(data),), data)


def test_golden_inputs_of_halves_are_spread_like_any_floats(tmp_path: Path) -> None:
    out = Out("logits", (3,), 0, "float16")
    file = entry(tmp_path, "m.onnx", [In("x", (6,), "float16")], [out])
    given = TensorSpec("x", "float16", (6,), "C")
    nodes = (model("m", "x", file, out),)
    golden = Drawn(-4, 4, count=2)
    folder = built(tmp_path, given, Classify(("a", "b", "c")), nodes, (file,), golden=golden)
    predictor = served(folder)
    samples = predictor.golden_samples()
    values = np.concatenate([np.asarray(one) for one in samples])
    assert values.dtype == np.float16
    assert values.min() >= -4
    assert values.max() <= 4
    assert (values != values.round()).any(), "not whole numbers alone"
    assert predictor.predict(np.array([0, 3, 1, 0, 0, 0], np.float16)).label == "b"
