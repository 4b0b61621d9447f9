"""Which nodes of a plan are computed when, and where their values are kept. Nothing is computed."""

from collections.abc import Sequence

from models.pipeline.declared import Model, Node, Switch, Tokenise
from models.pipeline.plan import Plan, needs


def numbered(found: Plan) -> dict[str, int]:
    """A place for every reference; a node's bare name is the place of its first output."""
    firsts = {
        f"{node.id}.{node.gives[0].name if isinstance(node, Model) else 'ids'}": node.id
        for node in found.order
        if isinstance(node, Model | Tokenise)
    }
    places: dict[str, int] = {}
    for ref in found.kinds:
        same = firsts.get(ref)
        places[ref] = len(set(places.values())) if same is None else places[same]
    return places


def after_models(order: Sequence[Node]) -> frozenset[str]:
    """The models, and what cannot be computed without one."""
    late: set[str] = set()
    for node in order:
        if isinstance(node, Model) or any(ref.partition(".")[0] in late for ref in needs(node)):
            late.add(node.id)
    return frozenset(late)


def unconditional(order: Sequence[Node], ref: str) -> list[Node]:
    """The nodes computed for `ref` whatever switches say, in order."""
    by_id = {node.id: node for node in order}
    wanted: set[str] = set()

    def follow(name: str) -> None:
        node = by_id.get(name)
        if node is None or name in wanted:
            return
        wanted.add(name)
        for needed in (node.on,) if isinstance(node, Switch) else needs(node):
            follow(needed.partition(".")[0])

    follow(ref.partition(".")[0])
    return [node for node in order if node.id in wanted]
