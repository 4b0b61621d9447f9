"""What became of every sample of a data set: its score, and who was wrong.

Rules:
1. A score that is NaN, infinite or outside [0, 1] is no score: it is kept as NaN, and its sample is
   never answered locally.
2. A loss is counted where a sample is answered locally. With e the edge wrong, c the cloud wrong
   and d the two answers differing (0 or 1): harm e (1 - c), excess e - c, teacher d, selective e.
   Always excess <= harm <= teacher, sample by sample.
3. Where the edge gave no score its answer counts as wrong, and where the cloud's logits are
   degenerate, too: nothing malformed counts in anybody's favour.
4. Rows of one group (person, device, clip) stand in one data set only: `split_by_group`.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, assert_never

import numpy as np
import numpy.typing as npt

from models.calibrate.certificate import Promise, ScoreName
from models.calibrate.scores import Logits, Scores, score
from models.errors import LabelOutside, OutcomesMissing, TooFewSamples

Flags = npt.NDArray[np.bool_]
Groups = npt.NDArray[np.int64] | npt.NDArray[np.str_]
Losses = npt.NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Columns of n samples; what is not known is None.

    Raises `TooFewSamples` without a sample, ValueError for a column of another length.
    """

    scores: Scores
    """float64 [n]; NaN where there is none."""
    disagree: Flags
    """Edge and cloud answer differently."""
    edge_wrong: Flags | None = None
    cloud_wrong: Flags | None = None
    groups: Groups | None = None
    bytes: npt.NDArray[np.int64] | None = None
    """What an escalation of the sample would send."""
    rows: npt.NDArray[np.uint64] | None = None
    """Hashes of the raw samples (`overlap.row_hashes`), to find them elsewhere."""

    def __post_init__(self) -> None:
        scores = np.asarray(self.scores, dtype=np.float64)
        if scores.ndim != 1:
            raise ValueError(f"scores must be [n], not {list(scores.shape)}")
        if len(scores) == 0:
            raise TooFewSamples("there is not one sample; give labelled or cloud-answered samples")
        within = (scores >= 0.0) & (scores <= 1.0)
        object.__setattr__(self, "scores", np.where(within, scores, np.nan))
        for name in ("disagree", "edge_wrong", "cloud_wrong"):
            column = getattr(self, name)
            if column is not None:
                object.__setattr__(self, name, np.asarray(column) != 0)
        for name in ("disagree", "edge_wrong", "cloud_wrong", "groups", "bytes", "rows"):
            column = getattr(self, name)
            if column is not None and column.shape != scores.shape:
                raise ValueError(f"{name} must be [{len(scores)}], not {list(column.shape)}")

    @property
    def n(self) -> int:
        return len(self.scores)

    @property
    def harm(self) -> Flags:
        """The edge wrong, the cloud right."""
        edge, cloud = self._judged()
        return edge & ~cloud

    @property
    def excess(self) -> Losses:
        """1 where only the edge is wrong, -1 where only the cloud is, else 0."""
        edge, cloud = self._judged()
        return edge.astype(np.int8) - cloud.astype(np.int8)

    def loss(self, promise: Promise) -> Losses:
        """What answering each sample locally costs, int8 [n]. Raises `OutcomesMissing`."""
        match promise:
            case "harm":
                return self.harm.astype(np.int8)
            case "excess":
                return self.excess
            case "teacher":
                return self.disagree.astype(np.int8)
            case "selective":
                if self.edge_wrong is None:
                    raise OutcomesMissing(_LABELS.format(promise))
                return self.edge_wrong.astype(np.int8)
            case _:
                assert_never(promise)

    def where(self, chosen: npt.NDArray[Any]) -> "Outcomes":
        """Only the samples a mask or an array of places chooses, in its order."""
        return Outcomes(
            scores=self.scores[chosen],
            disagree=self.disagree[chosen],
            edge_wrong=None if self.edge_wrong is None else self.edge_wrong[chosen],
            cloud_wrong=None if self.cloud_wrong is None else self.cloud_wrong[chosen],
            groups=None if self.groups is None else self.groups[chosen],
            bytes=None if self.bytes is None else self.bytes[chosen],
            rows=None if self.rows is None else self.rows[chosen],
        )

    def sha256(self) -> str:
        """Of all columns: a certificate says by it which outcomes it was made from."""
        digest = hashlib.sha256()
        judged = (self.scores, self.disagree, self.edge_wrong, self.cloud_wrong)
        for column in (*judged, self.bytes, self.rows):
            digest.update(b"-" if column is None else column.tobytes())
        if self.groups is not None:
            digest.update("\n".join(map(str, self.groups.tolist())).encode())
        return digest.hexdigest()

    def _judged(self) -> tuple[Flags, Flags]:
        if self.edge_wrong is None or self.cloud_wrong is None:
            raise OutcomesMissing(_LABELS.format("this"))
        return self.edge_wrong, self.cloud_wrong


_LABELS = (
    "{} promise needs to know who was wrong, and these samples have no labels; "
    "give labels, or choose `teacher`"
)


def of_logits(
    edge: Logits,
    cloud: Logits,
    labels: npt.NDArray[np.integer[Any]] | None,
    *,
    name: ScoreName = "top",
    temperature: float = 1.0,
    groups: Groups | None = None,
    rows: npt.NDArray[np.uint64] | None = None,
) -> Outcomes:
    """Outcomes of two classifiers' logits [n, K] and the labels [n], where there are any.

    Raises `LabelOutside`, `TooFewSamples`, ValueError for arrays that do not fit each other.
    """
    if edge.ndim != 2 or cloud.shape != edge.shape:
        raise ValueError(
            f"wanted edge and cloud logits [n, K], not {list(edge.shape)} and {list(cloud.shape)}"
        )
    if len(edge) == 0:
        raise TooFewSamples("there is not one sample; give labelled or cloud-answered samples")
    scores = score(name, edge, temperature)
    edge_none, cloud_none = np.isnan(scores), ~np.isfinite(cloud).all(axis=1)
    cloud_none |= cloud.max(axis=1) == cloud.min(axis=1)
    edge_says, cloud_says = edge.argmax(axis=1), cloud.argmax(axis=1)
    wrong = cloud_missed = None
    if labels is not None:
        check_labels(labels, edge.shape[1], len(edge))
        wrong = (edge_says != labels) | edge_none
        cloud_missed = (cloud_says != labels) | cloud_none
    return Outcomes(
        scores=scores,
        disagree=(edge_says != cloud_says) | edge_none | cloud_none,
        edge_wrong=wrong,
        cloud_wrong=cloud_missed,
        groups=groups,
        rows=rows,
    )


def check_labels(labels: npt.NDArray[np.integer[Any]], classes: int, n: int) -> None:
    """Raises `LabelOutside` for one outside 0..classes - 1, ValueError for another shape."""
    if labels.shape != (n,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"wanted {n} whole-number labels, not {labels.dtype} {labels.shape}")
    outside = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(outside):
        place = int(outside[0])
        raise LabelOutside(
            f"{len(outside)} labels are outside 0..{classes - 1}, the first is {labels[place]} of "
            f"sample {place}; correct the labels or the label set"
        )
