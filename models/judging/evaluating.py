"""How good a package is on data with known truth: the shell of `longstop-models evaluate`."""

from dataclasses import dataclass
from pathlib import Path

from models import package
from models.calibrate.binding import runs_of
from models.dataset import Samples
from models.errors import TargetUnwritable
from models.evaluate.evaluation import evaluate, to_json
from models.evaluate.inputs import EvaluationInputs, Link, Prices
from models.evaluate.sections import Evaluation
from models.judging.answered import Tell, answer
from models.judging.calibrating import Source
from models.judging.judged import Scored, cloud_logits, edge_logits, judge
from models.judging.other_model import logits_with
from models.manifest import MAIN, Manifest, Role


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What the data do not say: how far the cloud is, what it costs, what came before."""

    fp32: Path | None = None
    """The edge model before it was quantised."""
    link: Link | None = None
    deadline_ms: float | None = None
    prices: Prices | None = None
    resamples: int = 1000
    seed: int = 0
    allow_custom: bool = False
    """Whether the package may run Python code of its own."""
    edition: str = MAIN
    """Which edition of the edge half is judged."""


def evaluate_package(
    folder: Path,
    data: Source,
    *,
    calibration: Source | None = None,
    circumstances: Circumstances = Circumstances(),
    tell: Tell,
) -> Evaluation:
    """Judge a package folder on a file or folder of samples. Raises `ModelsError`.

    `calibration` is what the certificate was made from, to ask whether the two are alike.
    """
    manifest = package.read(folder, Role.EDGE).manifest
    return evaluate_samples(
        folder,
        data.load(manifest),
        calibration=None if calibration is None else calibration.load(manifest),
        circumstances=circumstances,
        tell=tell,
    )


def evaluate_samples(
    folder: Path,
    samples: Samples,
    *,
    calibration: Samples | None,
    circumstances: Circumstances,
    tell: Tell,
) -> Evaluation:
    """Ask both halves about every sample, and judge. Raises `ModelsError`."""
    held, edition = package.read(folder, Role.EDGE), circumstances.edition
    whole = held.in_edition(edition)
    manifest, custom = whole.manifest, circumstances.allow_custom
    certificate = manifest.certificate
    scored = Scored(certificate.score, certificate.temperature)
    on = runs_of(certificate) if edition == MAIN else held.manifest.edition(edition).runs
    answered = answer(whole, samples, on=on, allow_custom=custom, tell=tell)
    before = None
    if calibration is not None:
        tell("answering the calibration samples")
        known = answer(whole, calibration, on=on, allow_custom=custom, tell=tell)
        before = judge(known, calibration, scored)
    edge, cloud = edge_logits(answered), cloud_logits(answered, samples)
    classes = edge is not None and cloud is not None
    tell(f"judging {len(samples):,} samples, {circumstances.resamples:,} resamplings")
    fp32 = None
    if circumstances.fp32 is not None:
        fp32 = logits_with(folder, circumstances.fp32, samples.values, allow_custom=custom)
    return evaluate(
        EvaluationInputs(
            task=manifest.task,
            certificate=certificate,
            package=_named(held.manifest, edition),
            labels=manifest.labels,
            y=samples.y if classes else None,
            edge_logits=edge,
            edge_fp32_logits=fp32,
            cloud_logits=cloud,
            judged=None if classes else judge(answered, samples, scored),
            groups=samples.groups,
            calibration=before,
            request_bytes=answered.request_bytes,
            edge_ms=answered.edge_ms,
            cloud_ms=answered.cloud_ms,
            link=circumstances.link,
            deadline_ms=circumstances.deadline_ms,
            prices=circumstances.prices,
            resamples=circumstances.resamples,
            seed=circumstances.seed,
        )
    )


def _named(manifest: Manifest, edition: str) -> str:
    """The package as the page names it, with the edition where there are several."""
    which = f", edition {edition}" if manifest.editions else ""
    return f"{manifest.name} {manifest.version}{which}"


def write_page(evaluation: Evaluation, page: Path) -> None:
    """Write the page, and beside it the JSON under the same name. Raises `TargetUnwritable`."""
    from models.evaluate.page import to_html

    try:
        page.write_text(to_html(evaluation), encoding="utf-8")
        page.with_suffix(".json").write_bytes(to_json(evaluation))
    except OSError as error:
        raise TargetUnwritable(
            f"{page} cannot be written: {error.strerror}; choose a folder that lets you write"
        ) from error
