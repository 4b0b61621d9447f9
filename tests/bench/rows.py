"""The rows of `./just bench agent`: a flat object per input, process, start, kill, swap, decide."""

from msgspec import Struct


class InputRow(Struct, frozen=True, tag_field="of", tag="input"):
    """One kind of input. Overheads are medians of differences within a round."""

    task: str
    bytes: int
    rounds: int
    raw_run_us: float
    in_process_us: float
    in_process_overhead_us: float
    sdk_us: float
    sdk_overhead_us: float
    best_sdk_overhead_us: float
    """Between the best rounds of each: nearer to what an idle machine would show."""
    floor_sdk_overhead_us: float
    control_sdk_overhead_us: float


class ProcessRow(Struct, frozen=True, tag_field="of", tag="process"):
    """One process of an idle device: `supervisor`, `worker`, or `both` together."""

    process: str
    link: str
    private_mb: float
    pss_mb: float
    alone_mb: float
    """An estimate of `pss_mb` on a machine where nothing else maps the same libraries."""
    rss_mb: float
    idle_cpu_percent: float
    idle_s: float


class StartRow(Struct, frozen=True, tag_field="of", tag="start"):
    """One start, and a bare interpreter that loads and runs the same file."""

    start_to_first_answer_ms: float
    floor_start_ms: float


class KillRow(Struct, frozen=True, tag_field="of", tag="kill"):
    """One worker killed under load."""

    recover_ms: float
    """From the kill to the first answer to a request made after it."""
    longest_wait_ms: float
    """The longest any caller of the load waited."""
    asked: int
    failed: int


class SwapRow(Struct, frozen=True, tag_field="of", tag="swap"):
    """One package that took another's place under load."""

    asked: int
    swap_dropped: int
    steady_p99_ms: float
    swap_p99_ms: float
    """From the order to a second after the new one served."""
    swap_p99_ratio: float
    update_child_pss_mb: float | None
    """The most it was seen to hold; None when it was too quick to be seen."""


class DecideRow(Struct, frozen=True, tag_field="of", tag="decide"):
    """From logits to a decision; medians over rounds of the median of single calls."""

    classes: int
    curve_points: int
    """Thresholds with a bound of their own in the certificate's curve."""
    rounds: int
    decide_us: float
    floor_decide_us: float
    control_decide_us: float


Row = InputRow | ProcessRow | StartRow | KillRow | SwapRow | DecideRow
