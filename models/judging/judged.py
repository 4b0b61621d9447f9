"""Who was wrong: answers against the truth, and against each other.

Rules:
1. Of a class the truth is a label, and logits say more than the answer: score and temperature are
   chosen from them.
2. Of every other head the truth is an answer of its own form, and the score is the confidence the
   head defines. Two answers are the same as the head says (`answers.same_answer`).
3. Without the truth only `teacher` can be promised, and the cloud's answer stands for it.
4. An answer without confidence is wrong, whoever gave it.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from models.calibrate.certificate import CertifiedScore, Promise, ScoreName
from models.calibrate.choose import tune_score
from models.calibrate.outcomes import Outcomes, of_logits
from models.calibrate.scores import Logits
from models.dataset import Samples
from models.errors import OutcomesMissing
from models.judging.answered import Answered
from models.pipeline.answers import Answer, Estimated, Flagged, Found, same_answer
from models.pipeline.heads import Anomaly, Classify, Head, Regress, Search
from models.predict import Prediction

Places = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Scored:
    """The score everything is sorted by, and how it is computed."""

    name: CertifiedScore
    temperature: float
    note: str = ""


def edge_logits(answered: Answered) -> Logits | None:
    """Logits [n, K] of the edge half, where it names a class."""
    return _logits(answered.manifest.answer, answered.edge)


def cloud_logits(answered: Answered, samples: Samples) -> Logits | None:
    """Logits [n, K] of the cloud half; made up from its labels where those are all there is."""
    head = answered.manifest.answer
    if answered.cloud is not None:
        return _logits(head, answered.cloud)
    if not isinstance(head, Classify) or samples.cloud is None:
        return None
    return np.eye(len(head.labels), dtype=np.float32)[samples.cloud]


def choose(
    answered: Answered, samples: Samples, tune: Places, promise: Promise, wanted: str | None
) -> Scored:
    """Score and temperature, from tuning samples alone. Raises `CalibrateError`."""
    edge, cloud = edge_logits(answered), cloud_logits(answered, samples)
    if edge is None or cloud is None:
        return Scored("head", 1.0)
    names: tuple[ScoreName, ...] = ("top", "margin")
    labels = None if samples.y is None else samples.y[tune]
    tuned = tune_score(edge[tune], cloud[tune], labels, promise=promise, candidates=names)
    note = "no mistake on tune, so the temperature is 1" if tuned.without_mistake else ""
    for name in names:
        if name == wanted:
            return Scored(name, tuned.temperature, note)
    return Scored(tuned.name, tuned.temperature, note)


def judge(answered: Answered, samples: Samples, scored: Scored) -> Outcomes:
    """Outcomes of all samples. Raises `LabelOutside`, `OutcomesMissing`."""
    edge, cloud = edge_logits(answered), cloud_logits(answered, samples)
    if edge is not None and cloud is not None:
        name: ScoreName = "top" if scored.name == "head" else scored.name
        outcomes = of_logits(
            edge,
            cloud,
            samples.y,
            name=name,
            temperature=scored.temperature,
            groups=samples.groups,
            rows=samples.hashes,
        )
        return replace(outcomes, bytes=answered.request_bytes)
    return _by_head(answered, samples)


def _by_head(answered: Answered, samples: Samples) -> Outcomes:
    head = answered.manifest.answer
    if answered.cloud is None:
        raise OutcomesMissing(
            "for this kind of answer the cloud half itself is asked; give the whole package folder"
        )
    truths = _truths(head, samples)
    confidences = [one.confidence for one in answered.edge]
    return Outcomes(
        scores=np.array([np.nan if one is None else one for one in confidences]),
        disagree=np.array(
            [
                _unlike(head, edge, cloud.answer)
                for edge, cloud in zip(answered.edge, answered.cloud, strict=True)
            ]
        ),
        edge_wrong=None if truths is None else _wrong(head, answered.edge, truths),
        cloud_wrong=None if truths is None else _wrong(head, answered.cloud, truths),
        groups=samples.groups,
        bytes=answered.request_bytes,
        rows=samples.hashes,
    )


def _wrong(
    head: Head, said: tuple[Prediction, ...], truths: tuple[Answer, ...]
) -> npt.NDArray[np.bool_]:
    return np.array([_unlike(head, one, truth) for one, truth in zip(said, truths, strict=True)])


def _unlike(head: Head, said: Prediction, other: Answer) -> bool:
    return said.confidence is None or not same_answer(head, said.answer, other)


def _truths(head: Head, samples: Samples) -> tuple[Answer, ...] | None:
    """The truth of each sample as an answer of the head, where the samples know it."""
    match head:
        case Regress():
            if samples.targets is None:
                return None
            return tuple(Estimated(float(one), None, None) for one in samples.targets)
        case Anomaly():
            known = samples.targets if samples.targets is not None else samples.y
            return None if known is None else tuple(Flagged(bool(one), None) for one in known)
        case Search(labels):
            if samples.y is None:
                return None
            return tuple(Found(labels[int(one)], None) for one in samples.y)
        case _:
            return samples.objects


def _logits(head: Head, said: tuple[Prediction, ...]) -> Logits | None:
    if not isinstance(head, Classify):
        return None
    return np.stack([one.output for one in said])
