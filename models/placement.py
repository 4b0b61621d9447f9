"""Which edition of a package serves on this device, and what each of its models runs on there.

1. An edition whose certificate keeps a promise runs on the runtime, provider and precision the
   certificate is bound to: on others it would have none. Threads are free. It counts where that is
   installed and the settings allow it.
2. Of the editions that count all are candidates, the main one first. Where none does, the main one
   is, on every installed runtime, the one the file is written for first.
3. Candidates are measured once, by `runtimes.choice`; to be fit one must give its edition's golden
   answers. Where there is only one there is nothing to measure.
4. All models of a package are of one edition: the one whose models together take least time, and
   of two that are nearly as fast the one named first.
5. Nothing here keeps a package from running. Whatever goes wrong, and a choice that no longer
   opens, means the first candidate, and at last the file's own runtime on the processor.

`measuring` measures, in a process of its own.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from models.editions import EVERYTHING, certified, counting
from models.errors import NoCandidate, RuntimeFailed, UnknownEdition
from models.manifest import MAIN
from models.package import Package
from models.pipeline.declared import Custom, Model
from models.runtimes import choice
from models.runtimes.base import Runtime
from models.runtimes.choose import installed
from models.runtimes.measure import Candidate, words
from models.runtimes.wish import RuntimeWish

_SPARE_CORES = 2
"""More than these, and a second thread does not take what supervisor and other programs run on."""
_log = logging.getLogger(__name__)


class Place(Struct, frozen=True):
    """How one model is opened, and why so."""

    model: str
    """The node's name."""
    candidate: Candidate
    reason: str
    edition: str = MAIN
    """The same for all models of a package."""


class Way(NamedTuple):
    """A candidate and the edition it is of."""

    edition: str
    candidate: Candidate


def first_places(
    whole: Package, wish: RuntimeWish, cores: int, edition: str | None = None
) -> tuple[Place, ...]:
    """The first candidate of each model (of an edition, if one is named): no measuring is needed.

    Raises `UnknownEdition` for one that does not count here.
    """
    places = []
    held = {one.edition for one in counting(whole, wish)}
    for node in whole.pipeline.models:
        found = ways(whole, node, wish, cores)
        first = next((one for one in found if edition in (None, one.edition)), None)
        if first is None:
            raise UnknownEdition(f"edition {edition!r} does not count here; take another")
        why = "the only one there is" if len(found) == 1 else "the first, nothing was measured"
        if first.edition in held or certified(whole, node, wish) is not None:
            why = "what the certificate is bound to"
        reason = f"{words(first.candidate)}: {why}"
        places.append(Place(node.id, first.candidate, reason, first.edition))
    return tuple(places)


def kept_places(
    whole: Package, wish: RuntimeWish, cores: int, kept: Path
) -> tuple[Place, ...] | None:
    """The places measured before, where they still hold; None where measuring would tell."""
    first = first_places(whole, wish, cores)
    found = {node.id: ways(whole, node, wish, cores) for node in whole.pipeline.models}
    choices: dict[str, choice.Choice] = {}
    unfit: dict[str, str] = {}
    for node, several in found.items():
        if len(several) == 1:
            continue
        try:
            chosen = choice.stored(candidates_of(several), kept / node)
        except NoCandidate as error:
            unfit[node] = str(error)
            continue
        if chosen is None:
            return None
        choices[node] = chosen
    edition = first[0].edition if unfit else _least(found, choices)

    def settled(place: Place) -> Place:
        if place.model in choices:
            return _chosen(place, found[place.model], choices[place.model])
        if place.model in unfit:
            return replace(place, reason=f"{words(place.candidate)}: {unfit[place.model]}")
        return place

    return tuple(settled(one) for one in first_places(whole, wish, cores, edition))


def _least(found: Mapping[str, Sequence[Way]], choices: Mapping[str, choice.Choice]) -> str:
    """The edition whose models together take least time, by what was measured of each."""
    editions = tuple(dict.fromkeys(way.edition for several in found.values() for way in several))
    if len(choices) == 1 and len(found) == 1:
        ((node, only),) = choices.items()
        return found[node][only.at].edition
    best, least = editions[0], math.inf
    for edition in editions:
        total = 0.0
        for node, chosen in choices.items():
            own = [
                one.run_us
                for one in chosen.measured
                if found[node][one.at].edition == edition and one.run_us is not None
            ]
            total += min(own, default=math.inf)
        if total < least * (1 - choice.MARGIN):
            best, least = edition, total
    return best


def _chosen(place: Place, several: Sequence[Way], chosen: choice.Choice) -> Place:
    """A place by what was measured of its model, in its edition."""
    winner = several[chosen.at]
    if winner.edition == place.edition:
        return replace(place, candidate=winner.candidate, reason=chosen.reason)
    own = [one for one in chosen.measured if several[one.at].edition == place.edition]
    try:
        best, reason = choice.best(own)
    except NoCandidate as error:
        return replace(place, reason=f"{words(place.candidate)}: {error}")
    reason = f"{reason}; alone {words(winner.candidate)} is faster, all models are of one edition"
    return replace(place, candidate=several[best.at].candidate, reason=reason)


def keep_first(whole: Package, wish: RuntimeWish, cores: int, kept: Path, why: str) -> None:
    """Note that measuring failed, so that it does not fail at every start."""
    for node in whole.pipeline.models:
        found = ways(whole, node, wish, cores)
        if len(found) > 1:
            choice.keep_first(candidates_of(found), kept / node.id, why)


def serving(whole: Package, places: Sequence[Place]) -> Package:
    """The package as the edition these places are of."""
    return whole.in_edition(places[0].edition)


def instead(
    whole: Package, wish: RuntimeWish, cores: int, places: Sequence[Place]
) -> tuple[tuple[Place, ...], ...]:
    """Places of the other editions that count here, for when those chosen keep no promise."""
    return tuple(
        first_places(whole, wish, cores, one.edition)
        for one in counting(whole, wish)
        if one.edition != places[0].edition
    )


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


def ways(whole: Package, node: Model, wish: RuntimeWish, cores: int) -> tuple[Way, ...]:
    """The ways to run one model here that are worth measuring, by preference; one at the least."""
    held = counting(whole, wish) or (whole.in_edition(MAIN),)
    return tuple(
        Way(one.edition, candidate)
        for one in held
        for own in one.pipeline.models
        if own.id == node.id
        for candidate in _of_edition(one, own, wish, cores)
    )


def _of_edition(
    whole: Package, node: Model, wish: RuntimeWish, cores: int
) -> tuple[Candidate, ...]:
    if node.form == "twin":
        return (_own(whole, node),)
    if EVERYTHING in wish.avoid:
        return (_own(whole, node),)
    threads = (wish.threads, 2) if wish.threads == 1 and cores > _SPARE_CORES else (wish.threads,)
    there = set(installed()) - set(wish.avoid)
    names: list[str] = [name for name in ("onnx", "openvino") if name in there]
    provider = _allowed(wish)
    if (bound := certified(whole, node, wish)) is not None:
        names, provider = [bound.runtime], bound.provider
    return tuple(
        Candidate(whole.path(node.file), name, count, provider, wish.precision)
        for count in threads
        for name in names or (node.form,)
    )


def candidates_of(found: Sequence[Way]) -> tuple[Candidate, ...]:
    return tuple(way.candidate for way in found)


def _allowed(wish: RuntimeWish) -> str:
    """The providers wanted less those to be avoided; the processor where that leaves none."""
    avoid = set(wish.avoid) - {"onnx", "openvino"}
    if not avoid:
        return wish.provider
    wanted = (name.strip() for name in wish.provider.split(","))
    return ",".join(name for name in wanted if name not in {*avoid, "auto"}) or "cpu"


def _own(whole: Package, node: Model) -> Candidate:
    return Candidate(whole.path(node.file), node.form)


def may_measure(whole: Package, wish: RuntimeWish, *, allow_custom: bool) -> bool:
    """Whether there is a point: code that may not run cannot be measured."""
    if not wish.choose:
        return False
    return allow_custom or not any(isinstance(node, Custom) for node in whole.pipeline.nodes)
