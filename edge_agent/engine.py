"""The loaded edge model of one task: checked, warm, never asked for more than it can do in time.

1. A model that does not reproduce its package's golden answers on this machine, or runs on another
   runtime than its certificate is bound to, serves all the same, and every answer of it is
   `uncertified`: its certificate was made for other numbers. Before that, the package's other
   editions are tried: one that keeps its promise here serves with its own certificate.
2. What a package runs on is measured when it is first loaded here, in a short process of its own,
   and kept until something it rests on changes. Whatever goes wrong there keeps nothing from
   serving: the model then runs where it was made to run.
3. A model that takes less than `INLINE_BELOW_S` runs in the caller's thread: a thread would cost
   more than it saves. A slower one has a thread of its own, so that it holds up nobody else; so has
   one that waits for features.
4. Who runs when, and with whom together, is `admission`'s; what is remembered is `cache`'s.
"""

import contextlib
import logging
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from edge_agent.admission import Admission
from edge_agent.cache import Cache, key_of
from edge_agent.workplace import CacheSettings, RunsOn, Workplace
from models import package, placement
from models.calibrate.binding import binding
from models.calibrate.certificate import Certificate
from models.editions import binding_difference
from models.errors import RuntimeFailed
from models.manifest import Role
from models.measuring import LIMIT_S, Order
from models.package import Package
from models.pipeline.declared import Features
from models.pipeline.features import FeatureSource
from models.pipeline.heads import Classify
from models.pipeline.values import Value
from models.placement import Place
from models.predict import Prediction, Predictor
from models.runtimes.wish import RuntimeWish
from models.tensors import check_input
from sync.clock import Clock
from sync.runner import InlineRunner, Runner

log = logging.getLogger(__name__)

Measure = Callable[[Order], str | None]
"""Measures what an order says and keeps it; gives back why it did not work."""
INLINE_BELOW_S = 500e-6
WARM_UPS = 30
WARM_UP_S = 2.0
"""A slow model is warm after fewer."""
_TRIED_TOGETHER = 4
_WORTH = 0.8
"""A batch that takes more than this share of single runs is not worth its wait."""
_SAME = 1e-6
"""Between confidences: rounding, far below any step of a certificate's threshold."""
QUEUE = 64
MEASURE_S = 20.0
"""A measuring process that has not ended by then is killed; a slow device imports for seconds."""
CHOICES, ARTEFACTS = "choices", "artefacts"
"""Folders of the data folder: what runs where, by task and package; what was made for this CPU."""
_CHOICES_KEPT = 8
"""Packages of a task whose choices are kept; a device has two or three at a time."""


class Engine:
    """One model, asked from one event loop."""

    def __init__(
        self,
        predictor: Predictor,
        *,
        digest: str,
        runner: Runner,
        clock: Clock,
        typical_s: float,
        runs_on: RunsOn | None = None,
        uncertified: str | None = None,
        queue: int = QUEUE,
        batch: int = 1,
        cache: CacheSettings | None = None,
        thread: Callable[[], Runner] | None = None,
    ) -> None:
        manifest = predictor.package.manifest
        self.task = manifest.task
        self.version = manifest.version
        self.digest = digest[:12]
        self.input_name = manifest.input.name
        self.input_dtype = manifest.input.dtype
        self.input_shape = manifest.input.shape
        self.label_says_all = isinstance(manifest.answer, Classify) and manifest.answer.top < 2
        self.threshold = manifest.certificate.threshold if uncertified is None else None
        self.certified_risk = certified_risk(manifest.certificate, self.threshold)
        self.signed = manifest.certificate
        """The package's own certificate, whether it holds here or not."""
        self.certificate = manifest.certificate.id if self.threshold is not None else ""
        """Its id; empty where none holds."""
        self.curve = manifest.certificate.curve if uncertified is None else None
        self.gain = manifest.certificate.gain
        """What escalating gains by score; no promise, so it serves where no certificate holds."""
        self.uncertified = uncertified
        """Why the certificate means nothing here; None where it holds."""
        self.runs_on = runs_on or _runs_on(predictor, None)
        self._spec = manifest.input
        self._admission = Admission(
            predictor,
            task=self.task,
            runner=runner,
            clock=clock,
            typical_s=typical_s,
            queue=queue,
            batch=batch,
            thread=thread,
        )
        self._cache: Cache[Prediction] | None = None
        if cache is not None and cache.ttl_s > 0:
            self._cache = Cache(ttl_s=cache.ttl_s, entries=cache.entries, now=clock.monotonic)

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        digest: str,
        clock: Clock,
        thread: Callable[[], Runner],
        inline_below_s: float = INLINE_BELOW_S,
        place: Workplace | None = None,
        sources: Mapping[str, FeatureSource] | None = None,
        measure: Measure | None = None,
        queue: int = QUEUE,
    ) -> "Engine":
        """Open a package, warm it up and check it; blocks meanwhile, seconds when it is new here.

        Without a `place` nothing is measured or kept. Raises what `models.errors` names:
        `PackageError`, `RuntimeFailed`, `CustomCodeForbidden`.
        """
        given = place or Workplace(data="")
        whole = package.read(folder, Role.EDGE)
        artefacts = None if place is None else Path(place.data, ARTEFACTS)
        chosen = _places(whole, digest, given, measure or measure_apart)

        def opened(places: Sequence[Place]) -> _Opened:
            edition = placement.serving(whole, places)
            opener = placement.Opener(edition, places, artefacts)
            predictor = Predictor.load(
                edition, opener=opener, allow_custom=given.custom_steps, sources=sources
            )
            return _Opened(predictor, opener, _uncertified(predictor))

        predictor, opener, uncertified = _best(opened, whole, given, chosen)
        typical_s = warm_up(predictor.without_sources)
        waits = any(isinstance(node, Features) for node in whole.pipeline.nodes)
        inline = typical_s < inline_below_s and not waits
        return cls(
            predictor,
            digest=digest,
            runner=InlineRunner() if inline else thread(),
            clock=clock,
            typical_s=typical_s,
            runs_on=_runs_on(predictor, opener),
            uncertified=uncertified,
            queue=queue,
            batch=1 if inline or waits else shared(predictor, given.runtime.batch, typical_s),
            # What a source says of a key may change, and the input would be the same.
            cache=None if waits else given.cache,
            thread=thread,
        )

    def read(
        self, dtype: str, shape: tuple[int, ...], data: bytes | bytearray | memoryview
    ) -> Value:
        """The sample in these bytes. Raises `models.errors.InputError`."""
        return check_input(self._spec, dtype, shape, data)

    def predict_now(self, sample: Value, *, until: float) -> Prediction | None:
        """As `predict`, where the model runs in the caller's thread; None where it does not."""
        if self._cache is not None or not self._admission.inline:
            return None
        return self._admission.run_now(sample, until)

    async def predict(
        self,
        sample: Value,
        *,
        until: float,
        client: str = "",
        data: bytes | bytearray | memoryview | None = None,
    ) -> Prediction:
        """Run the model. Raises `Overloaded`, `models.errors.RuntimeFailed`.

        Clients take turns; `data`, where it is given, is what the cache knows the sample by.
        """
        if self._cache is None or data is None:
            return await self._admission.run(sample, until, client)
        said, known = await self._cache.get(
            key_of(data, repr(getattr(sample, "shape", None)), self.digest),
            lambda: self._admission.run(sample, until, client),
        )
        return replace(said, prepare_us=0, run_us=0) if known else said

    @property
    def typical_s(self) -> float:
        """What one sample takes."""
        return self._admission.typical_s

    @property
    def running_s(self) -> float:
        """How long the model has been on the run it is on; 0 for none."""
        return self._admission.running_s

    @property
    def p99_s(self) -> float:
        """What all but one of a hundred of its last runs took."""
        return self._admission.p99_s

    def close(self) -> None:
        self._admission.close()


def certified_risk(certificate: Certificate, threshold: float | None) -> float | None:
    """What is promised of the risk when inputs are answered from `threshold` on; None: nothing."""
    if threshold is None or not certificate.feasible:
        return None
    return certificate.upper_bound


def warm_up(predictor: Predictor) -> float:
    """Run a model until it is as fast as it gets; gives back what one run takes, in seconds."""
    sample = predictor.golden_samples()[0]
    took: list[float] = []
    while len(took) < WARM_UPS and sum(took) < WARM_UP_S * 1e6:
        run = predictor.predict(sample)
        took.append(run.prepare_us + run.run_us)
    return statistics.median(took[len(took) // 2 :]) / 1e6


def shared(predictor: Predictor, most: int, typical_s: float) -> int:
    """How many samples may share a run: 1 where a batch says anything else, or is no faster."""
    if most < 2 or not predictor.graph.together:
        return 1
    golden = predictor.golden_samples()
    samples = [golden[at % len(golden)] for at in range(_TRIED_TOGETHER)]
    alone = [predictor.predict(sample) for sample in samples]
    predictor.predict_batch(samples)  # a runtime may prepare for a batch of this size first
    together = predictor.predict_batch(samples)
    if any(one.label != other.label for one, other in zip(alone, together, strict=True)):
        return 1
    if not all(_same(one, other) for one, other in zip(alone, together, strict=True)):
        return 1
    took_s = (together[0].prepare_us + together[0].run_us) / 1e6
    return most if took_s < _WORTH * typical_s * len(samples) else 1


def _same(one: Prediction, other: Prediction) -> bool:
    if one.confidence is None or other.confidence is None:
        return one.confidence is other.confidence
    return abs(one.confidence - other.confidence) <= _SAME


class _Opened(NamedTuple):
    predictor: Predictor
    opener: placement.Opener
    uncertified: str | None


def _best(
    opened: Callable[[Sequence[Place]], _Opened],
    whole: Package,
    place: Workplace,
    chosen: Sequence[Place],
) -> _Opened:
    """The package as chosen; where that keeps no promise here, another edition that keeps its."""
    wish, cores = _wished(place)
    best: _Opened | None = None
    failures: list[RuntimeFailed] = []
    for places in (chosen, *placement.instead(whole, wish, cores, chosen)):
        try:
            found = opened(places)
        except RuntimeFailed as error:
            log.warning("engine.edition_failed edition=%s why=%s", places[0].edition, error)
            failures.append(error)
            continue
        if found.uncertified is None:
            return found
        log.warning("engine.uncertified reason=%r", found.uncertified)
        best = best or found
    if best is None:
        raise failures[0]  # there is one: what was not opened failed
    return best


def _wished(place: Workplace) -> tuple[RuntimeWish, int]:
    """What the settings say of runtimes, and how many cores there are."""
    wish = msgspec.convert(place.runtime, RuntimeWish, from_attributes=True)
    return wish, len(os.sched_getaffinity(0))


def _places(whole: Package, digest: str, place: Workplace, measure: Measure) -> Sequence[Place]:
    """What each model runs on here: measured before, measured now, or the first of its kind."""
    wish, cores = _wished(place)
    if place.data and placement.may_measure(whole, wish, allow_custom=place.custom_steps):
        kept = Path(place.data, CHOICES, whole.manifest.task, digest[:12])
        places = placement.kept_places(whole, wish, cores, kept)
        if places is None:
            order = Order(
                str(whole.folder), str(kept), wish, cores, allow_custom=place.custom_steps
            )
            why = measure(order)
            if why is not None:
                log.warning("engine.not_measured task=%s why=%s", whole.manifest.task, why)
                placement.keep_first(whole, wish, cores, kept, why)
            _forget_old(kept)
            places = placement.kept_places(whole, wish, cores, kept)
        if places is not None:
            return places
    return placement.first_places(whole, wish, cores)


def measure_apart(
    order: Order,
    *,
    limit_s: float = MEASURE_S,
    program: Sequence[str] = (sys.executable, "-P", "-m", "models.measuring"),
) -> str | None:
    """Measure in a process of its own, whose libraries and crashes are not this one's.

    Gives back why it did not work, None when it did.
    """
    log.info("engine.measuring package=%s limit_s=%g", order.package, LIMIT_S)
    try:
        done = subprocess.run(program, input=msgspec.json.encode(order), timeout=limit_s)
    except subprocess.TimeoutExpired:
        return f"measuring took longer than {limit_s:g} s"
    except OSError as error:
        return f"measuring did not start: {error}"
    return None if done.returncode == 0 else f"measuring ended with {done.returncode}"


def _forget_old(kept: Path) -> None:
    """Choices of packages that were here long ago."""
    with contextlib.suppress(OSError):  # another worker of this task does the same
        others = [one for one in kept.parent.iterdir() if one != kept]
        newest_first = sorted(others, key=lambda one: one.stat().st_mtime, reverse=True)
        for old in newest_first[_CHOICES_KEPT - 1 :]:
            shutil.rmtree(old, ignore_errors=True)


def _uncertified(predictor: Predictor) -> str | None:
    """Why the certificate means nothing here; None where it holds."""
    difference = binding_difference(predictor.package, predictor.graph.runtimes)
    return difference or predictor.golden_difference()


def _runs_on(predictor: Predictor, opener: placement.Opener | None) -> RunsOn:
    here = binding(predictor.package.pipeline, predictor.graph.runtimes)
    why = "as it was opened" if opener is None else "; ".join(opener.reasons.values())
    return RunsOn(here.runtime, here.provider, here.precision, why, predictor.package.edition)
