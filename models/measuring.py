"""Measures on this device what each model of a package runs fastest on, and keeps the choice.

`python -m models.measuring` does it in a process of its own, so that the libraries that lost leave
no trace in the one that serves. It reads an `Order` as JSON from its standard input. What counts as
a way to run a model is `placement`'s to say, how long each takes `runtimes.measure`'s.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from models import package
from models.errors import ModelsError, NoCandidate
from models.manifest import Role
from models.package import Package
from models.pipeline.declared import Model
from models.placement import Opener, Way, candidates_of, first_places, ways
from models.predict import Predictor
from models.runtimes import choice
from models.runtimes.base import Array, Runtime
from models.runtimes.wish import RuntimeWish

LIMIT_S = 3.0
"""What measuring one package may take, beside starting the process that does it."""
_PROBES = 8
"""Golden inputs looked through for one that gives a model something to do."""
_log = logging.getLogger(__name__)


class Order(Struct, frozen=True):
    """What is to be measured, and where the choice is kept."""

    package: str
    kept: str
    wish: RuntimeWish
    cores: int
    allow_custom: bool


def measure(order: Order) -> None:
    """Measure every model of a package that has several candidates. Raises `ModelsError`."""
    whole = package.read(Path(order.package), Role.EDGE)
    several = [
        (node, found)
        for node in whole.pipeline.models
        if len(found := ways(whole, node, order.wish, order.cores)) > 1
    ]
    names = tuple(dict.fromkeys(way.edition for _, found in several for way in found))
    tried = {name: _Tried(whole, order, name) for name in names}
    predictor = _first_that_loads(tuple(tried.values()))
    for node, found in several:
        kept, listed = Path(order.kept) / node.id, candidates_of(found)
        feeds = _feeds(predictor, node)
        if feeds is None:
            choice.keep_first(listed, kept, "no golden input reaches it")
            continue

        def check(
            runtime: Runtime, at: int, node: Model = node, found: Sequence[Way] = found
        ) -> str | None:
            return tried[found[at].edition].with_model(node.id, runtime).golden_difference()

        limit_s = LIMIT_S / len(several)
        try:
            choice.choose(listed, feeds, check=check, folder=kept, seconds=limit_s, limit_s=limit_s)
        except NoCandidate as error:
            _log.warning("measuring.none_fit model=%s why=%s", node.id, error)


class _Tried:
    """One edition, its models opened once on their first candidates."""

    def __init__(self, whole: Package, order: Order, edition: str) -> None:
        self._whole = whole.in_edition(edition)
        self._custom = order.allow_custom
        places = first_places(whole, order.wish, order.cores, edition)
        self._start = Opener(self._whole, places, None)
        self._opened: dict[str, Runtime] = {}

    def load(self) -> Predictor:
        """Raises `ModelsError`."""
        return Predictor.load(self._whole, opener=self._first, allow_custom=self._custom)

    def with_model(self, node: str, runtime: Runtime) -> Predictor:
        """With another runtime for one model. Raises `ModelsError`."""
        return Predictor.load(
            self._whole,
            opener=lambda one: runtime if one.id == node else self._first(one),
            allow_custom=self._custom,
        )

    def _first(self, node: Model) -> Runtime:
        if node.id not in self._opened:
            self._opened[node.id] = self._start(node)
        return self._opened[node.id]


def _first_that_loads(tried: Sequence[_Tried]) -> Predictor:
    """What golden inputs are sent through to see what each model is fed. Raises `ModelsError`."""
    *others, last = tried
    for one in others:
        try:
            return one.load()
        except ModelsError as error:
            _log.warning("measuring.does_not_load why=%s", error)
    return last.load()


def _feeds(predictor: Predictor, node: Model) -> tuple[Array, ...] | None:
    """What one model is given in the course of a golden input, as its runtime takes it."""
    ranks = [len(port.shape) for port in predictor.graph.runtime_of(node.id).inputs]
    for sample in predictor.golden_samples()[:_PROBES]:
        feeds = predictor.graph.feeds(sample, node.id)
        # A list of crops has its batch axis already, and may be empty.
        whole = tuple(
            feed if feed.ndim == rank else np.ascontiguousarray(feed[None])
            for feed, rank in zip(feeds, ranks, strict=True)
        )
        if len(whole[0]):
            return whole
    return None


def main() -> int:
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s measuring %(levelname)s %(name)s %(message)s"
    )
    try:
        measure(msgspec.json.decode(sys.stdin.buffer.read(), type=Order))
    except (ModelsError, msgspec.DecodeError) as error:
        _log.error("measuring.failed why=%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
