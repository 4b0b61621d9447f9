"""What a thousand requests cost in calls, bytes, money and time: device, cascade, cloud.

Rules:
1. Times are drawn from what was measured: device and cloud times as given, round trips from three
   percentiles, log-linear between them and beyond p99 as steep as from p95 to p99.
2. The cascade asks the device first, so an escalated answer takes both times.
3. Where the cloud's answer would come after the deadline, the device's own is given.
4. Time spent waiting behind other requests is not in it: measure that on the real device.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from models.errors import UnfitData
from models.evaluate.curves import Flags, Floats
from models.evaluate.inputs import EvaluationInputs, Link, Prices, Sample
from models.evaluate.sections import Cost, Latency

DRAWS = 50_000
# Standard normal quantiles of 50, 95 and 99 %: between them the logarithm of the time is linear.
NORMAL = (0.0, 1.6448536269514722, 2.3263478740408408)


def cost(given: EvaluationInputs, sample: Sample, local: Flags) -> Cost:
    """Calls, bytes, money, time. Raises `UnfitData` for times, bytes or prices that cannot be."""
    escalated = 1 - float(local.mean())
    sent, whole = _bytes(given, sample, local)
    system_right = 1 - float(np.where(local, sample.edge_wrong, sample.cloud_wrong).mean())
    cloud_right = 1 - float(sample.cloud_wrong.mean())
    cascade = _money(given.prices, 1000 * escalated, sent)
    everything = _money(given.prices, 1000.0, whole)
    latencies, in_time = _latencies(given, sample, local)
    return Cost(
        cloud_calls_per_1000_count=1000 * escalated,
        bytes_per_1000_bytes=sent,
        all_cloud_bytes_per_1000_bytes=whole,
        bytes_percent=None if not whole or sent is None else 100 * sent / whole,
        currency=None if given.prices is None else given.prices.currency,
        per_1000_cost=cascade,
        all_cloud_per_1000_cost=everything,
        per_1000_right_cost=_each_right(cascade, system_right, sample),
        all_cloud_per_1000_right_cost=_each_right(everything, cloud_right, sample),
        deadline_ms=given.deadline_ms,
        latencies=latencies,
        right_in_time_percent=in_time,
    )


def link_times(link: Link, chance: np.random.Generator, count: int) -> Floats:
    """Round trips in ms, float64 [count], with the percentiles of `link`."""
    steps = (link.p50_ms, link.p95_ms, link.p99_ms)
    if not (0 < steps[0] <= steps[1] <= steps[2] and math.isfinite(steps[2])):
        raise UnfitData(f"link percentiles must rise from above 0, not {steps}")
    logs = np.log(np.array(steps))
    drawn = chance.standard_normal(count)
    far = np.abs(drawn)
    slope = (logs[2] - logs[1]) / (NORMAL[2] - NORMAL[1])
    above = np.where(
        far > NORMAL[2], logs[2] + slope * (far - NORMAL[2]), np.interp(far, NORMAL, logs)
    )
    # Below the median as steep as above it.
    return np.asarray(np.exp(np.where(drawn >= 0, above, 2 * logs[0] - above)))


def _bytes(
    given: EvaluationInputs, sample: Sample, local: Flags
) -> tuple[float | None, float | None]:
    """Bytes of a thousand requests: escalated ones only, and all."""
    if given.request_bytes is None:
        return None, None
    sizes = np.asarray(given.request_bytes, dtype=np.float64)
    if sizes.ndim and sizes.shape != (sample.n,):
        raise UnfitData(f"request_bytes has shape {list(sizes.shape)}; wanted [{sample.n}]")
    if not np.isfinite(sizes).all() or (sizes < 0).any():
        raise UnfitData("request_bytes holds a size below 0, NaN or an infinity")
    sizes = np.broadcast_to(sizes, (sample.n,))
    return 1000 * float((sizes * ~local).mean()), 1000 * float(sizes.mean())


def _money(prices: Prices | None, calls: float, sent: float | None) -> float | None:
    if prices is None:
        return None
    if prices.per_call < 0 or prices.per_megabyte < 0:
        raise UnfitData("prices must not be below 0")
    if sent is None:
        if prices.per_megabyte:
            raise UnfitData("a price per megabyte needs request_bytes")
        sent = 0.0
    return calls * prices.per_call + sent / 1e6 * prices.per_megabyte


def _each_right(per_1000: float | None, right: float, sample: Sample) -> float | None:
    if per_1000 is None or right == 0 or sample.measure == "agreement":
        return None
    return per_1000 / right


def _latencies(
    given: EvaluationInputs, sample: Sample, local: Flags
) -> tuple[tuple[Latency, ...], float | None]:
    edge = _times("edge_ms", given.edge_ms)
    if edge is None:
        return (), None
    chance = np.random.default_rng(given.seed)
    rows = chance.integers(0, sample.n, DRAWS)
    on_device = edge[chance.integers(0, len(edge), DRAWS)]
    ways: list[tuple[Literal["device", "cascade", "cloud"], Floats]] = [("device", on_device)]
    cloud = _times("cloud_ms", given.cloud_ms)
    in_time = None
    if given.link is not None or cloud is not None:
        remote = np.zeros(DRAWS)
        if cloud is not None:
            remote = remote + cloud[chance.integers(0, len(cloud), DRAWS)]
        if given.link is not None:
            remote = remote + link_times(given.link, chance, DRAWS)
        both = on_device + np.where(local[rows], 0.0, remote)
        ways += [("cascade", both), ("cloud", remote)]
        if given.deadline_ms is not None:
            stays = local[rows] | (both > given.deadline_ms)
            wrong = np.where(stays, sample.edge_wrong[rows], sample.cloud_wrong[rows])
            in_time = 100 * (1 - float(wrong.mean()))
    return tuple(_latency(way, times, given.deadline_ms) for way, times in ways), in_time


def _times(name: str, times: np.typing.NDArray[np.float64] | None) -> Floats | None:
    if times is None:
        return None
    found = np.asarray(times, dtype=np.float64)
    if found.ndim != 1 or len(found) == 0 or not np.isfinite(found).all() or (found < 0).any():
        raise UnfitData(f"{name} must be a list of times in ms, none below 0, NaN or infinite")
    return found


def _latency(
    way: Literal["device", "cascade", "cloud"], times: Floats, deadline_ms: float | None
) -> Latency:
    p50, p95, p99 = (float(each) for each in np.percentile(times, [50, 95, 99]))
    hits = None if deadline_ms is None else 100 * float((times <= deadline_ms).mean())
    return Latency(way, p50, p95, p99, float(times.mean()), hits)
