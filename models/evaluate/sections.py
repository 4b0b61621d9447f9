"""What an evaluation says, as frozen values: one JSON document, each figure with its unit.

The unit is the end of a field's name: `_percent` (of all rows, unless its docstring says of what),
`_points` (a difference of percentages), `_count`, `_ms`, `_bytes`, `_nats`, `_ratio` (a bare
number) and `_cost` (in `Cost.currency`). None: these data cannot tell, or there is none.
"""

from typing import Literal

from msgspec import Struct

Measure = Literal["accuracy", "agreement"]
Kept = Literal["kept", "above, within chance", "broken", "no promise"]


class Range(Struct, frozen=True):
    """Limits of a share."""

    low_percent: float
    high_percent: float


class Points(Struct, frozen=True):
    """A curve over the share escalated."""

    escalated_percent: tuple[float, ...]
    right_percent: tuple[float, ...]


class Caveat(Struct, frozen=True):
    """Something a reader must know before quoting a figure."""

    code: str
    severe: bool
    """True where a figure of this page may be wrong for the reader's own data."""
    text: str


class About(Struct, frozen=True):
    """What was judged."""

    task: str
    rows_count: int
    groups_count: int | None
    measure: Measure
    """`agreement` where only the cloud's answers are known: "right" then means "as the cloud"."""
    score: str
    classes_count: int | None
    package: str = ""
    """Name and version, where it is one."""
    certificate: str = ""
    """Its id."""


class Headline(Struct, frozen=True):
    """The page in two sentences."""

    sentence: str
    promise: str
    verdict: Kept
    escalated_per_1000_count: int


class Accuracy(Struct, frozen=True):
    """How right device, cloud and both together are, and what escalating buys."""

    edge_percent: float
    edge_range: Range
    cloud_percent: float
    cloud_range: Range
    system_percent: float
    system_range: Range
    escalated_percent: float
    local_percent: float | None
    """Of the rows answered locally, right."""
    best_percent: float
    best_escalated_percent: float
    within_1_point_escalated_percent: float | None
    """The least escalation that comes within one point of the cloud; None if none does."""
    within_half_point_escalated_percent: float | None
    within_0_points_escalated_percent: float | None
    deferral_gain_percent: float | None
    """0 random, 100 ideal."""
    system: Points
    oracle: Points
    ideal: Points
    random: Points


class Bins(Struct, frozen=True):
    """A reliability diagram's bars."""

    rows_count: tuple[int, ...]
    confidence_percent: tuple[float, ...]
    right_percent: tuple[float, ...]


class RiskCoverage(Struct, frozen=True):
    """A risk-coverage curve."""

    kept_percent: tuple[float, ...]
    wrong_percent: tuple[float, ...]
    """Of the kept."""


class Confidence(Struct, frozen=True):
    """Whether the device knows when it is wrong."""

    auroc_ratio: float | None
    aurc_percent: float
    e_aurc_percent: float
    augrc_percent: float
    ece_before_percent: float | None
    ece_after_percent: float | None
    nll_before_nats: float | None
    nll_after_nats: float | None
    temperature_ratio: float
    distinct_count: int
    """Different confidences among all rows."""
    tied_at_top_percent: float
    without_score_count: int
    risk_coverage: RiskCoverage
    reliability_before: Bins | None
    reliability_after: Bins | None


class Form(Struct, frozen=True):
    """One form of the edge model, at the certificate's threshold."""

    right_percent: float
    auroc_ratio: float | None
    aurc_percent: float
    ece_percent: float | None
    escalated_percent: float
    risk_percent: float


class Precision(Struct, frozen=True):
    """The edge model as FP32 and as the INT8 file that ships."""

    fp32: Form
    int8: Form
    same_label_percent: float
    rank_correlation_ratio: float | None
    transfer_escalated_points: float
    """What the threshold would escalate more on INT8 than on FP32."""
    transfer_risk_points: float


class Bounds(Struct, frozen=True):
    """The certificate's simultaneous curve beside what happened."""

    threshold_ratio: tuple[float, ...]
    escalated_percent: tuple[float, ...]
    bound_percent: tuple[float, ...]
    risk_percent: tuple[float, ...]


class Certified(Struct, frozen=True):
    """The promise, and what became of it on these data."""

    promise: str
    guarantee: str
    method: str
    eps_percent: float
    delta_percent: float
    threshold_ratio: float | None
    counted: Literal["samples", "groups"]
    n_count: int
    k_count: int | None
    upper_bound_percent: float | None
    needed_count: int | None
    feasible: bool
    note: str
    risk_percent: float
    risk_range: Range
    verdict: Kept
    oracle_escalated_percent: float
    premium_points: float
    """Escalated beyond what hindsight would have needed."""
    bounds: Bounds | None


class Halves(Struct, frozen=True):
    """Calibrated on one half, judged on the other, many times."""

    split_by: Literal["row", "group"]
    splits_count: int
    above_eps_percent: float
    """Of the splits. The judged half has its own chance, so this may exceed delta a little."""
    median_risk_percent: float
    worst_risk_percent: float
    escalated_percent: float


class LabelPoint(Struct, frozen=True):
    """What a calibration with so many labels escalates, on average over resamplings."""

    n_count: int
    escalated_percent: float
    premium_points: float
    certified_percent: float
    """Of the resamplings that certified any threshold at all."""


class Audit(Struct, frozen=True):
    """The calibration rule, tried again and again on these data."""

    method: str
    n_count: int
    resamples_count: int
    violation_percent: float
    """Of the resamplings, those whose threshold truly exceeds eps."""
    standard_error_percent: float
    allowed_percent: float
    verdict: Literal["kept", "broken", "not promised"]
    escalated_percent: float
    oracle_escalated_percent: float
    premium_points: float
    nothing_certified_percent: float
    risk_percent: tuple[float, ...]
    """True risk of each resampling's threshold, as quantiles 0, 1, ... 100 %."""
    halves: Halves | None
    by_labels: tuple[LabelPoint, ...]
    labels_sentence: str


class Part(Struct, frozen=True):
    """One class or one group."""

    name: str
    rows_count: int
    edge_percent: float
    cloud_percent: float
    system_percent: float
    system_range: Range
    """All ranges of one table hold together with 95 %."""
    escalated_percent: float
    risk_percent: float
    risk_range: Range


class Likeness(Struct, frozen=True):
    """Whether these data look drawn like those the certificate was made from."""

    verdict: Literal["alike", "not alike", "too few to tell"]
    units: Literal["rows", "groups"]
    """Groups where both have them: rows of one group are alike."""
    units_count: int
    """Of both together."""
    score_p_ratio: float
    """Chance of score distributions this different, were the data alike."""
    loss_p_ratio: float
    """The same of the loss the promise counts."""
    loss_calibration_percent: float
    loss_here_percent: float
    least_p_ratio: float
    """The smallest chance these data could show; above 0.025 no difference can be found."""


class Parts(Struct, frozen=True):
    """Classes and groups; the promise is about all rows together, never about one of these."""

    classes: tuple[Part, ...]
    groups: tuple[Part, ...]
    worst_class: Part | None
    worst_group: Part | None
    edge_macro_recall_percent: float | None
    cloud_macro_recall_percent: float | None
    system_macro_recall_percent: float | None


class HurtPart(Struct, frozen=True):
    """A part of the escalated rows on which the cloud is worse than the device."""

    kind: Literal["class", "group", "confidence"]
    name: str
    rows_count: int
    only_cloud_right_count: int
    only_edge_right_count: int
    loss_points: float
    """Of the part's accuracy, lost by escalating it."""
    p_ratio: float
    """p-value of the sign test, times the number of parts looked at."""
    clear: bool


class Hurting(Struct, frozen=True):
    """Where escalating makes things worse."""

    verdict: Literal["helps", "no clear difference", "hurts", "cannot be known"]
    sentence: str
    gain_points: float | None
    """Cloud less edge, over all rows."""
    only_cloud_right_count: int | None
    only_edge_right_count: int | None
    p_ratio: float | None
    falls_from_escalated_percent: float | None
    """Beyond this share escalated, accuracy only falls; None where it never does."""
    falls_surely: bool
    """False where that may be chance."""
    lost_points: float | None
    """Best accuracy less the cloud's."""
    escalated_gain_points: float | None
    """Over the rows the certificate escalates: cloud less edge."""
    parts: tuple[HurtPart, ...]


class Latency(Struct, frozen=True):
    """One way to answer."""

    way: Literal["device", "cascade", "cloud"]
    p50_ms: float
    p95_ms: float
    p99_ms: float
    mean_ms: float
    deadline_hit_percent: float | None


class Cost(Struct, frozen=True):
    """What a thousand requests cost."""

    cloud_calls_per_1000_count: float
    bytes_per_1000_bytes: float | None
    all_cloud_bytes_per_1000_bytes: float | None
    bytes_percent: float | None
    """Of what sending everything would take."""
    currency: str | None
    per_1000_cost: float | None
    all_cloud_per_1000_cost: float | None
    per_1000_right_cost: float | None
    """For a thousand right answers."""
    all_cloud_per_1000_right_cost: float | None
    deadline_ms: float | None
    latencies: tuple[Latency, ...]
    right_in_time_percent: float | None
    """With the device's own answer where the cloud's would come after the deadline."""


class Evaluation(Struct, frozen=True):
    """All of it."""

    format: Literal[1]
    headline: Headline
    caveats: tuple[Caveat, ...]
    unknown: tuple[str, ...]
    """What these data cannot tell, in sentences."""
    about: About
    accuracy: Accuracy
    certified: Certified
    audit: Audit | None
    likeness: Likeness | None
    confidence: Confidence
    precision: Precision | None
    parts: Parts
    hurting: Hurting
    cost: Cost
