"""The watch over the live risk, on a real file: alarm, safe mode, calibration, kill -9."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from edge_agent.risk import key as audit_key
from edge_agent.risk.child import CalibrateProcess
from edge_agent.risk.job import Order, Outcome, Sample
from edge_agent.risk.recalibrate import perform
from edge_agent.risk.run import AuditSettings, Risk
from edge_agent.risk.store import Key
from edge_agent.risk.watch import Terms
from edge_agent.workplace import RiskReport
from models.calibrate.certificate import Certificate
from models.calibrate.certify import named
from models.calibrate.curve import Curve
from sync.clock import SystemClock
from sync.runner import InlineRunner, ThreadRunner
from sync.wire import v1

DIGEST = "0123456789ab"


def certificate(**others: object) -> Certificate:
    """A promise of 2 % that its calibration kept."""
    made = Certificate(
        id="",
        promise="teacher",
        guarantee="high-probability",
        eps=0.02,
        delta=0.1,
        score="top",
        temperature=1.0,
        threshold=0.6,
        n=1000,
        groups=None,
        design_effect=None,
        method="by hand, for a test",
        upper_bound=0.018,
        k=10,
        won=None,
        local=0.9,
        curve=Curve((0.6, 0.8, 0.95), (0.018, 0.009, 0.004)),
        gain=None,
        bound=None,
        feasible=True,
        needed_n=None,
        base_risk=0.1,
        least_escalation=0.0,
        tune_sha256=None,
        calibration_sha256=None,
    )
    return named(replace(made, **others))


class Cloud:
    """A line that is quiet or not, and a cloud that says what it is told to."""

    def __init__(self) -> None:
        self.up = True
        self.says: Callable[[str], str] = lambda _: "coat"
        self.version = "1.0.0"
        self.asked: list[str] = []
        self.refuses = False

    def quiet(self) -> bool:
        return self.up

    async def audit(self, question: v1.Escalation) -> v1.Escalated | v1.Refused:
        self.asked.append(question.request_id)
        if self.refuses:
            return v1.Refused("bad_input", "no", permanent=True)
        label = self.says(question.request_id)
        return v1.Escalated(question.request_id, "apparel", label, 0.9, self.version, 5)


class Bench:
    """One `Risk` with one worker, and what it was told."""

    def __init__(self, risk: Risk, cloud: Cloud, alarms: list[v1.Alarm], signed: Certificate):
        self.risk = risk
        self.cloud = cloud
        self.alarms = alarms
        self.issued: list[str] = []
        self.terms: list[Terms] = []
        self.key: Key = risk.joined("apparel", DIGEST, signed, None, self.terms.append)

    @property
    def report(self) -> RiskReport:
        found = self.risk.report("apparel", DIGEST + "cdef")
        assert found is not None
        return found

    def audit(self, request_id: str, label: str = "coat", *, score: float = 0.9) -> None:
        """The device has answered an audited request by itself."""
        self.risk.audited(self.key, request_id, label, score, local=True)
        tensor = v1.Tensor("image", "UINT8", (4,), b"abcd")
        self.risk.ask(self.key, v1.Escalation("d1", request_id, "apparel", "1.0.0", 0, (tensor,)))

    async def feedback(self, request_id: str, label: str) -> bool:
        """Somebody knows better; `issued` are the ids that became records."""

        async def issue(said: v1.Feedback) -> None:
            self.issued.append(said.request_id)

        return await self.risk.feedback(
            v1.Feedback(request_id, "app", "apparel", label, 1.0), issue
        )

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not holds():  # noqa: ASYNC110 - it asks what nobody announces
                await asyncio.sleep(0.005)


@asynccontextmanager
async def bench(
    folder: Path,
    *,
    cloud: Cloud | None = None,
    signed: Certificate | None = None,
    settings: AuditSettings | None = None,
    tidy: bool = True,
) -> AsyncIterator[Bench]:
    """`tidy` false: the process ends here without a word."""
    cloud = cloud or Cloud()
    alarms: list[v1.Alarm] = []

    async def calibrate(order: Order) -> Outcome:
        return perform(order)

    risk = await Risk.open(
        folder / "risk.db",
        runner=InlineRunner(),
        clock=SystemClock(),
        settings=settings or AuditSettings(),
        line=cloud,
        calibrate=calibrate,
        report=alarms.append,
        on_change=lambda: None,
    )
    try:
        yield Bench(risk, cloud, alarms, signed or certificate())
    finally:
        if tidy:
            await risk.close()


def test_audits_that_agree_raise_no_alarm_and_narrow_the_interval(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path) as made:
            for number in range(300):
                made.audit(f"r-{number}")
            await made.until(lambda: made.report.audits == 300)
            report = made.report
            assert (report.mode, report.losses, report.waiting) == ("certified", 0, 0)
            assert report.low == 0.0
            assert report.high < 0.03
            assert made.alarms == []
            assert made.terms[-1].threshold == 0.6

    asyncio.run(story())


def test_a_cloud_that_disagrees_raises_the_alarm_and_safe_mode_follows(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path) as made:
            made.cloud.says = lambda _: "shirt"
            for number in range(20):
                made.audit(f"r-{number}")
            await made.until(lambda: made.report.mode == "safe")
            (alarm,) = made.alarms
            assert alarm.kind == "broken"
            assert alarm.certificate == certificate().id
            assert "otherwise than by the cloud; at most 2.00% were promised" in alarm.why
            said = made.terms[-1]
            assert (said.threshold, said.mode, said.certified_risk) == (0.95, "safe", None)
            assert said.why == alarm.why

    asyncio.run(story())


def test_audits_after_the_alarm_make_a_new_certificate_that_ends_it(tmp_path: Path) -> None:
    async def story() -> None:
        chance = random.Random(1)
        async with bench(tmp_path) as made:
            made.cloud.says = lambda _: "shirt"
            for number in range(10):
                if made.report.mode != "safe":
                    made.audit(f"bad-{number}", score=chance.uniform(0.6, 1.0))
                    await made.until(lambda: made.report.waiting == 0)
            assert made.report.mode == "safe"
            made.cloud.says = lambda _: "coat"
            for number in range(200):
                made.audit(f"good-{number}", score=chance.uniform(0.6, 1.0))
            await made.until(lambda: made.report.mode == "certified")
            broken, mended = made.alarms
            assert (broken.kind, mended.kind) == ("broken", "recalibrated")
            assert mended.certificate not in ("", certificate().id)
            said = made.terms[-1]
            assert said.certificate == mended.certificate == made.report.certificate
            assert said.mode == "certified"
            assert said.certified_risk is not None
            assert said.certified_risk <= 0.02

    asyncio.run(story())


def test_nothing_that_was_counted_is_lost_or_counted_twice_by_kill_9(tmp_path: Path) -> None:
    async def first() -> RiskReport:
        async with bench(tmp_path, tidy=False) as made:
            for number in range(50):
                made.audit(f"r-{number}", "shirt" if number == 7 else "coat")
            await made.until(lambda: made.report.audits == 50)
            made.cloud.up = False
            made.audit("waiting")
            return made.report

    async def second(before: RiskReport) -> None:
        async with bench(tmp_path) as made:
            made.cloud.up = True
            await made.until(lambda: made.report.audits == 51)
            assert made.cloud.asked == ["waiting"]
            after = made.report
            assert after.losses == before.losses == 1
            assert after.high < before.high or after.audits == before.audits + 1

    before = asyncio.run(first())
    asyncio.run(second(before))


def test_safe_mode_outlives_the_process_and_the_worker(tmp_path: Path) -> None:
    async def first() -> None:
        async with bench(tmp_path, tidy=False) as made:
            made.cloud.says = lambda _: "shirt"
            for number in range(20):
                made.audit(f"r-{number}")
            await made.until(lambda: made.report.mode == "safe")

    async def second() -> None:
        async with bench(tmp_path) as made:
            assert [terms.mode for terms in made.terms] == ["safe"]
            assert made.alarms == []
            another: list[Terms] = []
            made.risk.joined("apparel", "ffffffffffff", certificate(), None, another.append)
            assert another[0].mode == "certified"  # another package has a promise of its own

    asyncio.run(first())
    asyncio.run(second())


def test_a_request_is_audited_once_however_often_it_is_asked(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path) as made:
            made.audit("r-1")
            made.audit("r-1")
            await made.until(lambda: made.report.waiting == 0)
            made.audit("r-1")
            assert made.report.audits == 1
            assert made.cloud.asked == ["r-1"]

    asyncio.run(story())


def test_audits_count_in_the_order_of_their_decisions(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path) as made:
            made.cloud.up = False
            for number in range(3):
                made.audit(f"r-{number}")
            for late in ("r-2", "r-1"):
                made.risk.answered(v1.Escalated(late, "apparel", "coat", 0.9, "1.0.0", 5))
            assert made.report.audits == 0
            made.risk.answered(v1.Escalated("r-0", "apparel", "shirt", 0.9, "1.0.0", 5))
            assert (made.report.audits, made.report.losses) == (3, 1)

    asyncio.run(story())


def test_one_the_cloud_answered_anyway_counts_without_a_question(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path) as made:
            made.risk.audited(made.key, "hard", "coat", 0.3, local=False)
            assert (made.report.audits, made.report.losses) == (1, 0)
            assert made.report.waiting == 1
            made.risk.answered(v1.Escalated("hard", "apparel", "shirt", 0.9, "1.0.0", 5))
            assert (made.report.losses, made.report.waiting) == (0, 0)

    asyncio.run(story())


def test_what_is_refused_or_finds_no_room_is_missing_and_no_loss(tmp_path: Path) -> None:
    async def story() -> None:
        cloud = Cloud()
        cloud.refuses = True
        async with bench(tmp_path, cloud=cloud, settings=AuditSettings(bytes=8)) as made:
            made.audit("refused")
            await made.until(lambda: made.report.audits == 1)
            cloud.up = False
            for number in range(5):
                made.audit(f"r-{number}")
            assert made.report.waiting == 2
            assert (made.report.audits, made.report.losses) == (4, 0)

    asyncio.run(story())


def test_another_model_in_the_cloud_begins_the_evidence_anew(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path) as made:
            for number in range(30):
                made.audit(f"r-{number}")
            await made.until(lambda: made.report.audits == 30)
            made.cloud.version = "2.0.0"
            made.audit("first-of-the-new")
            await made.until(lambda: made.report.audits == 1)
            assert [alarm.kind for alarm in made.alarms] == ["cloud_changed"]
            assert made.report.mode == "certified"

    asyncio.run(story())


def test_feedback_counts_once_and_says_how_often_the_device_was_right(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path) as made:
            made.risk.recorded("a", "coat")
            made.risk.recorded("b", "coat")

            assert await made.feedback("a", "coat")
            assert not await made.feedback("a", "shirt")
            assert await made.feedback("b", "shirt")
            assert await made.feedback("of-last-year", "shirt")
            assert made.issued == ["a", "b", "of-last-year"]
            assert made.risk.feedback_counts() == (1, 2)

    asyncio.run(story())


def test_a_label_for_an_audited_request_says_whose_fault_a_difference_is(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path) as made:
            made.cloud.says = lambda _: "shirt"
            made.audit("edge-wrong")
            made.audit("cloud-wrong")
            await made.until(lambda: made.report.waiting == 0)
            await made.feedback("edge-wrong", "shirt")
            await made.feedback("cloud-wrong", "coat")
            assert (made.report.labelled, made.report.wrong) == (2, 1)

    asyncio.run(story())


def test_a_promise_about_labels_is_held_against_how_often_models_may_differ(tmp_path: Path) -> None:
    async def story() -> None:
        signed = certificate(promise="excess", disagreement=0.07)
        async with bench(tmp_path, signed=signed) as made:
            assert made.report.promised == 0.07

    asyncio.run(story())


def test_a_damaged_file_is_set_aside_and_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "risk.db").write_bytes(b"no database at all" * 100)

    async def story() -> None:
        async with bench(tmp_path) as made:
            made.audit("r-1")
            await made.until(lambda: made.report.audits == 1)
        assert (tmp_path / "risk.db.damaged").exists()

    asyncio.run(story())


def test_the_secret_is_made_once_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    made = audit_key.read_or_make(tmp_path)
    assert made is not None
    assert len(made) == 32
    assert audit_key.read_or_make(tmp_path) == audit_key.read(tmp_path) == made
    assert (tmp_path / audit_key.FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("lost", [0, 60])
def test_the_calibrating_process_says_yes_or_why_not(lost: int) -> None:
    chance = random.Random(3)
    samples = tuple(Sample(chance.uniform(0.5, 1.0), number < lost) for number in range(200))
    order = Order(certificate(), 0.06, samples, tuple(chance.uniform(0.5, 1.0) for _ in range(50)))

    async def story() -> Outcome:
        runner = ThreadRunner("calibrate")
        try:
            return await CalibrateProcess(runner).calibrate(order)
        finally:
            runner.close()

    outcome = asyncio.run(story())
    if lost:
        assert outcome.certificate is None
        assert outcome.why
    else:
        assert outcome.certificate is not None
        assert outcome.certificate.promise == "teacher"
        assert outcome.certificate.delta == 0.06
        assert certificate().id in outcome.certificate.note
