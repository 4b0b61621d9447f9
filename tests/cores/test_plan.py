"""The plan of a pipeline: kinds of every node, one order, and refusals that name the node."""

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.pipeline.declared import (
    Crop,
    Custom,
    Ensemble,
    Features,
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
from models.pipeline.files import FileRef
from models.pipeline.kinds import Kind
from models.pipeline.ops.families import Step
from models.pipeline.ops.image import DecodeImage, Resize
from models.pipeline.ops.series import SlidingWindow
from models.pipeline.ops.table import Columns, Flag, Numeric
from models.pipeline.ops.tensor import Cast, Normalise, Pool, Reshape, Scale, Stack, Transpose
from models.pipeline.ops.text import Clean
from models.pipeline.outputs import CANDIDATES
from models.pipeline.plan import Refused, classes_of, needs, plan

FILE = FileRef("m.onnx", "0" * 64, 1)
PICTURE = Kind("uint8", (None, None, 3))
FLOATS = Kind("float32", (4,))


def model(id: str, *after: str, gives: tuple[Gives, ...] = (Gives("logits", (3,)),)) -> Model:
    return Model(id, after, FILE, gives)


def steps(id: str, after: str, *wanted: Step) -> Steps:
    return Steps(id, after, wanted)


def detector(id: str, after: str, rows: int | None = None) -> Model:
    return model(id, after, gives=(Gives("boxes", (rows, 4)), Gives("scores", (rows, 2))))


@dataclass(frozen=True)
class Case:
    """One node of interest, what it is given and what it comes to."""

    given: Kind
    nodes: tuple[Node, ...]
    kinds: dict[str, Kind]


SMALL = (Resize(8, 8), Cast("float32"), Transpose((2, 0, 1)))
TWO_HEADS = (detector("d", "in"), Nms("n", "d.boxes", "d.scores"))
CROPS = (*TWO_HEADS, Crop("crops", "in", "n", 5, 7))
WINDOWS = steps("w", "in", SlidingWindow(4, 2))

KINDS = {
    "steps": Case(PICTURE, (steps("s", "in", *SMALL),), {"s": Kind("float32", (3, 8, 8))}),
    "decode": Case(
        Kind("bytes", ()), (steps("s", "in", DecodeImage()),), {"s": Kind("uint8", (None, None, 3))}
    ),
    "clean": Case(
        Kind("text", ()), (steps("s", "in", Clean(lower=True)),), {"s": Kind("text", ())}
    ),
    "no steps": Case(FLOATS, (steps("s", "in"),), {"s": FLOATS}),
    "model": Case(
        FLOATS, (model("m", "in"),), {"m": Kind("float32", (3,)), "m.logits": Kind("float32", (3,))}
    ),
    "two outputs": Case(
        FLOATS,
        (detector("d", "in", 5), Nms("n", "d", "d.scores")),
        {"d": Kind("float32", (5, 4)), "d.scores": Kind("float32", (5, 2)), "n": CANDIDATES},
    ),
    "model on a list": Case(
        Kind("float32", (9, 2)),
        (WINDOWS, model("m", "w"), steps("p", "m", Pool())),
        {
            "w": Kind("float32", (4, 2), True),
            "m": Kind("float32", (3,), True),
            "p": Kind("float32", (3,)),
        },
    ),
    "stack": Case(
        Kind("float32", (9, 2)),
        (WINDOWS, steps("s", "w", Stack())),
        {"s": Kind("float32", (None, 4, 2))},
    ),
    "steps on a list": Case(
        Kind("float32", (9, 2)),
        (WINDOWS, steps("s", "w", Transpose((1, 0)))),
        {"s": Kind("float32", (2, 4), True)},
    ),
    "tokenise": Case(
        Kind("text", ()),
        (Tokenise("t", "in", FILE, 16), model("m", "t.ids", "t.mask")),
        {"t": Kind("int64", (16,)), "t.ids": Kind("int64", (16,)), "t.mask": Kind("int64", (16,))},
    ),
    "join": Case(
        Kind("float32", (2, 4)),
        (steps("s", "in", Scale((2.0,))), Join("j", ("in", "s", "in"), 0)),
        {"j": Kind("float32", (6, 4))},
    ),
    "join along the last axis": Case(
        Kind("float32", (2, None)),
        (steps("s", "in", Scale((2.0,))), Join("j", ("in", "s"), 1)),
        {"j": Kind("float32", (2, None))},
    ),
    "join of lists": Case(
        Kind("float32", (9, 2)),
        (WINDOWS, model("m", "w"), Join("j", ("m", "m"), 0)),
        {"j": Kind("float32", (6,), True)},
    ),
    "ensemble": Case(
        FLOATS,
        (model("a", "in"), model("b", "in"), Ensemble("e", ("a", "b"))),
        {"e": Kind("float32", (3,))},
    ),
    "ensemble of halves": Case(
        Kind("float16", (4,)),
        (steps("a", "in"), steps("b", "in"), Ensemble("e", ("a", "b"), "weighted", (1.0, 3.0))),
        {"e": Kind("float32", (4,))},
    ),
    "switch": Case(
        Kind("float32", (1,)),
        (steps("a", "in", Scale((2.0,))), Switch("s", "in", 0.5, "a", "in")),
        {"s": Kind("float32", (1,))},
    ),
    "switch between sizes": Case(
        Kind("uint8", (8, 6, 3)),
        (
            steps("n", "in", Cast("float32"), Reshape((144,))),
            model("m", "n"),
            detector("d", "n", 5),
            detector("e", "n", None),
            Switch("s", "m", 0.9, "d.boxes", "e.boxes", "confidence"),
        ),
        {"s": Kind("float32", (None, 4))},
    ),
    "crop": Case(PICTURE, CROPS, {"crops": Kind("uint8", (5, 7, 3), True)}),
    "crop of grey": Case(Kind("uint8", (9, 9)), CROPS, {"crops": Kind("uint8", (5, 7), True)}),
    "unletterbox": Case(
        PICTURE, (*TWO_HEADS, Unletterbox("u", "n", "in", 32, 32)), {"u": CANDIDATES}
    ),
    "relabel": Case(
        PICTURE, (*CROPS, model("m", "crops"), Relabel("r", "n", "m")), {"r": CANDIDATES}
    ),
    "features": Case(
        Kind("text", ()),
        (Features("f", "in", "store", ("age", "visits"), (0.0, 1.0)),),
        {"f": Kind("float32", (2,)), "f.age_s": Kind("float32", (1,))},
    ),
    "features of a field": Case(
        Kind("record", ()),
        (
            Features("f", "in", "store", ("age",), (0.0,), field="customer"),
            steps("c", "in", Columns((Numeric("amount"), Flag("new")))),
            Join("j", ("f", "c")),
        ),
        {"c": Kind("float32", (2,)), "j": Kind("float32", (3,))},
    ),
    "custom": Case(
        Kind("record", ()),
        (Custom("c", ("in",), FILE, "turn", Gives("value", (2, None), "int16")),),
        {"c": Kind("int16", (2, None))},
    ),
}


@pytest.mark.parametrize("case", KINDS.values(), ids=KINDS.keys())
def test_every_node_gives_the_kinds_it_is_said_to(case: Case) -> None:
    found = plan(Pipeline(case.nodes, case.nodes[-1].id), "in", case.given)
    assert {ref: found.kind_of(ref) for ref in case.kinds} == case.kinds
    assert found.kind_of("in") == case.given
    assert {node.id for node in found.order} == {node.id for node in case.nodes}


def test_the_output_may_be_the_second_output_of_a_node() -> None:
    found = plan(Pipeline((detector("d", "in", 5),), "d.scores"), "in", FLOATS)
    assert found.kind_of("d.scores") == Kind("float32", (5, 2))


def refusal(nodes: tuple[Node, ...], output: str, given: Kind) -> Refused:
    with pytest.raises(Refused) as caught:
        plan(Pipeline(nodes, output), "in", given)
    return caught.value


@dataclass(frozen=True)
class Bad:
    """A pipeline that is refused, and what the refusal says."""

    given: Kind
    nodes: tuple[Node, ...]
    says: str
    output: str = ""


def two(join: Node, given: Kind = FLOATS, other: int = 5) -> tuple[Node, ...]:
    return (model("a", "in"), model("b", "in", gives=(Gives("logits", (other,)),)), join)


BAD_NAMES = {
    "cycle": Bad(
        FLOATS,
        (steps("a", "c"), steps("b", "a"), steps("c", "b")),
        r"node 'c': a cycle, c -> b -> a -> c - at `\$\.nodes\[2\]`",
    ),
    "cycle of one": Bad(FLOATS, (steps("a", "a"),), "node 'a': a cycle, a -> a"),
    "cycle through an output": Bad(
        FLOATS,
        (detector("d", "s"), steps("s", "d.scores"), steps("out", "in")),
        "a cycle, d -> s -> d",
        "out",
    ),
    "cycle through a branch": Bad(
        Kind("float32", (1,)),
        (steps("a", "s"), Switch("s", "in", 0.5, "a", "in")),
        "node 's': a cycle, s -> a -> s",
    ),
    "missing input": Bad(
        FLOATS,
        (steps("a", "picture"),),
        r"node 'a': 'picture' is neither the input nor a node \(a, in\) - at `\$\.nodes\[0\]`",
    ),
    "missing output": Bad(
        FLOATS,
        (steps("a", "in"),),
        r"the output: 'b' is neither the input nor a node \(a, in\) - at `\$\.output`",
        "b",
    ),
    "unknown output of a model": Bad(
        FLOATS,
        (detector("d", "in"), steps("s", "d.logits")),
        r"node 's': 'd' has no output 'd.logits' \(d.boxes, d.scores\)",
    ),
    "unknown output of steps": Bad(
        FLOATS,
        (steps("a", "in"), steps("b", "a.first")),
        r"node 'b': 'a' has no output 'a.first' \(it has one, by its bare name\)",
    ),
    "unknown output as the output": Bad(
        FLOATS, (model("m", "in"),), r"there is no value 'm.other' - at `\$\.output`", "m.other"
    ),
    "unused": Bad(
        FLOATS,
        (steps("a", "in"), steps("b", "in")),
        r"node 'b': the output does not need it - at `\$\.nodes\[1\]`",
        "a",
    ),
    "taken twice": Bad(
        FLOATS,
        (steps("a", "in"), steps("a", "in")),
        r"node 'a': the name is taken - at `\$\.nodes\[1\]\.id`",
    ),
    "taken by the input": Bad(FLOATS, (steps("in", "in"),), "node 'in': the name is taken"),
}


@pytest.mark.parametrize("bad", BAD_NAMES.values(), ids=BAD_NAMES.keys())
def test_a_name_that_leads_nowhere_is_refused_with_its_node(bad: Bad) -> None:
    refused = refusal(bad.nodes, bad.output or bad.nodes[-1].id, bad.given)
    assert re.search(bad.says, str(refused))


def test_an_input_with_a_dot_cannot_be_taken_for_a_nodes_output() -> None:
    nodes = (detector("camera", "camera.boxes", 5),)
    with pytest.raises(Refused, match=r"node 'camera': the name is taken"):
        plan(Pipeline(nodes, "camera"), "camera.boxes", FLOATS)
    found = plan(Pipeline((steps("s", "camera.left"),), "s"), "camera.left", FLOATS)
    assert found.kind_of("s") == FLOATS


LISTED = Kind("float32", (9, 2))
ONE = Kind("float32", (1,))
BAD_SHAPES = {
    "step": Bad(FLOATS, (steps("s", "in", Cast("float32"), Reshape((5,))),), "step 1: shape"),
    "step on bytes": Bad(
        Kind("bytes", ()), (steps("s", "in", Cast("float32")),), "decode it first"
    ),
    "list of lists": Bad(
        LISTED,
        (WINDOWS, steps("s", "w", SlidingWindow(2, 2))),
        "there are windows already: many float32|a list of lists has no place here",
    ),
    "pool of one": Bad(FLOATS, (steps("s", "in", Pool()),), "a list of arrays is wanted here"),
    "columns of a text": Bad(
        Kind("text", ()), (steps("s", "in", Columns((Flag("new"),))),), "columns take a record"
    ),
    "bytes into a model": Bad(
        Kind("bytes", ()), (model("s", "in"),), "takes arrays, 'in' is bytes"
    ),
    "text into a model": Bad(Kind("text", ()), (model("s", "in"),), "takes arrays, 'in' is text"),
    "record into a model": Bad(Kind("record", ()), (model("s", "in"),), "'in' is record"),
    "a list and one array into a model": Bad(
        LISTED,
        (WINDOWS, model("s", "w", "in")),
        r"lists and single arrays .*'w' is many float32 \[4, 2\], 'in' is float32 \[9, 2\]",
    ),
    "outputs of one name": Bad(
        FLOATS,
        (model("s", "in", gives=(Gives("a", (3,)), Gives("a", (4,)))),),
        "two outputs share a name among a, a",
    ),
    "tokens of an array": Bad(FLOATS, (Tokenise("s", "in", FILE, 8),), r"a text is wanted, 'in'"),
    "join of raw": Bad(Kind("bytes", ()), (Join("s", ("in", "in")),), "'in' is bytes"),
    "join of types": Bad(
        FLOATS, (steps("i", "in", Cast("int32")), Join("s", ("in", "i"))), r"'i' is int32 \[4\]"
    ),
    "join of sizes": Bad(
        Kind("float32", (2, 4)),
        (steps("r", "in", Reshape((4, 2))), Join("s", ("in", "r"), 0)),
        r"'r' is float32 \[4, 2\] and 'in' float32 \[2, 4\]; they may differ on axis 0 alone",
    ),
    "join of ranks": Bad(
        FLOATS,
        (steps("r", "in", Reshape((2, 2))), Join("s", ("in", "r"))),
        "differ on axis 0 alone",
    ),
    "join without the axis": Bad(FLOATS, (Join("s", ("in", "in"), 1),), "has no axis 1"),
    "join of a list and one": Bad(
        LISTED, (WINDOWS, Join("s", ("in", "w"))), r"'w' is many float32 \[4, 2\]"
    ),
    "ensemble of sizes": Bad(
        FLOATS, two(Ensemble("s", ("a", "b"))), r"'b' is float32 \[5\] and 'a' float32 \[3\]"
    ),
    "ensemble of integers": Bad(
        Kind("int8", (3,)), (Ensemble("s", ("in", "in")),), "members must be floats of one shape"
    ),
    "too few weights": Bad(
        FLOATS,
        two(Ensemble("s", ("a", "b"), "weighted", (1.0,)), other=3),
        "'weighted' takes 2 weights, not 1",
    ),
    "weights of a mean": Bad(
        FLOATS,
        two(Ensemble("s", ("a", "b"), "mean", (1.0, 2.0)), other=3),
        "'mean' takes 0 weights",
    ),
    "a weight of nothing": Bad(
        FLOATS,
        two(Ensemble("s", ("a", "b"), "weighted", (1.0, 0.0)), other=3),
        "weights must be positive",
    ),
    "switch on bytes": Bad(
        Kind("bytes", ()),
        (Switch("s", "in", 0.5, "in", "in"),),
        "'on' must be an array, 'in' is bytes",
    ),
    "switch on a list": Bad(
        LISTED, (WINDOWS, Switch("s", "w", 0.5, "in", "in")), "'on' must be an array, 'w' is many"
    ),
    "switch on several numbers": Bad(
        FLOATS,
        (Switch("s", "in", 0.5, "in", "in"),),
        r"'on' must be one number, 'in' is float32 \[4\]",
    ),
    "switch on a number nobody counted": Bad(
        Kind("float32", (None,)), (Switch("s", "in", 0.5, "in", "in"),), "'on' must be one number"
    ),
    "switch on the confidence of a picture": Bad(
        LISTED, (Switch("s", "in", 0.5, "in", "in", "confidence"),), r"'on' must be logits \[K\]"
    ),
    "switch between sizes": Bad(
        FLOATS,
        two(Switch("s", "a", 0.5, "a", "b", "confidence")),
        r"both ways must give the same: 'a' is float32 \[3\], 'b' is float32 \[5\]",
    ),
    "switch between ranks": Bad(
        FLOATS,
        (steps("r", "in", Reshape((2, 2))), Switch("s", "in", 0.5, "in", "r", "confidence")),
        "both ways must give the same",
    ),
    "switch between types": Bad(
        FLOATS,
        (steps("i", "in", Cast("int32")), Switch("s", "in", 0.5, "in", "i", "confidence")),
        r"'i' is int32 \[4\]",
    ),
    "switch between a list and one": Bad(
        LISTED,
        (steps("o", "in", Reshape((18,))), WINDOWS, Switch("s", "o", 0.5, "in", "w", "confidence")),
        r"'w' is many float32 \[4, 2\]",
    ),
    "nms of other boxes": Bad(
        FLOATS,
        (
            model("d", "in", gives=(Gives("boxes", (5, 3)), Gives("scores", (5, 2)))),
            Nms("s", "d.boxes", "d.scores"),
        ),
        r"boxes must be floats \[n, 4\], not float32 \[5, 3\]",
    ),
    "nms of flat scores": Bad(
        FLOATS,
        (
            model("d", "in", gives=(Gives("boxes", (5, 4)), Gives("scores", (5,)))),
            Nms("s", "d.boxes", "d.scores"),
        ),
        r"scores must be floats \[n, classes\], not float32 \[5\]",
    ),
    "nms of other counts": Bad(
        FLOATS,
        (
            model("d", "in", gives=(Gives("boxes", (5, 4)), Gives("scores", (6, 2)))),
            Nms("s", "d.boxes", "d.scores"),
        ),
        "5 boxes and the scores of 6",
    ),
    "nms of whole numbers": Bad(
        Kind("int8", (5, 4)), (Nms("s", "in", "in"),), r"boxes must be floats \[n, 4\], not int8"
    ),
    "crop of floats": Bad(
        Kind("float32", (9, 9, 3)),
        (*TWO_HEADS, Crop("s", "in", "n", 5, 5)),
        r"a picture is uint8 .* not float32 \[9, 9, 3\]",
    ),
    "crop of four channels": Bad(
        Kind("uint8", (9, 9, 4)), (*TWO_HEADS, Crop("s", "in", "n", 5, 5)), "a picture is uint8"
    ),
    "crop of boxes alone": Bad(
        PICTURE, (detector("d", "in", 5), Crop("s", "in", "d.boxes", 5, 5)), "candidates as `nms`"
    ),
    "unletterbox of boxes alone": Bad(
        PICTURE,
        (detector("d", "in", 5), Unletterbox("s", "d.boxes", "in", 5, 5)),
        r"candidates as `nms` makes them are wanted, not float32 \[5, 4\]",
    ),
    "unletterbox onto a prepared picture": Bad(
        PICTURE,
        (
            steps("p", "in", *SMALL),
            detector("d", "p"),
            Nms("n", "d.boxes", "d.scores"),
            Unletterbox("s", "n", "p", 8, 8),
        ),
        "a picture is uint8",
    ),
    "relabel with one answer": Bad(
        PICTURE, (*TWO_HEADS, model("m", "in"), Relabel("s", "n", "m")), "logits of each crop"
    ),
    "relabel of boxes alone": Bad(
        PICTURE, (*CROPS, model("m", "crops"), Relabel("s", "d.boxes", "m")), "candidates as `nms`"
    ),
    "features of an array": Bad(
        FLOATS,
        (Features("s", "in", "store", ("a",), (0.0,)),),
        "a key is a text or a record's field",
    ),
    "features of a record without a field": Bad(
        Kind("record", ()), (Features("s", "in", "store", ("a",), (0.0,)),), "'field' names the key"
    ),
    "features of a text with a field": Bad(
        Kind("text", ()), (Features("s", "in", "store", ("a",), (0.0,), field="b"),), "only there"
    ),
    "features without a default": Bad(
        Kind("text", ()),
        (Features("s", "in", "store", ("a", "b"), (0.0,)),),
        "2 names and 1 defaults",
    ),
    "features of no number": Bad(
        Kind("text", ()),
        (Features("s", "in", "store", ("a",), (float("nan"),)),),
        "defaults must be finite",
    ),
}


@pytest.mark.parametrize("bad", BAD_SHAPES.values(), ids=BAD_SHAPES.keys())
def test_kinds_that_cannot_meet_are_refused_with_the_nodes_name(bad: Bad) -> None:
    refused = refusal(bad.nodes, "s", bad.given)
    at = next(at for at, node in enumerate(bad.nodes) if node.id == "s")
    assert str(refused).startswith("node 's': ")
    assert str(refused).endswith(f" - at `$.nodes[{at}]`")
    assert re.search(bad.says, str(refused))


def test_a_vote_without_classes_is_refused() -> None:
    nodes = (model("a", "in", gives=(Gives("v", ()),)), Ensemble("s", ("a", "a"), "vote"))
    assert "node 's': a vote needs a class axis" in str(refusal(nodes, "s", FLOATS))


NAMED: tuple[Node, ...] = (
    *CROPS,
    model("m", "crops"),
    Relabel("r", "n", "m"),
    Unletterbox("u", "r", "in", 8, 8),
    steps("same", "u"),
)


@pytest.mark.parametrize(
    ("nodes", "classes"),
    [
        (TWO_HEADS, {2}),
        (NAMED, {3}),
        (
            (
                *NAMED,
                model("on", "in", gives=(Gives("v", (1,)),)),
                Switch("s", "on", 0, "same", "n"),
            ),
            {2, 3},
        ),
        ((model("rows", "in", gives=(Gives("rows", (9, 6)),)),), set()),
        (
            (
                detector("d", "in"),
                model("k", "d", gives=(Gives("k", (5, None)),)),
                Nms("n", "d", "k"),
            ),
            set(),
        ),
    ],
    ids=["nms", "relabel", "switch", "a model of its own", "nobody knows"],
)
def test_how_many_classes_candidates_are_of(nodes: tuple[Node, ...], classes: set[int]) -> None:
    found = plan(Pipeline(nodes, nodes[-1].id), "in", PICTURE)
    assert classes_of(found, nodes[-1].id) == classes


# Graphs nobody thought of.


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Node, ...]:
    """Nodes on a row of four numbers, each after earlier ones, whose every value is needed."""
    count = draw(st.integers(1, 12))
    nodes: list[Node] = []
    for at in range(count):
        known = st.sampled_from(["in", *(node.id for node in nodes)])
        nodes.append(draw(st.sampled_from(MAKERS))(f"n{at}", *draw(st.tuples(known, known, known))))
    used = {ref for node in nodes for ref in needs(node)}
    loose = [node.id for node in nodes if node.id not in used]
    if len(loose) > 1:
        nodes.append(Ensemble("last", tuple(loose)))
    return tuple(nodes)


Maker = Callable[[str, str, str, str], Node]
"""A node of this id from three references it may use."""
MAKERS: tuple[Maker, ...] = (
    lambda id, a, _b, _c: steps(id, a, Normalise((0.5,), (2.0,))),
    lambda id, a, _b, _c: model(id, a, gives=(Gives("row", (4,)),)),
    lambda id, a, b, _c: model(id, a, b, gives=(Gives("row", (4,)),)),
    lambda id, a, b, c: Ensemble(id, (a, b, c)),
    lambda id, a, b, c: Switch(id, a, 0.5, b, c, "confidence"),
)


@given(graphs(), st.randoms(use_true_random=False))
def test_an_order_has_all_a_node_needs_before_it_whatever_order_they_were_written_in(
    nodes: tuple[Node, ...], chance: Random
) -> None:
    output = nodes[-1].id
    found = plan(Pipeline(nodes, output), "in", FLOATS)
    there = {"in"}
    for node in found.order:
        assert set(needs(node)) <= there
        there |= {node.id, f"{node.id}.row"}
    shuffled = chance.sample(nodes, len(nodes))
    again = plan(Pipeline(tuple(shuffled), output), "in", FLOATS)
    assert again.kinds == found.kinds
    assert sorted(node.id for node in again.order) == sorted(node.id for node in nodes)


@given(graphs(), st.data())
def test_a_way_back_anywhere_is_refused_as_a_cycle(
    nodes: tuple[Node, ...], data: st.DataObject
) -> None:
    """One node is bent so that it needs itself, or a node that needs it."""
    at = data.draw(st.integers(0, len(nodes) - 1))
    behind = needed_by(nodes, nodes[at].id)
    to = data.draw(st.sampled_from(sorted(behind | {nodes[at].id})))
    bent = (*nodes[:at], steps(nodes[at].id, to), *nodes[at + 1 :])
    with pytest.raises(Refused, match=r"a cycle, .* -> "):
        plan(Pipeline(bent, nodes[-1].id), "in", FLOATS)


def needed_by(nodes: tuple[Node, ...], id: str) -> set[str]:
    """The nodes that cannot be computed without one."""
    behind = {id}
    for node in nodes:
        if behind & set(needs(node)):
            behind.add(node.id)
    return behind - {id}


def test_many_ways_through_few_nodes_are_planned_at_once() -> None:
    nodes: list[Node] = [steps("n0", "in")]
    nodes += [Ensemble(f"n{at}", (f"n{at - 1}", f"n{at - 1}")) for at in range(1, 64)]
    found = plan(Pipeline(tuple(nodes), "n63"), "in", FLOATS)
    assert [node.id for node in found.order] == [node.id for node in nodes]


def test_every_permutation_of_a_graph_with_branches_gives_the_same_kinds() -> None:
    nodes: tuple[Node, ...] = (*CROPS, model("m", "crops"), Relabel("r", "n", "m"))
    kinds = [
        plan(Pipeline(order, "r"), "in", PICTURE).kinds for order in itertools.permutations(nodes)
    ]
    assert all(one == kinds[0] for one in kinds)
