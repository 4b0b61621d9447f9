"""Puts a certificate into a package: the shell of `longstop-models calibrate`.

1. Both halves answer every sample, through the package's own preparation, on this machine's
   runtime.
2. Tuning samples choose score and temperature, the others are calibrated on. Without a file of
   their own they are a share of the data, cut by group where there are groups, else at random.
3. Every edition gets a certificate of its own, made on what it runs on, from the same samples:
   delta is per certificate. Which of them a device takes is chosen by speed, without a look at
   these samples. One whose runtime is not here keeps what it had.
4. Samples found among those the models were trained on are refused.
5. The golden answers are taken anew, for a temperature changes every confidence. The package is a
   new one by its hash: publish it under a new version.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace as altered

from models import package
from models.archive import Entry
from models.build import answer_edition, answer_golden, content, write
from models.calibrate.binding import binding
from models.calibrate.by_hand import by_hand
from models.calibrate.certificate import Certificate, Guarantee, Promise
from models.calibrate.certify import Counting, certify
from models.calibrate.exchange import split_by_group
from models.calibrate.overlap import refuse_overlap
from models.dataset import Samples, load_samples
from models.errors import RuntimeMissing, TooFewSamples
from models.judging.answered import Answered, Tell, answer
from models.judging.judged import Places, choose, judge
from models.manifest import MAIN, Edition, Manifest, Role
from models.pipeline.heads import Detect
from models.runtimes.wish import AS_DECLARED, Runs
from models.targets import refuse_existing

LEAST_TUNE = 20
Column = npt.NDArray[Any]


@dataclass(frozen=True)
class Source:
    """A file or folder of samples, and which of its columns is what."""

    path: Path
    label: str | None = None
    group: str | None = None
    cloud: str | None = None

    def load(self, manifest: Manifest) -> Samples:
        """Raises as `load_samples` does."""
        return load_samples(
            self.path,
            manifest.input,
            manifest.labels,
            label=self.label,
            group=self.group,
            cloud=self.cloud,
            objects=isinstance(manifest.answer, Detect),
        )


@dataclass(frozen=True, kw_only=True)
class CalibrateOptions:
    """One run of `calibrate`."""

    folder: Path
    data: Source
    promise: Promise
    eps: float
    delta: float = 0.1
    guarantee: Guarantee = "high-probability"
    score: str | None = None
    """`top` or `margin`; chosen on the tuning samples when None."""
    counting: Counting = "groups"
    tune: Path | None = None
    """Tuning samples of their own; else `tune_share` of the data."""
    tune_share: float = 0.3
    trained_on: tuple[Path, ...] = ()
    out: Path | None = None
    """A new folder for the package; None changes the one that was given."""
    version: str | None = None
    seed: int = 0
    on: Runs = AS_DECLARED
    """What the edge half runs on, and so what the certificate is bound to: that of the main
    edition, or of the one that is named."""
    edition: str | None = None
    """Only this one; with a runtime in `on` it may be a new one of the main edition's files."""
    allow_custom: bool = False
    """Whether the package may run Python code of its own."""


class Made(Struct, frozen=True):
    """One edition's certificate."""

    edition: str
    certificate: Certificate


class Calibrated(Struct, frozen=True):
    """What `calibrate --json` prints."""

    folder: str
    version: str
    certificate: Certificate
    """The first that was made: the main edition's, unless another was named."""
    made: tuple[Made, ...]
    left: tuple[str, ...] = ()
    """Editions that keep what they had, with the reason."""


def calibrate(options: CalibrateOptions, *, tell: Tell) -> Calibrated:
    """Make the certificates and write the package. Raises `ModelsError`.

    A promise that cannot be kept is written as such: `feasible` false and no threshold.
    """
    if options.out is not None:
        refuse_existing(options.out)
    manifest = _with_edition(package.read(options.folder, Role.EDGE).manifest, options)
    samples, tune = _samples(options, manifest)
    for other in options.trained_on:
        trained = replace(options.data, path=other, label=None).load(manifest)
        refuse_overlap(samples.hashes, {f"training ({other.name})": trained.hashes})
    made: list[Made] = []
    left: list[str] = []
    known: Answered | None = None
    for name, on in _runs(options, manifest):
        if manifest.editions:
            tell(f"edition {name}")
        try:
            known, certificate = _certified(options, manifest, samples, tune, name, on, known, tell)
        except RuntimeMissing as error:
            if name == (options.edition or MAIN):
                raise
            left.append(f"{name}: {error}")
            continue
        made.append(Made(name, certificate))
        tell("taking the golden answers anew")
        manifest = _with_certificate(manifest, options.folder, name, on, certificate)
    manifest = altered(manifest, version=options.version or manifest.version)
    into = _written(options, manifest)
    return Calibrated(str(into), manifest.version, made[0].certificate, tuple(made), tuple(left))


def _with_edition(manifest: Manifest, options: CalibrateOptions) -> Manifest:
    """The manifest, with the edition that is asked for. Raises `UnknownEdition`."""
    name, on = options.edition, options.on
    if name is None or name == MAIN:
        return manifest
    known = name in [one.name for one in manifest.editions]
    if on.runtime is None:
        manifest.edition(name)
        return manifest
    if known:
        editions = tuple(
            altered(one, runtime=on.runtime, provider=on.provider, precision=on.precision)
            if one.name == name
            else one
            for one in manifest.editions
        )
    else:
        new = Edition(
            name=name,
            runtime=on.runtime,
            provider=on.provider,
            precision=on.precision,
            certificate=by_hand(note="not calibrated yet"),
            golden=manifest.golden.edge,
        )
        editions = (*manifest.editions, new)
    return altered(manifest, editions=editions)


def _runs(options: CalibrateOptions, manifest: Manifest) -> tuple[tuple[str, Runs], ...]:
    """The editions to certify, and what each runs on."""
    main = (MAIN, options.on)
    others = tuple((one.name, one.runs) for one in manifest.editions)
    if options.edition is None:
        return (main, *others)
    return tuple(one for one in (main, *others) if one[0] == options.edition)


def _certified(
    options: CalibrateOptions,
    manifest: Manifest,
    samples: Samples,
    tune: Places,
    edition: str,
    on: Runs,
    known: Answered | None,
    tell: Tell,
) -> tuple[Answered, Certificate]:
    held = package.read(options.folder, Role.EDGE)
    answered = answer(
        altered(held, manifest=manifest).in_edition(edition),
        samples,
        on=on,
        known=known,
        allow_custom=options.allow_custom,
        tell=tell,
    )
    scored = choose(answered, samples, tune, options.promise, options.score)
    outcomes = judge(answered, samples, scored)
    rest = np.setdiff1d(np.arange(len(samples)), tune)
    certificate = certify(
        outcomes.where(tune),
        outcomes.where(rest),
        promise=options.promise,
        eps=options.eps,
        delta=options.delta,
        guarantee=options.guarantee,
        score=scored.name,
        temperature=scored.temperature,
        counting=options.counting,
        bound=binding(answered.manifest.edge, answered.runtimes),
        note=scored.note,
    )
    return answered, certificate


def _with_certificate(
    manifest: Manifest, folder: Path, name: str, on: Runs, certificate: Certificate
) -> Manifest:
    """The manifest with an edition's certificate and its golden answers under it."""
    if name == MAIN:
        manifest = altered(manifest, certificate=certificate)
        return altered(manifest, golden=answer_golden(manifest, folder, on))
    editions = {
        one.name: altered(one, certificate=certificate) if one.name == name else one
        for one in manifest.editions
    }
    manifest = altered(manifest, editions=tuple(editions.values()))
    editions[name] = answer_edition(manifest, folder, name)
    return altered(manifest, editions=tuple(editions.values()))


def _samples(options: CalibrateOptions, manifest: Manifest) -> tuple[Samples, Places]:
    """All samples, and the places of those that tune."""
    samples = options.data.load(manifest)
    if options.tune is not None:
        tuning = replace(options.data, path=options.tune).load(manifest)
        refuse_overlap(samples.hashes, {"tuning": tuning.hashes})
        places = np.arange(len(samples), len(samples) + len(tuning))
        return _together(samples, tuning), places
    if samples.groups is not None:
        mask = split_by_group(samples.groups, options.tune_share, options.seed)
        tune = np.flatnonzero(mask)
    else:
        order = np.random.default_rng(options.seed).permutation(len(samples))
        tune = np.sort(order[: round(options.tune_share * len(samples))])
    if len(tune) < LEAST_TUNE or len(samples) - len(tune) < LEAST_TUNE:
        raise TooFewSamples(
            f"{len(samples)} samples are too few: {LEAST_TUNE} tune and {LEAST_TUNE} calibrate at "
            "the least; give more, or another --tune-share"
        )
    return samples, tune


def _together(samples: Samples, tuning: Samples) -> Samples:
    """Both, the second behind the first; what one of them does not know, neither does."""

    def behind(one: Column | None, other: Column | None) -> Column | None:
        return None if one is None or other is None else np.concatenate([one, other])

    return Samples(
        values=(*samples.values, *tuning.values),
        y=behind(samples.y, tuning.y),
        targets=behind(samples.targets, tuning.targets),
        groups=behind(samples.groups, tuning.groups),
        cloud=behind(samples.cloud, tuning.cloud),
        names=samples.names + tuning.names,
        hashes=np.concatenate([samples.hashes, tuning.hashes]),
        objects=None
        if samples.objects is None or tuning.objects is None
        else samples.objects + tuning.objects,
    )


def _written(options: CalibrateOptions, manifest: Manifest) -> Path:
    refs = dict.fromkeys(ref for role in Role for ref in manifest.files(role))
    there = [ref for ref in refs if (options.folder / ref.path).exists()]
    files = [Entry(ref.path, content(options.folder / ref.path)) for ref in there]
    into = options.out or options.folder
    write(manifest, files, into, over=options.out is None)
    return into
