"""The certificate: how far a package's local answers can be trusted, and what that rests on.

It lives in the manifest and is read on the device, so nothing here imports numpy.
docs/reference/certificates.md explains every field, docs/explanation/promises.md every promise.

Rules:
1. A certificate that is not `feasible` keeps no promise; its threshold, where it has one, was
   chosen otherwise, and the note says how.
2. It speaks of one model file, preparation, runtime, provider and precision: `bound`. Whoever runs
   another has no certificate.
3. `delta` is spent once. Whoever makes the k-th certificate for the same device spends
   6 delta / (pi^2 k^2) on it, or says that delta is per certificate.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from models.calibrate.curve import Curve, Gain

Promise = Literal["excess", "harm", "teacher", "selective"]
Guarantee = Literal["high-probability", "marginal"]
ScoreName = Literal["top", "margin", "entropy", "squares"]
CertifiedScore = Literal["top", "margin", "entropy", "squares", "head"]
"""A score made from logits, or `head`: the confidence the pipeline's head defines."""

Share = Annotated[float, Meta(gt=0, lt=1)]
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Count = Annotated[int, Meta(ge=0)]


class Binding(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the scores were computed by."""

    model_sha256: Digest
    preparation_sha256: Digest
    runtime: str
    provider: str
    precision: str


class Certificate(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A promise, the threshold that keeps it, and the numbers it was chosen by."""

    id: str
    """`c-` and the first 16 hexadecimal digits of the SHA-256 of everything else in it."""
    promise: Promise
    guarantee: Guarantee
    eps: Share
    """What the risk stays at or below."""
    delta: Share
    """The share of calibrations that may break a high-probability promise."""
    score: CertifiedScore
    temperature: Annotated[float, Meta(gt=0)]
    """Divides the logits before the score is taken."""
    threshold: Annotated[float, Meta(ge=0, le=1)] | None
    """Answered locally from this score on; None makes every input hard."""
    n: Count
    """What was counted: calibration samples, or groups where `method` says so."""
    groups: Count | None
    """Groups among the calibration samples; None when they have none."""
    design_effect: float | None
    """How much more alike rows of one group are than strangers: 1 is not at all."""
    method: str
    upper_bound: float | None
    """Upper confidence limit, level 1 - delta, on the risk at the threshold."""
    k: Count | None
    """Calibration samples answered locally at a loss."""
    won: Count | None
    """Of `excess`: samples answered locally right where the cloud was wrong."""
    local: Annotated[float, Meta(ge=0, le=1)] | None
    """Share of calibration samples at or above the threshold."""
    curve: Curve | None
    gain: Gain | None
    bound: Binding | None
    feasible: bool
    needed_n: Count | None
    """Samples (or groups) that would do, by the tuning data; None if kept, or if none would do."""
    base_risk: float
    """The risk when nothing is escalated, on the calibration samples."""
    least_escalation: Annotated[float, Meta(ge=0, le=1)]
    """What even a score that knows the answers has to escalate."""
    tune_sha256: Digest | None
    calibration_sha256: Digest | None
    note: str = ""
    disagreement: Annotated[float, Meta(ge=0, le=1)] | None = None
    """Upper confidence limit, level 1 - delta, on the share of all inputs that are answered locally
    otherwise than the cloud would answer; None without a threshold. What a monitor in the field,
    which knows no labels, compares its audits with."""
