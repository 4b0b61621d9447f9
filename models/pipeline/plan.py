"""What a declared pipeline comes to: the order of its nodes and the kind of every value.

Nothing is computed. Every refusal is a `Refused` that names the node, its place and the reason; the
manifest turns it into its own error. What passes here cannot fail on shapes when it runs, as far as
shapes are known: what a model file gives is checked against `gives` when the file is opened.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple, assert_never

from models.pipeline.declared import (
    Crop,
    Custom,
    Ensemble,
    Features,
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
from models.pipeline.kinds import Kind
from models.pipeline.outputs import outputs


class Refused(Exception):
    """Which node, where, and why."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{why} - at `{path}`")


class Plan(NamedTuple):
    """A pipeline in an order in which it can be computed."""

    order: tuple[Node, ...]
    kinds: Mapping[str, Kind]
    """Of every reference: the input, each node, each output of a node with several."""

    def kind_of(self, ref: str) -> Kind:
        return self.kinds[ref]


def plan(pipeline: Pipeline, input_name: str, given: Kind) -> Plan:
    """The order and the kinds of a pipeline. Raises `Refused`."""
    places = _places(pipeline, input_name)
    order = tuple(_ordered(pipeline, input_name, places))
    kinds: dict[str, Kind] = {input_name: given}
    for node in order:
        where = f"$.nodes[{places[node.id]}]"
        for ref in needs(node):
            if ref not in kinds:
                name = ref.partition(".")[0]
                known = sorted(one for one in kinds if one.startswith(f"{name}."))
                raise Refused(
                    where,
                    f"node {node.id!r}: {name!r} has no output {ref!r}"
                    f" ({', '.join(known) or 'it has one, by its bare name'})",
                )
        try:
            kinds.update(outputs(node, [kinds[ref] for ref in needs(node)]))
        except ValueError as error:
            raise Refused(where, f"node {node.id!r}: {error}") from error
    if pipeline.output not in kinds:
        raise Refused("$.output", f"there is no value {pipeline.output!r}")
    return Plan(order, kinds)


def classes_of(found: Plan, ref: str) -> frozenset[int]:
    """How many classes the candidates at `ref` may be of, as far as their nodes tell."""
    by_id = {node.id: node for node in found.order}
    told: set[int] = set()
    asked = {ref}
    while asked:
        match by_id.get(asked.pop()):
            case Nms(scores=scores):
                told |= {side for side in found.kind_of(scores).shape[1:] if side is not None}
            case Relabel(logits=logits):
                told |= {side for side in found.kind_of(logits).shape if side is not None}
            case Unletterbox(boxes=boxes):
                asked.add(boxes)
            case Switch(then=then, otherwise=otherwise):
                asked |= {then, otherwise}
            case Steps(after=after, steps=()):
                asked.add(after)
            case _:
                pass
    return frozenset(told)


def needs(node: Node) -> tuple[str, ...]:
    """The references a node is computed from."""
    match node:
        case Steps() | Tokenise():
            return (node.after,)
        case Model() | Join() | Ensemble() | Custom():
            return node.after
        case Switch():
            return (node.on, node.then, node.otherwise)
        case Nms():
            return (node.boxes, node.scores)
        case Crop():
            return (node.image, node.boxes)
        case Unletterbox():
            return (node.boxes, node.image)
        case Relabel():
            return (node.boxes, node.logits)
        case Features():
            return (node.key,)
        case _:
            assert_never(node)


def _places(pipeline: Pipeline, input_name: str) -> dict[str, int]:
    places: dict[str, int] = {}
    for at, node in enumerate(pipeline.nodes):
        # An input may have a dot in its name, which else parts a node from its output.
        if node.id in places or node.id == input_name.partition(".")[0]:
            raise Refused(f"$.nodes[{at}].id", f"node {node.id!r}: the name is taken")
        places[node.id] = at
    return places


def _ordered(pipeline: Pipeline, input_name: str, places: dict[str, int]) -> Iterator[Node]:
    """Depth first from the output; a node that is met while it is being followed closes a cycle."""
    done: set[str] = set()

    def follow(ref: str, asking: str, path: tuple[str, ...]) -> Iterator[Node]:
        name = ref if ref == input_name else ref.partition(".")[0]
        if name == input_name or name in done:
            return
        if name in path:
            circle = " -> ".join((*path[path.index(name) :], name))
            raise Refused(f"$.nodes[{places[name]}]", f"node {name!r}: a cycle, {circle}")
        if name not in places:
            known = ", ".join(sorted((input_name, *places)))
            where = "$.output" if not path else f"$.nodes[{places[path[-1]]}]"
            raise Refused(where, f"{asking}: {name!r} is neither the input nor a node ({known})")
        node = pipeline.nodes[places[name]]
        for needed in needs(node):
            yield from follow(needed, f"node {name!r}", (*path, name))
        done.add(name)
        yield node

    yield from follow(pipeline.output, "the output", ())
    for at, node in enumerate(pipeline.nodes):
        if node.id not in done:
            # Followed all the same, so that a cycle beside the way is called a cycle.
            for _ in follow(node.id, f"node {node.id!r}", ()):
                pass
            raise Refused(f"$.nodes[{at}]", f"node {node.id!r}: the output does not need it")
