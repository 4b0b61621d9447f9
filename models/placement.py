"""What each model of a package runs on, on this device: which runtime, by what, with what threads.

1. A package whose certificate keeps a promise runs on the runtime, provider and precision the
   certificate is bound to, wherever they are here and the settings allow them: on others it would
   have none. Threads are free.
2. Else every installed runtime is a candidate, the one the file is written for first.
3. Candidates are measured once, by `runtimes.choice`; to be fit one must give the package's golden
   answers. Where there is only one there is nothing to measure.
4. Nothing here keeps a package from running. Whatever goes wrong, and a choice that no longer
   opens, means the first candidate, and at last the file's own runtime on the processor.

`python -m models.placement` measures in a process of its own, so that the libraries that lost leave
no trace in the one that serves. It reads an `Order` as JSON from its standard input.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from models import package
from models.calibrate.certificate import Binding
from models.errors import ModelsError, NoCandidate, RuntimeFailed
from models.judging.binding import binding
from models.manifest import Role
from models.package import Package
from models.pipeline.declared import Custom, Model
from models.predict import Predictor
from models.runtimes import choice
from models.runtimes.base import Array, Runtime
from models.runtimes.choose import installed
from models.runtimes.measure import Candidate, words
from models.runtimes.wish import RuntimeWish

LIMIT_S = 3.0
"""What measuring one package may take, beside starting the process that does it."""
_SPARE_CORES = 2
"""More than these, and a second thread does not take what supervisor and other programs run on."""
_PROBES = 8
"""Golden inputs looked through for one that gives a model something to do."""
_log = logging.getLogger(__name__)


class Place(Struct, frozen=True):
    """How one model is opened, and why so."""

    model: str
    """The node's name."""
    candidate: Candidate
    reason: str


class Order(Struct, frozen=True):
    """What is to be measured, and where the choice is kept."""

    package: str
    kept: str
    wish: RuntimeWish
    cores: int
    allow_custom: bool


def first_places(whole: Package, wish: RuntimeWish, cores: int) -> tuple[Place, ...]:
    """The first candidate of each model, which needs no measuring."""
    places = []
    for node in whole.pipeline.models:
        found = candidates(whole, node, wish, cores)
        why = "the only one there is" if len(found) == 1 else "the first, nothing was measured"
        if _certified(whole, node, wish) is not None:
            why = "what the certificate is bound to"
        places.append(Place(node.id, found[0], f"{words(found[0])}: {why}"))
    return tuple(places)


def kept_places(
    whole: Package, wish: RuntimeWish, cores: int, kept: Path
) -> tuple[Place, ...] | None:
    """The places measured before, where they still hold; None where measuring would tell."""
    places = []
    for place, node in zip(first_places(whole, wish, cores), whole.pipeline.models, strict=True):
        found = candidates(whole, node, wish, cores)
        if len(found) == 1:
            places.append(place)
            continue
        try:
            chosen = choice.stored(found, kept / node.id)
        except NoCandidate as error:
            places.append(Place(node.id, found[0], f"{words(found[0])}: {error}"))
            continue
        if chosen is None:
            return None
        places.append(Place(node.id, found[chosen.at], chosen.reason))
    return tuple(places)


def measure(order: Order) -> None:
    """Measure every model of a package that has several candidates. Raises `ModelsError`."""
    whole = package.read(Path(order.package), Role.EDGE)
    several = [
        (node, found)
        for node in whole.pipeline.models
        if len(found := candidates(whole, node, order.wish, order.cores)) > 1
    ]
    start = Opener(whole, first_places(whole, order.wish, order.cores), None)
    opened: dict[str, Runtime] = {}

    def first(node: Model) -> Runtime:
        if node.id not in opened:
            opened[node.id] = start(node)
        return opened[node.id]

    predictor = Predictor.load(whole, opener=first, allow_custom=order.allow_custom)
    for node, found in several:
        feeds = _feeds(predictor, node, opened[node.id])
        if feeds is None:
            choice.keep_first(found, Path(order.kept) / node.id, "no golden input reaches it")
            continue

        def check(runtime: Runtime, node: Model = node) -> str | None:
            return Predictor.load(
                whole,
                opener=lambda one: runtime if one.id == node.id else first(one),
                allow_custom=order.allow_custom,
            ).golden_difference()

        limit_s = LIMIT_S / len(several)
        try:
            choice.choose(
                found,
                feeds,
                check=check,
                folder=Path(order.kept) / node.id,
                seconds=limit_s,
                limit_s=limit_s,
            )
        except NoCandidate as error:
            _log.warning("placement.none_fit model=%s why=%s", node.id, error)


def keep_first(whole: Package, wish: RuntimeWish, cores: int, kept: Path, why: str) -> None:
    """Note that measuring failed, so that it does not fail at every start."""
    for node in whole.pipeline.models:
        found = candidates(whole, node, wish, cores)
        if len(found) > 1:
            choice.keep_first(found, kept / node.id, why)


class Opener:
    """Opens each model in its place, or on its own runtime where that one does not open."""

    def __init__(self, whole: Package, places: Sequence[Place], cache: Path | None) -> None:
        self._whole = whole
        self._cache = cache
        self._places = {place.model: place for place in places}
        self.reasons: dict[str, str] = {}
        """Why each opened model runs where it does."""

    def __call__(self, node: Model) -> Runtime:
        """Raises `RuntimeFailed`."""
        place, own = self._places[node.id], _own(self._whole, node)
        self.reasons[node.id] = place.reason
        try:
            return place.candidate.open(cache=self._cache)
        except RuntimeFailed as error:
            if place.candidate == own:
                raise
            self.reasons[node.id] = f"{words(own)}: {words(place.candidate)} did not open ({error})"
            _log.warning("placement.not_opened why=%s", self.reasons[node.id])
            return own.open(cache=self._cache)


def binding_difference(whole: Package, runtimes: Sequence[Runtime]) -> str | None:
    """Why the package's certificate does not speak of these runtimes; None where it does."""
    certificate = whole.manifest.certificate
    bound = certificate.bound
    if bound is None or not certificate.feasible:
        return None  # it says nothing of the one or the other
    here = binding(whole.pipeline, runtimes)
    if here == bound:
        return None
    for ours, certified, what in (
        (here.model_sha256, bound.model_sha256, "model file"),
        (here.preparation_sha256, bound.preparation_sha256, "preparation"),
    ):
        if ours != certified:
            return f"its certificate was made for another {what}; calibrate the package again"
    return (
        f"its certificate is bound to {bound.runtime} on {bound.provider} in {bound.precision}, "
        f"and here it runs on {here.runtime} on {here.provider} in {here.precision}; "
        "calibrate it there"
    )


def candidates(whole: Package, node: Model, wish: RuntimeWish, cores: int) -> tuple[Candidate, ...]:
    """The ways to run one model here that are worth measuring, by preference; one at the least."""
    if node.form == "twin":
        return (_own(whole, node),)
    threads = (wish.threads, 2) if wish.threads == 1 and cores > _SPARE_CORES else (wish.threads,)
    names: list[str] = [name for name in ("onnx", "openvino") if name in installed()]
    provider = wish.provider
    if (certified := _certified(whole, node, wish)) is not None:
        names, provider = [certified.runtime], certified.provider
    return tuple(
        Candidate(whole.path(node.file), name, count, provider, wish.precision)
        for count in threads
        for name in names or (node.form,)
    )


def _certified(whole: Package, node: Model, wish: RuntimeWish) -> Binding | None:
    """What the certificate holds this model to, where there is such a promise and it may run."""
    certificate = whole.manifest.certificate
    bound = certificate.bound
    if bound is None or not certificate.feasible or node.form == "twin":
        return None
    allowed = {name.strip() for name in wish.provider.split(",")}
    if bound.runtime not in installed() or bound.precision != wish.precision:
        return None
    return bound if allowed & {"auto", bound.provider} else None


def _own(whole: Package, node: Model) -> Candidate:
    return Candidate(whole.path(node.file), node.form)


def _feeds(predictor: Predictor, node: Model, runtime: Runtime) -> tuple[Array, ...] | None:
    """What one model is given in the course of a golden input, as its runtime takes it."""
    ranks = [len(port.shape) for port in runtime.inputs]
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


def may_measure(whole: Package, wish: RuntimeWish, *, allow_custom: bool) -> bool:
    """Whether there is a point: code that may not run cannot be measured."""
    if not wish.choose:
        return False
    return allow_custom or not any(isinstance(node, Custom) for node in whole.pipeline.nodes)


def main() -> int:
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s placement %(levelname)s %(name)s %(message)s"
    )
    try:
        measure(msgspec.json.decode(sys.stdin.buffer.read(), type=Order))
    except (ModelsError, msgspec.DecodeError) as error:
        _log.error("placement.failed why=%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
