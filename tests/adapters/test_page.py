"""The page and its feed on a whole gateway: numbers are SQL's, counts are lengths, nothing runs."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from html.parser import HTMLParser
from pathlib import Path

import httpx
import msgspec
import pytest
from sqlalchemy import Connection, event, text

from cloud_gateway.facts import DevicePage, Series, Summary
from cloud_gateway.fleet import reading
from cloud_gateway.fleet.feed import Listed
from cloud_gateway.fleet.view import SILENT_AFTER_S
from cloud_gateway.telemetry.rollup import BOUNDS_US
from sync.wire import v1
from tests.browser.made_up_fleet import MadeUpFleet, made_up_fleet
from tests.records import health

HOSTILE = "<img src=x onerror=alert(1)>'\"&amp;"
OUR_TAGS = set(
    "a b body button code dd div dl dt em figcaption figure footer form h1 h2 head header html i "
    "img input label li link main meta nav noscript option p pre script section select small span "
    "strong table tbody td template th thead time title tr ul".split()
)


class Hands:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now


class Visit:
    """A fleet, a clock, and somebody who asks."""

    def __init__(self, fleet: MadeUpFleet, clock: Hands, client: httpx.AsyncClient) -> None:
        self.fleet = fleet
        self.clock = clock
        self._client = client

    async def get(self, url: str, status: int = 200) -> httpx.Response:
        answer = await self._client.get(url)
        assert answer.status_code == status, answer.text
        return answer

    async def summary(self) -> Summary:
        return msgspec.json.decode((await self.get("/v1/fleet/summary")).content, type=Summary)

    async def listed(self, url: str) -> Listed:
        return msgspec.json.decode((await self.get(url)).content, type=Listed)

    async def series(self, query: str) -> Series:
        content = (await self.get(f"/v1/fleet/series?{query}")).content
        return msgspec.json.decode(content, type=Series)

    async def device(self, name: str) -> DevicePage:
        content = (await self.get(f"/v1/fleet/devices/{name}")).content
        return msgspec.json.decode(content, type=DevicePage)

    async def page(self, url: str = "/", status: int = 200) -> "Page":
        return Page((await self.get(url, status)).text)

    async def sql(self, question: str) -> int:
        return await self.fleet.gateway.database.read(
            lambda connection: int(connection.execute(text(question)).scalar() or 0)
        )


class Page(HTMLParser):
    """A page as a reader meets it: slots by name, table rows as lists of texts, and all tags."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self.slots: dict[str, str] = {}
        self.rows: list[list[str]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._slot: str | None = None
        self._cell = False
        self._template = False
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag == "template":
            self._template = True
        if (slot := found.get("data-slot")) is not None:
            self._slot = slot
            self.slots[slot] = ""
        if tag == "tr" and not self._template:
            self.rows.append([])
        if tag in {"td", "th"} and not self._template:
            self.rows[-1].append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag == "template":
            self._template = False
        if tag in {"a", "b", "p"}:
            self._slot = None
        if tag in {"td", "th"}:
            self._cell = False

    def handle_data(self, data: str) -> None:
        if self._slot is not None:
            self.slots[self._slot] += data
        if self._cell:
            self.rows[-1][-1] = f"{self.rows[-1][-1]} {data}".strip()

    def row(self, name: str) -> list[str]:
        return next(row for row in self.rows if row and row[0] == name)


def visit(folder: Path, talk: Callable[[Visit], Awaitable[None]]) -> None:
    async def story() -> None:
        clock = Hands()
        async with made_up_fleet(folder, clock) as fleet:
            transport = httpx.ASGITransport(fleet.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
                await talk(Visit(fleet, clock, client))

    asyncio.run(story())


async def busy(fleet: MadeUpFleet) -> None:
    """Five devices in five situations."""
    await fleet.enrol_many(["apple", "birch", "cedar", "dogwood", "elder"])
    await fleet.desire("apparel", "2", "apple")
    await fleet.desire("apparel", "2", "birch")
    await fleet.answers("apple", "apparel", "2", edge=90, cloud=8, provisional=2, revised=5)
    await fleet.beat("apple", "apparel", "2", pending=3, waiting=2)
    refusal = v1.Refusal("apparel", "2", "hash_mismatch", "edge.onnx was altered", 1.0)
    await fleet.answers("birch", "apparel", "1", edge=40, cloud=10)
    await fleet.beat("birch", "apparel", "1", link="http", refusals=[refusal])
    await fleet.answers("cedar", "activity", "7", edge=20, ago=120.0)
    await fleet.beat("cedar", "activity", "7", pending=11, waiting=1, ago=120.0)
    await fleet.beat("dogwood", "activity", "7")


async def later(visit: Visit, seconds: float = 1.0) -> None:
    """So much later that a new picture is due."""
    visit.clock.now += seconds


def test_the_numbers_are_those_of_the_database(tmp_path: Path) -> None:
    async def talk(visit: Visit) -> None:
        await busy(visit.fleet)
        summary = await visit.summary()
        answers = summary.answers
        assert answers is not None
        for route in ("edge", "cloud", "provisional"):
            counted = await visit.sql(
                f"SELECT sum(n) FROM device_answers WHERE route = '{route}'"  # noqa: S608 - of our own
            )
            assert getattr(answers, route) == counted
        assert (answers.edge, answers.cloud, answers.provisional) == (150, 18, 2)
        assert answers.hard == await visit.sql("SELECT sum(hard) FROM fleet_answers") == 20
        assert summary.pending == await visit.sql("SELECT sum(pending) FROM device_state") == 14
        assert summary.escalations_waiting == 3
        assert summary.said_at == visit.clock.now - 120
        page = await visit.page()
        assert page.slots["requests"] == "170"
        assert page.slots["escalated"] == "12 %"
        assert page.slots["waiting"] == "3"
        assert page.slots["pending"] == "14"
        apple = page.row("apple")
        assert apple == ["apple", "was live", "0 s", "mqtt", "apparel", "2", "10 %", "3", "2", "0"]

    visit(tmp_path, talk)


def test_every_count_is_the_length_of_the_list_it_links_to(tmp_path: Path) -> None:
    async def talk(visit: Visit) -> None:
        await busy(visit.fleet)
        await later(visit, 60)
        await visit.fleet.beat("apple", "apparel", "2", waiting=2)
        summary = await visit.summary()
        counts = {one.name: one.count for one in (*summary.states, *summary.marks)}
        # Birch and dogwood were silent for a minute; so short a time the gateway has listened.
        assert counts == {
            "live": 1,
            "silent": 3,
            "unknown": 0,
            "never": 1,
            "behind": 1,
            "owing": 2,
            "refusing": 1,
        }
        for one in (*summary.states, *summary.marks):
            listed = await visit.listed(one.link)
            assert listed.total == len(listed.devices) == one.count, one
            page = await visit.page(one.link.replace("/v1/fleet", "/"))
            rows = [row for row in page.rows if len(row) == 10][1:]
            assert [row[0] for row in rows] == [device.name for device in listed.devices]
        assert (await visit.listed("/v1/fleet")).total == summary.total == 5

    visit(tmp_path, talk)


def test_a_device_s_page_says_how_its_promise_fares(tmp_path: Path) -> None:
    async def talk(visit: Visit) -> None:
        await busy(visit.fleet)
        alarmed = v1.TaskRisk(
            "safe", "c-1", 0.02, 0.031, float("nan"), 350, visit.clock.now - 90, HOSTILE
        )
        await visit.fleet.beat("apple", "apparel", "2", risk=alarmed)
        (task,) = (await visit.device("apple")).device.tasks
        assert task.risk is not None
        assert (task.risk.mode, task.risk.low, task.risk.high) == ("safe", 0.031, 1.0)
        page = await visit.page("/devices/apple")
        (row,) = [row for row in page.rows if row and row[0] == "apparel" and len(row) == 6]
        assert "risk 3.1 to 100.0 %, 350 audits, c-1" in row[4]
        assert "safe mode" in row[4]
        assert HOSTILE not in page.source

    visit(tmp_path, talk)


def test_what_is_not_known_is_called_unknown(tmp_path: Path) -> None:
    async def talk(visit: Visit) -> None:
        await visit.fleet.enrol_many(["elder"])
        page = await visit.page()
        assert page.row("elder")[1:] == ["was never", *["unknown"] * 8]
        for slot in ("requests", "escalated", "hard", "waiting", "pending"):
            assert page.slots[slot] == "unknown", slot
        one = await visit.page("/devices/elder")
        assert "Unknown: the device has not spoken yet." in one.source
        assert "It has not spoken yet." in one.source

    visit(tmp_path, talk)


def test_a_silent_device_keeps_its_last_words_but_not_its_link(tmp_path: Path) -> None:
    async def talk(visit: Visit) -> None:
        await busy(visit.fleet)
        await later(visit, 60)
        page = await visit.page()
        assert page.row("apple")[1:4] == ["was silent", "1 min", "unknown"]
        assert page.row("apple")[7] == "3"
        assert {
            row["data-state"] for tag, row in page.tags if tag == "tr" and "data-state" in row
        } == {
            "silent",
            "never",
        }

    visit(tmp_path, talk)


def test_a_gateway_that_has_just_come_back_calls_nobody_silent(tmp_path: Path) -> None:
    async def talk(visit: Visit) -> None:
        await visit.fleet.enrol_many(["cedar"])
        await visit.fleet.beat("cedar", "activity", "7", ago=3600.0)
        assert (await visit.page()).row("cedar")[1] == "was unknown"
        await later(visit, SILENT_AFTER_S + 1)
        assert (await visit.page()).row("cedar")[1] == "was silent"

    visit(tmp_path, talk)


def test_a_quiet_device_that_holds_nothing_back_answered_nothing(tmp_path: Path) -> None:
    async def talk(visit: Visit) -> None:
        await visit.fleet.enrol_many(["holds", "told"])
        await visit.fleet.beat("told", "apparel", "1", pending=0)
        await visit.fleet.beat("holds", "apparel", "1", pending=5)
        known = {one.name: one.answers for one in (await visit.listed("/v1/fleet")).devices}
        assert known["holds"] is None
        assert known["told"] is not None
        assert known["told"].total == 0

    visit(tmp_path, talk)


def test_what_devices_say_is_text_and_never_markup(tmp_path: Path) -> None:
    async def talk(visit: Visit) -> None:
        fleet = visit.fleet
        await fleet.enrol_many([HOSTILE, "plain"])
        refusal = v1.Refusal(HOSTILE, HOSTILE, HOSTILE, HOSTILE, 1e300)
        for name in (HOSTILE, "plain"):
            await fleet.beat(name, HOSTILE, HOSTILE, link=HOSTILE, waiting=1, refusals=[refusal])
            await fleet.answers(name, HOSTILE, HOSTILE, edge=3, cloud=1)
            await fleet.desire(HOSTILE, f"{HOSTILE} 2", name)
            await fleet.lose(name, 3, HOSTILE)
        quoted = httpx.URL("http://gateway", path=f"/devices/{HOSTILE}").raw_path.decode()
        for url in ("/", quoted, "/devices/plain", "/devices/%3Cscript%3E", "/?name=%3Cb%3E%22"):
            page = await visit.page(url, 404 if "script" in url else 200)
            assert [tag for tag, _ in page.tags].count("img") == 1, "only our own mark"
            assert {tag for tag, _ in page.tags} <= OUR_TAGS
            for _, found in page.tags:
                assert not [name for name in found if name.startswith("on")], found
        assert HOSTILE in [row[0] for row in (await visit.page()).rows]
        assert HOSTILE in (await visit.page(quoted)).rows[1]

    visit(tmp_path, talk)


def test_pages_run_nothing_inline_and_ask_nobody_outside(tmp_path: Path) -> None:
    async def talk(visit: Visit) -> None:
        await busy(visit.fleet)
        for url in ("/", "/devices/apple", "/devices/elder", "/?state=silent"):
            answer = await visit.get(url)
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "script-src 'self';" in policy
            assert "unsafe" not in policy
            assert answer.headers["cache-control"] == "no-store"
            for tag, found in Page(answer.text).tags:
                assert "style" not in found, "an inline style the policy forbids"
                if tag == "script":
                    assert found.get("src", ""), "an inline script the policy forbids"
                for name in ("src", "href", "action"):
                    assert not re.match(r"(\w+:)?//", found.get(name) or ""), found
                if tag in {"script", "link", "img"}:
                    asset = await visit.get(found.get("src") or found.get("href") or "")
                    assert "immutable" in asset.headers["cache-control"]
                    assert asset.headers["x-content-type-options"] == "nosniff"

    visit(tmp_path, talk)


@pytest.mark.parametrize(
    "path", ["vendor/VENDOR.json", "vendor/uPlot.LICENSE", "nothing.js", "%2e%2e/routes.py", ""]
)
def test_only_the_pages_own_files_are_served(tmp_path: Path, path: str) -> None:
    async def talk(visit: Visit) -> None:
        await visit.get(f"/static/{path}", 404)

    visit(tmp_path, talk)


def test_a_thousand_devices_are_listed_a_window_at_a_time(tmp_path: Path) -> None:
    async def talk(visit: Visit) -> None:
        names = [f"node-{index:04}" for index in range(1000)]
        await visit.fleet.enrol_many(names)
        page = await visit.page()
        assert len(page.rows) <= 101
        assert "1,000" in page.slots["total"]
        assert len(page.source) < 250_000
        seen: list[str] = []
        url: str | None = "/v1/fleet?limit=300"
        while url is not None:
            listed = await visit.listed(url)
            assert listed.total == 1000
            seen += [device.name for device in listed.devices]
            url = listed.next
        assert seen == names
        last = await visit.listed("/v1/fleet?offset=999")
        assert [device.name for device in last.devices] == ["node-0999"]
        assert (await visit.listed("/v1/fleet?offset=5000")).devices == ()

    visit(tmp_path, talk)


def test_the_series_is_what_the_buckets_hold(tmp_path: Path) -> None:
    async def talk(visit: Visit) -> None:
        await busy(visit.fleet)
        for query in (
            "minutes=5",
            "minutes=60",
            "minutes=60&task=apparel",
            "minutes=60&device=apple",
        ):
            series = await visit.series(query)
            expected = 170 if "&" not in query else 150 if "task" in query else 100
            total = sum(one.edge + one.cloud + one.provisional for one in series.buckets)
            assert total == expected, query
            assert all(one.start % series.step_s == 0 for one in series.buckets)
            for one in series.buckets:
                assert (one.edge_p50_ms is None) == (one.edge == 0)
                assert (one.cloud_p99_ms is None) == (one.cloud == 0)
                if one.edge_p50_ms is not None and one.edge_p99_ms is not None:
                    assert BOUNDS_US[0] / 1000 <= one.edge_p50_ms <= one.edge_p99_ms
        assert (await visit.series("minutes=5")).step_s == 5
        assert (await visit.series("minutes=60&task=nobody")).buckets == ()

    visit(tmp_path, talk)


def test_the_ledger_is_read_from_both_sides(tmp_path: Path) -> None:
    async def talk(visit: Visit) -> None:
        fleet = visit.fleet
        await fleet.enrol_many(["apple"])
        await fleet.answers("apple", "apparel", "2", edge=90)
        await fleet.lose("apple", 7, "budget")
        await fleet.beat("apple", "apparel", "2", pending=3)
        page = await visit.device("apple")
        ledger = page.ledger
        assert ledger is not None
        assert (ledger.issued, ledger.delivered, ledger.lost, ledger.pending) == (100, 90, 7, 3)
        assert ledger.difference == 0
        assert [(one.reason, one.count) for one in page.losses] == [("budget", 7)]
        await fleet.answers("apple", "apparel", "2", edge=3)
        await later(visit)
        again = await visit.device("apple")
        assert again.ledger is not None
        assert again.ledger.difference == -3
        assert "came after the device" in (await visit.page("/devices/apple")).source

    visit(tmp_path, talk)


def test_what_a_device_said_of_its_health_is_on_its_page(tmp_path: Path) -> None:
    async def talk(visit: Visit) -> None:
        await visit.fleet.enrol_many(["apple"])
        await visit.fleet.beat("apple", "apparel", "2", pending=3)
        assert (await visit.device("apple")).health is None
        await visit.fleet.health("apple", health(level="hot"))
        await later(visit)
        page = await visit.device("apple")
        assert page.health is not None
        assert (page.health.level, page.health.over) == ("hot", "cpu, uplink")
        source = (await visit.page("/devices/apple")).source
        assert "<em>hot</em>: 93 °C" in source
        assert "30 MB and 70 MB in 1 worker" in source

    visit(tmp_path, talk)


def test_a_device_clock_far_ahead_counts_in_no_window(tmp_path: Path) -> None:
    async def talk(visit: Visit) -> None:
        await visit.fleet.enrol_many(["fast"])
        await visit.fleet.beat("fast", "apparel", "1")
        await visit.fleet.answers("fast", "apparel", "1", edge=5, ago=-7200.0)
        summary = await visit.summary()
        assert summary.answers is None or summary.answers.total == 0

    visit(tmp_path, talk)


@pytest.mark.parametrize(
    "url",
    ["/v1/fleet?state=gone", "/v1/fleet?limit=0", "/v1/fleet/series?minutes=0", "/?colour=red"],
)
def test_a_bad_question_is_a_named_problem(tmp_path: Path, url: str) -> None:
    async def talk(visit: Visit) -> None:
        answer = await visit.get(url, 400)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "bad_request"
        assert "the parameters known here are" in answer.json()["detail"]

    visit(tmp_path, talk)


def test_an_empty_fleet_says_what_to_do_next(tmp_path: Path) -> None:
    async def talk(visit: Visit) -> None:
        page = await visit.page()
        assert "longstop-gateway device add NAME" in page.source
        assert page.rows == []
        await visit.get("/v1/fleet/devices/nobody", 404)
        assert "device add" in (await visit.page("/devices/nobody", 404)).source

    visit(tmp_path, talk)


def test_a_picture_costs_what_the_devices_cost_and_not_the_history(tmp_path: Path) -> None:
    async def talk(visit: Visit) -> None:
        await busy(visit.fleet)
        at = visit.clock.now
        asked: list[tuple[str, object]] = []

        def note(
            connection: object, cursor: object, statement: str, parameters: object, *rest: object
        ) -> None:
            asked.append((statement, parameters))

        def plans(connection: Connection) -> list[str]:
            event.listen(connection, "before_cursor_execute", note)
            reading.last_words(connection)
            reading.tasks(connection, ["apple"])
            reading.answers(connection, at)
            reading.histograms(connection, int(at) - 300, 5, task="", name="")
            reading.histograms(connection, int(at) - 300, 60, task="", name="apple")
            event.remove(connection, "before_cursor_execute", note)
            return [
                str(row[3])
                for statement, parameters in asked
                for row in connection.exec_driver_sql(
                    f"EXPLAIN QUERY PLAN {statement}",
                    parameters,  # type: ignore[arg-type]  # as they came
                )
            ]

        steps = await visit.fleet.gateway.database.read(plans)
        assert len(asked) == 6
        assert not [step for step in steps if step.startswith("SCAN")]
        history = [step for step in steps if "_answers " in step]
        assert len(history) == 3
        for step in history:
            assert "start>?" in step, step

    visit(tmp_path, talk)
