"""Would another stage pay for this package? The shell of `longstop-models explore`."""

from dataclasses import dataclass
from pathlib import Path

from models import package
from models.calibrate.certificate import Promise
from models.calibrate.scores import Logits
from models.errors import UnfitData
from models.evaluate.explore import Exploration, explore
from models.evaluate.ways import ExploreInputs
from models.judging.answered import Tell, answer
from models.judging.calibrating import Source
from models.judging.judged import cloud_logits, edge_logits
from models.judging.other_model import logits_with
from models.manifest import Role


@dataclass(frozen=True, kw_only=True)
class ExploreOptions:
    """One run of `explore`; promise, eps and delta are the certificate's unless given."""

    folder: Path
    data: Source
    middle: Path | None = None
    """A model between the two, which takes what the edge model takes."""
    second: Path | None = None
    """A second model for the device."""
    middle_cost: float = 0.1
    second_cost: float = 0.02
    promise: Promise | None = None
    eps: float | None = None
    delta: float | None = None
    seed: int = 0
    allow_custom: bool = False
    """Whether the package may run Python code of its own."""


def explore_package(options: ExploreOptions, *, tell: Tell) -> Exploration:
    """Try every way that data and models allow. Raises `ModelsError`."""
    manifest = package.read(options.folder, Role.EDGE).manifest
    certificate = manifest.certificate
    samples = options.data.load(manifest)
    answered = answer(
        package.read(options.folder, Role.EDGE),
        samples,
        allow_custom=options.allow_custom,
        tell=tell,
    )
    edge, cloud = edge_logits(answered), cloud_logits(answered, samples)
    if edge is None or cloud is None:
        raise UnfitData("explore compares logits, and this package does not name a class")

    def other(file: Path | None) -> Logits | None:
        if file is None:
            return None
        custom = options.allow_custom
        return logits_with(options.folder, file, samples.values, allow_custom=custom)

    tell("calibrating every way on random splits")
    return explore(
        ExploreInputs(
            edge_logits=edge,
            cloud_logits=cloud,
            y=samples.y,
            middle_logits=other(options.middle),
            second_logits=other(options.second),
            groups=samples.groups,
            promise=options.promise or certificate.promise,
            eps=options.eps or certificate.eps,
            delta=options.delta or certificate.delta,
            temperature=certificate.temperature,
            middle_cost=options.middle_cost,
            second_cost=options.second_cost,
            seed=options.seed,
        )
    )
