"""Graphs of nodes on real files: what is computed, what is not, and one sample as in a batch."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
from msgspec.structs import replace
from tokenizers import Tokenizer, models, pre_tokenizers

from models.errors import (
    CustomCodeForbidden,
    CustomStepFailed,
    FieldMissing,
    RuntimeFailed,
    WrongShape,
)
from models.package import digest
from models.pipeline.declared import (
    Crop,
    Custom,
    Ensemble,
    Features,
    Form,
    Gives,
    Join,
    Model,
    Nms,
    Node,
    Pipeline,
    Relabel,
    Steps,
    Switch,
    Tokenise,
    Unletterbox,
)
from models.pipeline.features_twin import FeatureTable
from models.pipeline.files import FileRef
from models.pipeline.graph import Graph
from models.pipeline.kinds import Kind
from models.pipeline.nodes import Resources
from models.pipeline.ops.families import Step
from models.pipeline.ops.image import Letterbox
from models.pipeline.ops.scores import Dequantise
from models.pipeline.ops.series import SlidingWindow
from models.pipeline.ops.table import Columns, Flag, Numeric
from models.pipeline.ops.tensor import Cast, Pool, Reshape, Scale, Transpose
from models.pipeline.ops.text import Clean
from models.pipeline.values import Array, Record, Value
from models.runtimes.base import Runtime
from models.runtimes.choose import open_model
from tests.contracts.model_files import WRITERS, In, Out

FORMS: tuple[Form, ...] = ("twin", "onnx")


class Counted:
    """A runtime that notes how many rows it was given each time."""

    def __init__(self, whole: Runtime, note: Callable[[int], None]) -> None:
        self._whole, self._note = whole, note
        self.name, self.version = whole.name, whole.version
        self.provider, self.skipped, self.precision = whole.provider, whole.skipped, whole.precision
        self.inputs, self.outputs = whole.inputs, whole.outputs

    def run(self, feeds: Sequence[Array]) -> tuple[Array, ...]:
        self._note(len(feeds[0]))
        return self._whole.run(feeds)


class Bench:
    """A folder of files, and graphs over them; `ran` is what was run, with how many rows."""

    def __init__(self, folder: Path, form: Form = "twin") -> None:
        self.folder = folder
        self.form = form
        self.ran: list[tuple[str, int]] = []

    def file(self, name: str, data: bytes) -> FileRef:
        (self.folder / name).write_bytes(data)
        return FileRef(name, digest(data), len(data))

    def model(
        self, id: str, after: str | tuple[str, ...], inputs: Sequence[In], *outputs: Out
    ) -> Model:
        """A model that gives parts of what it is given."""
        path = WRITERS[self.form](self.folder / f"{id}.{self.form}", inputs, outputs, None)
        return Model(
            id,
            (after,) if isinstance(after, str) else after,
            self.file(path.name, path.read_bytes()),
            tuple(Gives(out.name, out.shape, out.dtype) for out in outputs),
            self.form,
        )

    def cut(self, id: str, after: str, wide: int, shape: int = 3, skip: int = 0) -> Model:
        """The commonest: `shape` numbers of a row of `wide`."""
        return self.model(id, after, [In("x", (wide,))], Out("logits", (shape,), skip))

    def graph(
        self,
        given: Kind,
        *nodes: Node,
        output: str = "",
        allow_custom: bool = False,
        sources: Mapping[str, FeatureTable] | None = None,
        clock: "Time | None" = None,
    ) -> Graph:
        pipeline = Pipeline(nodes, output or nodes[-1].id)
        resources = Resources(self.folder, allow_custom, sources or {}, clock or Time())
        return Graph(pipeline, "in", given, self._open, resources)

    def _open(self, node: Model) -> Runtime:
        def note(rows: int) -> None:
            self.ran.append((node.id, rows))

        return Counted(open_model(self.folder / node.file.path, node.form), note)


class Time:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now


@pytest.fixture(params=FORMS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    return Bench(tmp_path, request.param)


@pytest.fixture
def twins(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def row(*values: float) -> npt.NDArray[np.float32]:
    return np.array(values, np.float32)


def steps(id: str, after: str, *wanted: Step) -> Steps:
    return Steps(id, after, wanted)


SIX = Kind("float32", (6,))


def agree(graph: Graph, samples: Sequence[Value]) -> None:
    """A batch gives what its samples give one by one, prepared and finished apart as well."""
    alone = [graph.run(sample) for sample in samples]
    for together in (
        graph.run_batch(samples),
        graph.finish_all([graph.prepare(sample) for sample in samples]),
        [graph.finish(graph.prepare(sample)) for sample in samples],
    ):
        for one, other in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype


def six(count: int = 5) -> list[Value]:
    return list(np.random.default_rng(3).normal(size=(count, 6)).astype(np.float32))


# Branches, joins, ensembles.


def test_branches_meet_in_a_join(bench: Bench) -> None:
    graph = bench.graph(
        SIX,
        bench.cut("a", "in", 6),
        steps("b", "in", Scale((10.0,))),
        Join("j", ("a", "b", "a")),
        bench.cut("out", "j", 12, 12),
    )
    found = graph.run(row(1, 2, 3, 4, 5, 6))
    assert found.tolist() == [1, 2, 3, 10, 20, 30, 40, 50, 60, 1, 2, 3]
    assert [one.name for one in graph.runtimes] == [bench.form] * 2
    agree(graph, six())


NINE = row(5, 2, 0, 0, 3, 1, 0, 4, 0)
"""What three members say, one after the other."""


def members(bench: Bench) -> list[Model]:
    return [bench.cut(name, "in", 9, 3, 3 * at) for at, name in enumerate("abc")]


@pytest.mark.parametrize(
    ("how", "weights", "expected"),
    [
        ("mean", (), [5 / 3, 3, 1 / 3]),
        ("weighted", (1.0, 1.0, 2.0), [1.25, 3.25, 0.25]),
        ("vote", (), [1 / 3, 2 / 3, 0]),
    ],
)
def test_an_ensemble_of_three(
    bench: Bench,
    how: Literal["mean", "vote", "weighted"],
    weights: tuple[float, ...],
    expected: list[float],
) -> None:
    ensemble = Ensemble("e", ("a", "b", "c"), how, weights)
    graph = bench.graph(Kind("float32", (9,)), *members(bench), ensemble)
    found = graph.run(NINE)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    agree(graph, [NINE, NINE + 1])


@pytest.mark.parametrize("broken", [[math.nan, 0, 1], [math.inf, 0, 1], [2, 2, 2]], ids=str)
def test_a_vote_with_a_member_that_says_nothing_says_nothing(
    twins: Bench, broken: list[float]
) -> None:
    graph = twins.graph(
        Kind("float32", (9,)), *members(twins), Ensemble("e", ("a", "b", "c"), "vote")
    )
    assert np.isnan(graph.run(np.concatenate([row(*broken), NINE[3:]]))).all()


@pytest.mark.parametrize("how", ["mean", "weighted"])
def test_a_broken_member_breaks_the_classes_it_is_broken_in(
    twins: Bench, how: Literal["mean", "weighted"]
) -> None:
    weights = (1.0, 2.0, 3.0) if how == "weighted" else ()
    graph = twins.graph(
        Kind("float32", (9,)), *members(twins), Ensemble("e", ("a", "b", "c"), how, weights)
    )
    found = graph.run(row(math.nan, 1, math.inf, 0, 3, 1, 0, 4, -math.inf))
    assert np.isfinite(found).tolist() == [False, True, False]


def test_members_may_be_lists(twins: Bench) -> None:
    graph = twins.graph(
        Kind("float32", (4, 3)),
        steps("w", "in", SlidingWindow(2, 1)),
        twins.model("a", "w", [In("x", (2, 3))], Out("logits", (3,))),
        twins.model("b", "w", [In("x", (2, 3))], Out("logits", (3,), 3)),
        Ensemble("v", ("a", "b"), "vote"),
        steps("out", "v", Pool()),
    )
    sample = np.eye(4, 3, dtype=np.float32) + row(0, 0, 0.5)
    # Windows of rows 0|1, 1|2, 2|3: they vote for the larger of each row, in turn 0, 1, 2, 2.
    assert graph.run(sample).tolist() == pytest.approx([1 / 6, 2 / 6, 3 / 6])
    assert twins.ran == [("a", 3), ("b", 3)]


# Switches.


def by_first(twins: Bench, *, confident: bool = False) -> Graph:
    """Cheap first; the other model where its first number, or its confidence, is too small."""
    on = twins.cut("small", "in", 6, 3) if confident else twins.cut("small", "in", 6, 1)
    return twins.graph(
        SIX,
        on,
        twins.cut("large", "in", 6, 3, 3),
        twins.cut("tiny", "in", 6, 3),
        Switch("s", "small", 0.8, "tiny", "large", "confidence" if confident else "value"),
    )


@pytest.mark.parametrize(
    ("first", "way"), [(0.8, "tiny"), (2.0, "tiny"), (0.79, "large"), (math.nan, "large")]
)
def test_a_switch_by_value_runs_the_way_it_takes_and_not_the_other(
    bench: Bench, first: float, way: str
) -> None:
    graph = by_first(bench)
    found = graph.run(row(first, 2, 3, 4, 5, 6))
    assert found.tolist()[1:] == ([2, 3] if way == "tiny" else [5, 6])
    assert bench.ran == [("small", 1), (way, 1)]
    agree(graph, six())


@pytest.mark.parametrize(
    ("logits", "way"),
    [
        ((5, 0, 0), "tiny"),  # 0.987
        ((1, 0, 0), "large"),  # 0.576
        ((3, 3, 3), "large"),
        ((math.nan, 0, 0), "large"),
        ((math.inf, 0, 0), "large"),
    ],
)
def test_a_switch_by_confidence_goes_on_where_an_answer_means_too_little(
    twins: Bench, logits: tuple[float, ...], way: str
) -> None:
    by_first(twins, confident=True).run(row(*logits, 7, 8, 9))
    assert twins.ran == [("small", 1), (way, 1)]


def test_a_switch_that_is_never_sure_of_equal_logits_stays_so_at_any_floor(twins: Bench) -> None:
    graph = twins.graph(
        Kind("float32", (3,)),
        twins.cut("then", "in", 3),
        Switch("s", "in", 0.1, "then", "in", "confidence"),
    )
    graph.run(row(1, 1, 1))
    assert twins.ran == []


def nested(bench: Bench) -> Graph:
    """`shared` is on both ways of the inner switch, and `first` in the answer as well."""
    return bench.graph(
        SIX,
        bench.cut("first", "in", 6, 1),
        bench.cut("second", "in", 6, 1, 1),
        bench.cut("shared", "in", 6, 3),
        bench.cut("left", "shared", 3),
        Join("right", ("shared",) * 2),
        bench.cut("half", "right", 6, 3, 3),
        Switch("inner", "second", 0.0, "left", "half"),
        Switch("outer", "first", 0.0, "inner", "shared"),
        Join("out", ("outer", "first")),
    )


@pytest.mark.parametrize(
    ("sample", "ran"),
    [
        ((1, 1), ["first", "left", "second", "shared"]),
        ((1, -1), ["first", "half", "second", "shared"]),
        ((-1, 1), ["first", "shared"]),
    ],
)
def test_a_node_that_several_ways_need_is_run_once_and_only_where_it_is_needed(
    bench: Bench, sample: tuple[float, float], ran: list[str]
) -> None:
    graph = nested(bench)
    found = graph.run(row(*sample, 3, 4, 5, 6))
    assert found.tolist() == [*sample, 3, sample[0]]
    assert sorted(name for name, _ in bench.ran) == ran
    agree(graph, six())


def test_a_way_that_the_answer_needs_anyway_is_not_run_again(twins: Bench) -> None:
    graph = twins.graph(
        SIX,
        twins.cut("a", "in", 6),
        twins.cut("b", "in", 6, 3, 3),
        Switch("s", "a", 0.5, "a", "b", "confidence"),
        Join("out", ("s", "b")),
    )
    assert graph.run(row(1, 1, 1, 4, 5, 6)).tolist() == [4, 5, 6, 4, 5, 6]
    assert sorted(twins.ran) == [("a", 1), ("b", 1)]


def test_the_branch_not_taken_may_hold_code_that_fails(twins: Bench) -> None:
    code = twins.file("bad.py", b"def bad(x):\n    raise ValueError('asked')\n")
    graph = twins.graph(
        Kind("float32", (1,)),
        Custom("c", ("in",), code, "bad", Gives("value", (1,))),
        Switch("s", "in", 0.0, "c", "in"),
        allow_custom=True,
    )
    assert graph.run(row(-1)).tolist() == [-1]
    with pytest.raises(CustomStepFailed, match=r"bad\.py:bad failed: ValueError: asked"):
        graph.run(row(1))


def test_many_switches_on_the_same_ways_load_and_run_at_once(twins: Bench) -> None:
    """Each on both ways of the next: done naively, two to the power of their number."""
    nodes: list[Node] = [steps("s0", "in", Scale((2.0,)))]
    nodes += [Switch(f"s{at}", "in", 0.0, f"s{at - 1}", f"s{at - 1}") for at in range(1, 60)]
    assert twins.graph(Kind("float32", (1,)), *nodes).run(row(3)).tolist() == [6]
    chain: list[Node] = [twins.cut("n0", "in", 6)]
    chain += [Ensemble(f"n{at}", (f"n{at - 1}",) * 2) for at in range(1, 60)]
    assert twins.graph(SIX, *chain).run(row(1, 2, 3, 4, 5, 6)).tolist() == [1, 2, 3]


# Detect, then classify what was found.

PICTURE = Kind("uint8", (8, 8, 3))


def crops(bench: Bench, *, classes: int = 3) -> Graph:
    """Two boxes and their scores are the first twelve values; the crop's own say what it is."""
    return bench.graph(
        PICTURE,
        steps("row", "in", Cast("float32")),
        bench.model(
            "detector", "row", [In("x", (8, 8, 3))], Out("boxes", (2, 4)), Out("scores", (2, 2), 8)
        ),
        steps("shares", "detector.scores", Scale((0.01,))),
        Nms("found", "detector.boxes", "shares", floor=0.3),
        Crop("cut", "in", "found", 2, 2),
        steps("ready", "cut", Cast("float32")),
        bench.model("namer", "ready", [In("x", (2, 2, 3))], Out("logits", (classes,))),
        Relabel("named", "found", "namer"),
    )


def picture(boxes: Sequence[Sequence[int]], scores: Sequence[Sequence[int]]) -> Array:
    """Its first pixels are the detector's answer; the lower half is what the crops see."""
    found = np.zeros((8, 8, 3), np.uint8)
    flat = found.reshape(-1)
    flat[:8] = np.array(boxes).ravel()
    flat[8:12] = np.array(scores).ravel()
    found[4:, :4] = (0, 9, 0)
    found[4:, 4:] = (0, 0, 9)
    return found


def test_what_is_found_is_cut_out_and_named_by_its_own_model(bench: Bench) -> None:
    graph = crops(bench)
    found = graph.run(picture([[0, 4, 4, 8], [4, 4, 8, 8]], [[80, 0], [0, 60]]))
    sure = 1 / (1 + 2 * math.exp(-9))
    np.testing.assert_allclose(
        found, [[0, 4, 4, 8, 0.8 * sure, 1], [4, 4, 8, 8, 0.6 * sure, 2]], rtol=1e-5
    )
    assert bench.ran == [("detector", 1), ("namer", 2)]


def test_where_the_detector_is_unsure_of_everything_its_best_candidate_is_judged(
    bench: Bench,
) -> None:
    found = crops(bench).run(picture([[0, 4, 4, 8], [4, 4, 8, 8]], [[10, 0], [0, 20]]))
    assert found.shape == (1, 6)
    assert found[0, 4] == pytest.approx(0.2, rel=1e-2)


@pytest.mark.parametrize("classes", [3, 1])
def test_of_no_crop_no_model_is_asked(twins: Bench, classes: int) -> None:
    """A detector of no rows at all: one that suppresses by itself and found nothing."""
    graph = twins.graph(
        PICTURE,
        steps("row", "in", Cast("float32")),
        twins.model("boxes", "row", [In("x", (8, 8, 3))], Out("rows", (0, 6))),
        *detected_by_itself(twins, classes),
    )
    found = graph.run(picture([[0] * 4] * 2, [[0] * 2] * 2))
    assert found.shape == (0, 6)
    assert [name for name, _ in twins.ran] == ["boxes"]


def detected_by_itself(twins: Bench, classes: int) -> tuple[Node, ...]:
    return (
        Crop("cut", "in", "boxes", 2, 2),
        steps("ready", "cut", Cast("float32")),
        twins.model("namer", "ready", [In("x", (2, 2, 3))], Out("logits", (classes,))),
        Relabel("named", "boxes", "namer"),
    )


def test_pictures_of_any_size_are_looked_at_and_boxes_come_back_onto_them(twins: Bench) -> None:
    graph = twins.graph(
        Kind("uint8", (None, None, 3)),
        steps("small", "in", Letterbox(8, 8), Cast("float32")),
        twins.model(
            "d", "small", [In("x", (8, 8, 3))], Out("boxes", (1, 4), 96), Out("scores", (1, 1), 96)
        ),
        steps("shares", "d.scores", Scale((0.01,))),
        Nms("n", "d.boxes", "shares", normalised=(8, 8)),
        Unletterbox("u", "n", "in", 8, 8),
    )
    wide, high = np.full((16, 32, 3), 1, np.uint8), np.full((40, 20, 3), 1, np.uint8)
    assert graph.run(wide)[0, :4].tolist() == [32, 16, 32, 16]
    assert graph.run(high)[0, :4].tolist() == [20, 40, 20, 40]
    agree(graph, [wide, high])


# Windows, texts, records, features, code.


def test_windows_are_run_as_one_batch_and_pooled(bench: Bench) -> None:
    graph = bench.graph(
        Kind("float32", (None, 2)),
        steps("w", "in", SlidingWindow(2, 2)),
        bench.model("m", "w", [In("x", (2, 2))], Out("logits", (3,))),
        steps("out", "m", Pool()),
    )
    long = np.arange(16, dtype=np.float32).reshape(8, 2)
    assert graph.run(long).tolist() == [6, 7, 8]
    assert bench.ran == [("m", 4)]
    agree(graph, [long, long[:4], long[2:]])


def test_a_series_too_short_for_one_window_is_the_callers_mistake(twins: Bench) -> None:
    graph = twins.graph(
        Kind("float32", (None, 2)),
        steps("w", "in", SlidingWindow(4, 2)),
        twins.model("m", "w", [In("x", (4, 2))], Out("logits", (3,))),
        steps("out", "m", Pool()),
    )
    with pytest.raises(WrongShape, match="3 values is shorter than one window of 4"):
        graph.run(np.zeros((3, 2), np.float32))
    assert twins.ran == []


def test_scores_of_windows_may_be_the_output_themselves(twins: Bench) -> None:
    graph = twins.graph(
        Kind("float32", (None, 1)),
        steps("w", "in", SlidingWindow(2, 2)),
        twins.model("m", "w", [In("x", (2, 1))], Out("score", (1,))),
    )
    assert graph.output == Kind("float32", (1,), many=True)
    assert graph.run(np.arange(6, dtype=np.float32)[:, None]).tolist() == [[0], [2], [4]]


def tokeniser(bench: Bench) -> FileRef:
    made = Tokenizer(models.WordLevel({"[UNK]": 0, "fire": 1, "printer": 2, "on": 3}, "[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return bench.file("words.json", made.to_str().encode())


def test_a_text_becomes_ids_and_a_mask_for_one_model(bench: Bench) -> None:
    graph = bench.graph(
        Kind("text", ()),
        steps("plain", "in", Clean(lower=True)),
        Tokenise("t", "plain", tokeniser(bench), 4),
        bench.model(
            "m",
            ("t.ids", "t.mask"),
            [In("ids", (4,), "int64"), In("mask", (4,), "int64")],
            Out("logits", (8,)),
        ),
    )
    assert graph.run("Printer on FIRE").tolist() == [2, 3, 1, 0, 1, 1, 1, 0]
    ids, mask = graph.feeds("fire", "m")
    assert (ids.tolist(), mask.tolist()) == ([1, 0, 0, 0], [1, 0, 0, 0])
    agree(graph, ["fire", "Printer", "on on on on on"])
    assert ("m", 3) in bench.ran, "texts share a batch"


def test_the_bare_name_of_a_tokeniser_is_its_ids(twins: Bench) -> None:
    graph = twins.graph(Kind("text", ()), Tokenise("t", "in", tokeniser(twins), 3))
    assert graph.run("on fire").tolist() == [3, 1, 0]


def spending(bench: Bench, table: FeatureTable, clock: Time) -> Graph:
    return bench.graph(
        Kind("record", ()),
        Features("f", "in", "store", ("spent", "visits"), (-1.0, 0.0), 60.0, "customer"),
        steps("c", "in", Columns((Numeric("amount"), Flag("new")))),
        Join("row", ("c", "f")),
        bench.cut("m", "row", 4, 4),
        sources={"store": table},
        clock=clock,
    )


def asked_for(graph: Graph, customer: str) -> tuple[list[float], float | None]:
    places = graph.prepare({"customer": customer, "amount": 3, "new": True})
    return graph.finish(places).tolist(), graph.feature_age_s(places)


def test_features_come_from_their_source_the_cache_or_the_default(bench: Bench) -> None:
    clock, table = Time(), FeatureTable({"ann": {"spent": 12.5, "visits": 3}})
    graph = spending(bench, table, clock)
    assert asked_for(graph, "ann") == ([3, 1, 12.5, 3], 0.0)
    clock.now += 20
    assert asked_for(graph, "ann") == ([3, 1, 12.5, 3], 20.0)
    assert table.asked == ["ann"], "cached"
    clock.now += 60
    table.goes_out()
    found, age_s = asked_for(graph, "ann")
    assert found == [3, 1, -1, 0]
    assert age_s is not None
    assert math.isnan(age_s), "the default is of no age"


def test_a_source_nobody_named_is_out_and_the_default_answers(twins: Bench) -> None:
    graph = twins.graph(
        Kind("text", ()), Features("f", "in", "store", ("spent",), (7.0,)), output="f"
    )
    assert graph.run("ann").tolist() == [7]
    assert graph.feature_age_s(graph.prepare("ann")) is not None


def test_a_record_without_the_key_is_the_callers_mistake(twins: Bench) -> None:
    graph = spending(twins, FeatureTable({}), Time())
    with pytest.raises(FieldMissing, match="'customer', the key of features"):
        graph.run({"amount": 3, "new": True})


def test_features_on_both_ways_are_one_cache_and_the_way_not_taken_has_no_age(
    twins: Bench,
) -> None:
    table = FeatureTable({"ann": {"spent": 1.0}, "ben": {"spent": 2.0}})
    graph = twins.graph(
        Kind("record", ()),
        steps("on", "in", Columns((Numeric("amount"),))),
        Features("f", "in", "store", ("spent",), (0.0,), 60.0, "customer"),
        steps("once", "f", Scale((1.0,))),
        steps("twice", "f", Scale((2.0,))),
        Switch("s", "on", 0.0, "once", "twice"),
        Switch("all", "on", -10.0, "s", "on"),
        sources={"store": table},
    )
    ask: Record = {"customer": "ann", "amount": 1}
    assert graph.run(ask).tolist() == [1]
    assert graph.run({**ask, "amount": -1}).tolist() == [2]
    assert table.asked == ["ann"]
    places = graph.prepare({**ask, "amount": -20})
    assert graph.finish(places).tolist() == [-20]
    assert graph.feature_age_s(places) is None


CODE = b"""
import numpy as np

seen = []

def turn(sample, other):
    return (sample[::-1] + other).astype(np.float32)

def count(sample):
    seen.append(1)
    return np.array([len(seen)], np.float32)
"""


def test_code_in_a_package_runs_only_where_it_is_allowed(twins: Bench) -> None:
    nodes = (Custom("c", ("in", "in"), twins.file("own.py", CODE), "turn", Gives("value", (6,))),)
    with pytest.raises(CustomCodeForbidden, match=r"own\.py, and the settings here do not allow"):
        twins.graph(SIX, *nodes)
    graph = twins.graph(SIX, *nodes, allow_custom=True)
    assert graph.run(row(1, 2, 3, 4, 5, 6)).tolist() == [7] * 6
    agree(graph, six())


def test_code_that_gives_another_kind_than_it_declares_is_named(twins: Bench) -> None:
    file = twins.file("own.py", CODE)
    graph = twins.graph(
        SIX, Custom("c", ("in", "in"), file, "turn", Gives("value", (5,))), allow_custom=True
    )
    with pytest.raises(CustomStepFailed, match=r"own\.py:turn gave float32 \[6\], float32 \[5\]"):
        graph.run(row(1, 2, 3, 4, 5, 6))


def test_code_on_both_ways_of_a_switch_is_loaded_once(twins: Bench) -> None:
    file = twins.file("own.py", CODE)
    graph = twins.graph(
        Kind("float32", (1,)),
        Custom("n", ("in",), file, "count", Gives("value", (1,))),
        steps("a", "n", Scale((1.0,))),
        steps("b", "n", Scale((10.0,))),
        Switch("s", "in", 0.0, "a", "b"),
        allow_custom=True,
    )
    assert [graph.run(row(sign)).tolist() for sign in (1, -1, 1)] == [[1], [20], [3]]


# Running together, apart, and not at all.


def test_samples_share_a_batch_where_one_model_takes_them_in_one_shape(bench: Bench) -> None:
    graph = bench.graph(
        SIX, steps("p", "in", Scale((2.0,))), bench.cut("m", "p", 6), steps("q", "m", Scale((3.0,)))
    )
    graph.run_batch(six(5))
    assert bench.ran == [("m", 5)]
    agree(graph, six())


def test_a_batch_of_none_is_none(twins: Bench) -> None:
    assert twins.graph(SIX, twins.cut("m", "in", 6)).run_batch([]) == []


def test_what_one_model_is_given_can_be_had_without_running_it(twins: Bench) -> None:
    graph = nested(twins)
    (fed,) = graph.feeds(row(-1, 2, 3, 4, 5, 6), "half")
    assert fed.tolist() == [-1, 2, 3, -1, 2, 3], "although this sample goes another way"
    assert sorted(name for name, _ in twins.ran) == ["shared"]
    with pytest.raises(KeyError):
        graph.feeds(row(1, 2, 3, 4, 5, 6), "right")


def test_preparing_runs_no_model(twins: Bench) -> None:
    graph = by_first(twins)
    prepared = graph.prepare(row(1, 2, 3, 4, 5, 6))
    assert twins.ran == []
    graph.finish(prepared)
    assert len(twins.ran) == 2


# Files that do not fit, and inputs that do not.


def misfits() -> Iterator[tuple[Kind, In, Gives, str]]:
    picture = In("x", (3, 8, 8))
    logits = Gives("logits", (3,))
    takes = r"model 'm' takes float32 \[3, 8, 8\] as 'x', 'in' is "
    yield Kind("float32", (8, 8, 3)), picture, logits, takes + r"float32 \[8, 8, 3\]; .*transpose"
    yield Kind("uint8", (3, 8, 8)), picture, logits, takes + r"uint8 \[3, 8, 8\]; cast"
    yield Kind("float16", (3, 8, 8)), picture, logits, takes + r"float16 \[3, 8, 8\]"
    yield Kind("float32", (192,)), picture, logits, takes + r"float32 \[192\]; .*reshape"
    gives = r"model 'm' gives float32 \[3\] as 'logits', the pipeline declares "
    same = Kind("float32", (3, 8, 8))
    yield same, picture, Gives("logits", (4,)), gives + r"float32 \[4\]; declare what"
    yield same, picture, Gives("logits", (3, 1)), gives + r"float32 \[3, 1\]"
    yield same, picture, Gives("logits", (3,), "uint8"), gives + r"uint8 \[3\]"


@pytest.mark.parametrize(("given", "takes", "gives", "says"), list(misfits()))
def test_a_file_that_does_not_fit_its_place_is_refused_with_the_nodes_name(
    bench: Bench, given: Kind, takes: In, gives: Gives, says: str
) -> None:
    node = bench.model("m", "in", [takes], Out("logits", (3,)))
    with pytest.raises(RuntimeFailed, match=says):
        bench.graph(given, replace(node, gives=(gives,)))


def test_a_file_with_other_ports_is_refused_with_the_nodes_name(bench: Bench) -> None:
    node = bench.model("m", "in", [In("x", (6,))], Out("a", (3,)), Out("b", (3,), 3))
    with pytest.raises(
        RuntimeFailed, match=r"model 'm' takes 1 inputs \(x\), the pipeline gives 2"
    ):
        bench.graph(SIX, replace(node, after=("in", "in")))
    with pytest.raises(RuntimeFailed, match=r"'m' gives 2 outputs \(a, b\), .* declares 1"):
        bench.graph(SIX, replace(node, gives=node.gives[:1]))


def test_halves_go_in_and_an_integer_head_comes_out(bench: Bench) -> None:
    graph = bench.graph(
        Kind("float16", (6,)),
        bench.model("m", "in", [In("x", (6,), "float16")], Out("logits", (3,), 0, "uint8")),
        steps("out", "m", Dequantise(0.5, 2)),
    )
    sample = np.array([4, 2, 0, 1, 1, 1], np.float16)
    found = graph.run(sample)
    assert (found.dtype.name, found.tolist()) == ("float32", [1, 0, -1])
    agree(graph, [sample, sample + np.float16(1)])


def test_a_model_without_a_batch_axis_is_named(twins: Bench) -> None:
    class Flat(Counted):
        def run(self, feeds: Sequence[Array]) -> tuple[Array, ...]:
            return (feeds[0][0, :3],)

    def flat(node: Model) -> Runtime:
        return Flat(open_model(twins.folder / node.file.path, node.form), lambda _: None)

    alone = Pipeline((twins.cut("m", "in", 6),), "m")
    graph = Graph(alone, "in", SIX, flat, Resources(twins.folder))
    with pytest.raises(
        RuntimeFailed, match=r"model 'm' gave 'logits' of shape \[3\] for 1 samples"
    ):
        graph.run(np.zeros(6, np.float32))
    listed = twins.model("m", "w", [In("x", (1, 6))], Out("logits", (3,)))
    pipeline = Pipeline((steps("w", "in", SlidingWindow(1, 1)), listed), "m")
    graph = Graph(pipeline, "in", Kind("float32", (None, 6)), flat, Resources(twins.folder))
    with pytest.raises(RuntimeFailed, match=r"of shape \[1, 6\] for 4 samples; export it with a"):
        graph.run(np.zeros((4, 6), np.float32))


def test_sizes_that_only_a_sample_tells_and_do_not_meet_are_the_inputs_fault(twins: Bench) -> None:
    reshaped = twins.graph(Kind("float32", (None,)), steps("p", "in", Reshape((2, 2))))
    assert reshaped.run(row(1, 2, 3, 4)).shape == (2, 2)
    with pytest.raises(WrongShape, match=r"node 'p' cannot go on with this input: .*another size"):
        reshaped.run(row(1, 2, 3))
    grid = Kind("float32", (None, None))
    joined = twins.graph(grid, steps("t", "in", Transpose((1, 0))), Join("j", ("in", "t"), 0))
    assert joined.run(np.zeros((2, 2), np.float32)).shape == (4, 2)
    with pytest.raises(WrongShape, match="node 'j' cannot go on"):
        joined.run(np.zeros((2, 3), np.float32))


def test_lists_of_other_lengths_do_not_meet_in_a_model(twins: Bench) -> None:
    graph = twins.graph(
        Kind("float32", (None, 1)),
        steps("a", "in", SlidingWindow(2, 1)),
        steps("b", "in", SlidingWindow(2, 2)),
        twins.model("m", ("a", "b"), [In("x", (2, 1)), In("y", (2, 1))], Out("logits", (3,))),
        steps("out", "m", Pool()),
    )
    assert graph.run(np.zeros((2, 1), np.float32)).tolist() == [0, 0, 0]
    with pytest.raises(
        WrongShape, match="node 'm' cannot go on with this input: lists of 4, 2 met"
    ):
        graph.run(np.zeros((5, 1), np.float32))


def test_an_output_of_another_size_than_declared_is_the_packages_fault(twins: Bench) -> None:
    class Wider(Counted):
        def run(self, feeds: Sequence[Array]) -> tuple[Array, ...]:
            return (feeds[0],)

    graph = Graph(
        Pipeline((twins.cut("m", "in", 6),), "m"),
        "in",
        SIX,
        lambda one: Wider(open_model(twins.folder / one.file.path, one.form), lambda _: None),
        Resources(twins.folder),
    )
    for run in (graph.run, lambda sample: graph.run_batch([sample] * 2)):
        with pytest.raises(RuntimeFailed, match=r"the output has shape \[6\], float32 \[3\] was"):
            run(row(1, 2, 3, 4, 5, 6))
