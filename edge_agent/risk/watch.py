"""One package's certificate under watch: its audits in order, its monitor, what follows from both.

1. Audits are counted in the order they were decided. One that was answered by the cloud anyway is
   no loss, whatever the cloud said, and holds up nobody.
2. One that still waits while many later ones have their answers, or for a day, is missing.
3. A calibration uses the audits since the change up to the first that still waits: which ones
   those are does not depend on what they say. A missing one counts as answered otherwise.
"""

import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterator
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from edge_agent.risk import drift, safe
from edge_agent.risk.estimate import LiveRisk
from edge_agent.risk.job import Order, Outcome, Sample
from edge_agent.risk.monitor import Monitor, begun_anew, count
from edge_agent.risk.safe import Guard, Mode, Promise
from edge_agent.risk.store import AGREED, DIFFERED, KEPT, MISSING, Audit, Key, Standing
from edge_agent.workplace import RiskReport
from models.calibrate.certificate import Certificate
from models.calibrate.curve import Curve

log = logging.getLogger(__name__)

PATIENCE_S = 86_400.0
LAGGING = 500
"""Later audits with an answer, after which one without is given up."""
RECENT = 200
"""Scores of this many audits are compared with those of the ones before."""


_Name = Literal["certified", "safe", "uncertified"]
_MODES: dict[Mode, _Name] = {
    Mode.CERTIFIED: "certified",
    Mode.SAFE: "safe",
    Mode.UNCERTIFIED: "uncertified",
}


class Terms(Struct, frozen=True):
    """What workers answer by."""

    threshold: float | None
    certificate: str
    mode: _Name
    why: str
    certified_risk: float | None
    curve: Curve | None


class Watch:
    """Told what happens, tells what follows: terms to workers, reports, work for the store."""

    def __init__(
        self,
        key: Key,
        signed: Certificate,
        standing: Standing,
        past: list[Audit],
        *,
        save: Callable[[Standing, tuple[int, ...]], None],
        resolved: Callable[[Audit], None],
        report: Callable[[str, str, str], None],
        calibrate: Callable[[Order], None],
    ) -> None:
        self.key = key
        self._signed = signed
        self._standing = standing
        self._save = save
        self._resolved = resolved
        self._report = report
        self._calibrate = calibrate
        self._ring: deque[Audit] = deque(past, maxlen=KEPT)
        self._by_id = {audit.request_id: audit for audit in past}
        self._uncounted = deque(audit for audit in past if not audit.counted)
        self._decided = 0
        self._open: dict[int, tuple[int, Audit]] = {}
        """Those without an outcome by place, with their number in the order of decisions."""
        for audit in past:
            self._opened(audit)
        self._live = LiveRisk()
        self._gathering = 0
        self.workers: list[Callable[[Terms], None]] = []
        for audit in past:
            if audit.counted and audit.place > self.guard.since:
                self._live.count(loss=_is_loss(audit))

    @property
    def guard(self) -> Guard:
        return self._standing.guard

    @property
    def terms(self) -> Terms:
        return terms_of(self.guard)

    def begin(self, now: float) -> None:
        """A worker serves this package, for the first time since the agent started or again."""
        self._tell(safe.AgentStarted(), now)

    def audited(self, audit: Audit) -> bool:
        """The device has answered an audited request; whether that is news."""
        if audit.request_id in self._by_id:
            return False
        if len(self._ring) == KEPT:
            oldest = self._ring.popleft()
            self._by_id.pop(oldest.request_id, None)
            if oldest.outcome is None:
                self._resolve(oldest, MISSING)
        self._ring.append(audit)
        self._by_id[audit.request_id] = audit
        self._uncounted.append(audit)
        self._opened(audit)
        return True

    def advance(self, now: float) -> None:
        """Count what can be counted; give up what has waited too long."""
        self._give_up(now)
        self._count(now)
        if self.guard.mode is Mode.SAFE:
            self._tell(safe.AuditsGathered(sum(1 for _ in self._clean())), now)

    def answered(self, request_id: str, label: str, version: str, now: float) -> None:
        """The cloud's answer to a request, audited or not."""
        audit = self._by_id.get(request_id)
        if audit is None or audit.outcome is not None:
            return
        if version != self.guard.cloud:
            self._tell(safe.CloudChanged(version, audit.place - 1), now)
        audit.cloud = label
        self._resolve(audit, AGREED if label == audit.label else DIFFERED)
        self.advance(now)

    def missing(self, request_id: str, now: float) -> None:
        """No answer will ever come."""
        audit = self._by_id.get(request_id)
        if audit is not None and audit.outcome is None:
            self._resolve(audit, MISSING)
            self.advance(now)

    def known(self, request_id: str) -> Audit | None:
        """The audit of this request, if it was one."""
        return self._by_id.get(request_id)

    def calibrated(self, outcome: Outcome, last: int, n: int, now: float) -> None:
        """The calibrating process has ended."""
        made = outcome.certificate
        if made is None:
            log.info("risk.calibrated_in_vain key=%s why=%s", self.key.text(), outcome.why)
            self._tell(safe.CalibratedInVain(n, outcome.why), now)
            return
        if self.guard.calibrating:
            self._standing = replace(self._standing, own=made)
        self._tell(safe.Calibrated(promise_of(made), last), now)

    def report(self) -> RiskReport:
        low, high = self._live.interval
        labelled = [one for one in self._ring if one.truth is not None and one.cloud is not None]
        wrong = [one for one in labelled if one.local and one.label != one.truth == one.cloud]
        monitor = self._standing.monitor
        guard = self.guard
        return RiskReport(
            mode=_MODES[guard.mode],
            certificate=guard.promise.certificate,
            why=guard.why,
            promised=guard.promise.theta,
            low=low,
            high=high,
            audits=monitor.audits,
            losses=monitor.losses,
            waiting=len(self._open),
            evidence=monitor.evidence,
            alarm_at=guard.alarm_at,
            labelled=len(labelled),
            wrong=len(wrong),
            advice=self._advice(),
        )

    # -- inside

    def _tell(self, event: safe.Event, now: float) -> None:
        before = self._standing
        step = safe.step(self.guard, event, now)
        self._standing = replace(self._standing, guard=step.state)
        for effect in step.effects:
            if isinstance(effect, safe.BeginMonitor):
                self._standing = replace(
                    self._standing, monitor=begun_anew(self._standing.monitor, effect.theta)
                )
                self._live = LiveRisk()
        if self._standing != before:
            self._save(self._standing, ())
        for effect in step.effects:
            match effect:
                case safe.SendTerms():
                    for tell in self.workers:
                        tell(self.terms)
                case safe.Report(kind, why):
                    log.warning("risk.%s key=%s why=%s", kind, self.key.text(), why)
                    self._report(self.guard.promise.certificate, kind, why)
                case safe.Calibrate(since, delta):
                    self._begin_calibration(since, delta)
                case safe.BeginMonitor():
                    pass  # done above, so that it is saved with the state

    def _count(self, now: float) -> None:
        counted: list[int] = []
        monitor = self._standing.monitor
        alarm: Audit | None = None
        while self._uncounted and _is_ready(self._uncounted[0]):
            audit = self._uncounted.popleft()
            audit.counted = True
            counted.append(audit.place)
            if audit.place <= self.guard.since:
                continue  # of the world as it was
            loss = _is_loss(audit)
            self._live.count(loss=loss)
            quiet = monitor.alarm_at is None
            monitor = count(monitor, loss=loss)
            if quiet and monitor.alarm_at is not None:
                alarm = audit
        if counted:
            self._standing = replace(self._standing, monitor=monitor)
            self._save(self._standing, tuple(counted))
        if alarm is not None:
            theta = self.guard.promise.theta
            why = (
                f"{monitor.losses} of {monitor.audits} audited requests were answered here"
                f" otherwise than by the cloud; at most {theta:.2%} were promised"
            )
            self._tell(safe.AlarmRaised(alarm.place, why, now), now)

    def _opened(self, audit: Audit) -> None:
        self._decided += 1
        if audit.outcome is None:
            self._open[audit.place] = (self._decided, audit)

    def _give_up(self, now: float) -> None:
        while self._open:
            number, oldest = next(iter(self._open.values()))
            answered_since = self._decided - number - (len(self._open) - 1)
            if answered_since <= LAGGING and now - oldest.at <= PATIENCE_S:
                return
            self._resolve(oldest, MISSING)

    def _resolve(self, audit: Audit, outcome: int) -> None:
        audit.outcome = outcome
        self._open.pop(audit.place, None)
        self._resolved(audit)

    def _clean(self) -> Iterator[Audit]:
        since = self.guard.since
        fresh = (audit for audit in self._ring if audit.place > since)
        return itertools.takewhile(lambda audit: audit.outcome is not None, fresh)

    def _begin_calibration(self, since: int, delta: float) -> None:
        samples = list(self._clean())
        self._gathering = samples[-1].place if samples else since
        self._calibrate(
            Order(
                certificate=self._standing.own or self._signed,
                delta=delta,
                samples=tuple(Sample(one.score, one.outcome != AGREED) for one in samples),
                tune=tuple(
                    one.score for one in self._ring if one.place <= since and one.score is not None
                ),
            )
        )

    @property
    def gathered_until(self) -> int:
        """Place of the last audit the calibration under way was given."""
        return self._gathering

    def _advice(self) -> str | None:
        scores = [one.score for one in self._ring if one.score is not None]
        if len(scores) < 2 * RECENT:
            return None
        return drift.compare(scores[:-RECENT], scores[-RECENT:]).advice


def terms_of(guard: Guard) -> Terms:
    """What workers answer by as things stand."""
    threshold, risk = safe.in_force(guard)
    return Terms(
        threshold=threshold,
        certificate=guard.promise.certificate,
        mode=_MODES[guard.mode],
        why=guard.why,
        certified_risk=risk,
        curve=guard.promise.curve if guard.mode is Mode.CERTIFIED else None,
    )


def promise_of(certificate: Certificate) -> Promise:
    """What a certificate promises here, and what audits without labels are held against."""
    theta = certificate.eps
    if certificate.promise != "teacher" and certificate.disagreement is not None:
        theta = certificate.disagreement
    return Promise(
        certificate=certificate.id,
        eps=certificate.eps,
        theta=min(max(theta, 1e-4), 0.9),
        delta=certificate.delta,
        threshold=certificate.threshold,
        risk=certificate.upper_bound if certificate.feasible else None,
        curve=certificate.curve,
    )


def new_standing(
    certificate: Certificate, uncertified: str | None, *, horizon: int, delta: float
) -> Standing:
    """Of a certificate nobody has watched before."""
    promise = promise_of(certificate)
    holds = uncertified is None and certificate.feasible and certificate.threshold is not None
    if uncertified is not None:
        promise = replace(promise, threshold=None)
    guard = Guard(
        promise,
        mode=Mode.CERTIFIED if holds else Mode.UNCERTIFIED,
        why="" if holds else uncertified or "the package's certificate keeps no promise",
    )
    return Standing(guard, Monitor(theta=promise.theta, horizon=horizon, delta=delta))


def _is_ready(audit: Audit) -> bool:
    return not audit.local or audit.outcome is not None


def _is_loss(audit: Audit) -> bool:
    return audit.local and audit.outcome == DIFFERED
