"""The page in a real browser, on a gateway whose fleet speaks through the gateway's own doors."""

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from playwright.async_api import Browser, Page, Request, async_playwright, expect

from sync.wire import v1
from tests.browser.made_up_fleet import MadeUpFleet, made_up_fleet

CHROMIUM = shutil.which("chromium")
PATIENCE_MS = 20_000
expect.set_options(timeout=PATIENCE_MS)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None, reason="no chromium here; ./just system installs it where it may"
    ),
]


class Served:
    """The fleet's gateway on a port of this machine, which can go away and come back."""

    def __init__(self, fleet: MadeUpFleet) -> None:
        self.fleet = fleet
        self._socket = _listen(0)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._server: uvicorn.Server | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        config = uvicorn.Config(
            self.fleet.app, lifespan="off", log_level="warning", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        assert self._server is not None
        assert self._task is not None
        port = self._socket.getsockname()[1]
        self._server.should_exit = True
        await self._task
        self._socket.close()
        self._socket = _listen(port)

    def close(self) -> None:
        self._socket.close()


class Viewer:
    """A browser's window on the gateway, which notes what no page of ours may do."""

    def __init__(self, served: Served, browser: Browser) -> None:
        self.served = served
        self.fleet = served.fleet
        self.browser = browser
        self.outside: list[str] = []
        self.errors: list[str] = []

    async def open(self, path: str = "/", *, width: int = 1280, script: bool = True) -> Page:
        context = await self.browser.new_context(
            viewport={"width": width, "height": 900},
            java_script_enabled=script,
            locale="en-GB",
            timezone_id="Asia/Kolkata",
        )
        page = await context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("request", self._asked)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on(
            "console",
            lambda said: (
                self.errors.append(said.text) if said.type in {"error", "warning"} else None
            ),
        )
        await page.goto(self.served.url + path)
        return page

    async def api(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.served.url) as client:
            return await client.get(path)

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((self.served.url, "data:")):
            self.outside.append(request.url)


def view(folder: Path, talk: Callable[[Viewer], Awaitable[None]]) -> None:
    async def story() -> None:
        async with made_up_fleet(folder) as fleet, _served(fleet) as served:
            async with async_playwright() as playwright:
                browser = await playwright.chromium.launch(
                    executable_path=CHROMIUM, args=["--no-sandbox"]
                )
                viewer = Viewer(served, browser)
                await talk(viewer)
                await browser.close()
            assert viewer.outside == [], "the page asks nobody but the gateway"
            assert viewer.errors == []

    asyncio.run(story())


@asynccontextmanager
async def _served(fleet: MadeUpFleet) -> AsyncIterator[Served]:
    served = Served(fleet)
    await served.start()
    try:
        yield served
    finally:
        await served.stop()
        served.close()


def _listen(port: int) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    listening.listen(128)
    return listening


async def _speak(fleet: MadeUpFleet, names: list[str]) -> None:
    await fleet.enrol_many([*names, "quiet"])
    for index, name in enumerate(names):
        await fleet.answers(name, "apparel", "1", edge=90 - index, cloud=9, provisional=1)
        await fleet.beat(name, "apparel", "1", pending=index, waiting=index)
    await fleet.desire("apparel", "2", names[0])


async def _slot(page: Page, name: str) -> str:
    return await page.locator(f"[data-slot={name}]").inner_text()


async def _same_numbers(viewer: Viewer, page: Page) -> bool:
    """Four numbers read off the page are those the API gives at the same moment."""
    summary = (await viewer.api("/v1/fleet/summary")).json()
    answers = summary["answers"]
    states = {one["name"]: one["count"] for one in summary["states"]}
    expected = {
        "edge": f"{answers['edge']:,}",
        "hard": f"{answers['hard']:,}",
        "waiting": str(summary["escalations_waiting"]),
        "live": str(states["live"]),
    }
    return {name: await _slot(page, name) for name in expected} == expected


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Page and API are read one after the other, and a second may turn in between."""
    async with asyncio.timeout(PATIENCE_MS / 1000):
        while not await holds():  # noqa: ASYNC110 - nothing in a browser wakes us
            await asyncio.sleep(0.2)


def test_live_numbers_are_the_apis_and_move_with_them(tmp_path: Path) -> None:
    async def talk(viewer: Viewer) -> None:
        fleet, names = viewer.fleet, ["apple", "birch", "cedar"]
        await _speak(fleet, names)
        page = await viewer.open()
        for edge in (297 - 30, 297 - 30 + 1234):
            await expect(page.locator("[data-slot=edge]")).to_have_text(f"{edge:,}")
            await _until(lambda: _same_numbers(viewer, page))
            await fleet.answers("apple", "apparel", "1", edge=1234)
            await fleet.beat("apple", "apparel", "2", waiting=7)
        # And the device's own row: it runs what is desired now.
        row = page.get_by_role("row").filter(has_text="apple")
        await expect(row.locator(".version")).to_have_text("2")
        await expect(row.locator(".waiting .figure")).to_have_text("7")
        await expect(page.locator("#requests canvas")).to_be_visible()
        await expect(page.locator("#latency canvas")).to_be_visible()
        listed = (await viewer.api("/v1/fleet?name=apple")).json()["devices"][0]
        assert await row.locator(".waiting .figure").inner_text() == str(
            listed["escalations_waiting"]
        )
        # The device's page follows, too.
        page = await viewer.open("/devices/apple")
        # A device may claim any time to be that of its refusal; its page lives on.
        claimed = v1.Refusal("apparel", "4", "hash_mismatch", "altered", 1e300)
        await fleet.beat("apple", "apparel", "3", waiting=7, refusals=[claimed])
        await expect(page.locator("[data-live=body]")).to_contain_text("altered")
        delivered = (await viewer.api("/v1/fleet/devices/apple")).json()["ledger"]["delivered"]
        await expect(page.locator("table.ledger")).to_contain_text(f"{delivered:,}")

    view(tmp_path, talk)


def test_a_thousand_devices_are_few_rows_and_the_last_one_is_a_scroll_away(tmp_path: Path) -> None:
    async def talk(viewer: Viewer) -> None:
        names = [f"node-{index:04}" for index in range(1000)]
        await viewer.fleet.enrol_many(names)
        page = await viewer.open()
        table = page.locator("#devices")
        await expect(table).to_have_attribute("aria-rowcount", "1001")
        await expect(table.locator("tbody tr[role=row]").first).to_contain_text("node-0000")
        assert await table.locator("tbody tr").count() < 60
        for where, name, index in (
            ("document.body.scrollHeight", "node-0999", "1001"),
            ("document.body.scrollHeight / 2", "node-0500", "502"),
            ("0", "node-0000", "2"),
        ):
            await page.evaluate(f"scrollTo(0, {where})")
            row = table.locator("tr[role=row]").filter(has_text=name)
            await expect(row).to_have_attribute("aria-rowindex", index)
            assert await table.locator("tbody tr").count() < 60
        # A row in sight changes where it stands, and a filter leaves what the gateway leaves.
        await viewer.fleet.beat("node-0003", "apparel", "1", pending=12)
        row = table.locator("tr[role=row]").filter(has_text="node-0003")
        await expect(row.locator(".pending .figure")).to_have_text("12")
        await page.get_by_placeholder("Name").fill("99")
        await expect(page.locator("#total")).to_have_text("19")
        await expect(table).to_have_attribute("aria-rowcount", "20")
        assert page.url.endswith("/?sort=name&name=99")
        await page.get_by_label("State").select_option("live")
        await expect(page.locator("#none")).to_be_visible()
        await page.get_by_placeholder("Name").fill("")
        await expect(table.locator("tbody tr[role=row]")).to_have_count(1)
        await page.reload()
        await expect(page.locator("#total")).to_have_text("1")
        await page.get_by_role("link", name="Pending").click()
        await expect(page.locator("th[aria-sort]")).to_have_text("Pending")

    view(tmp_path, talk)


def test_the_browser_says_what_the_server_says(tmp_path: Path) -> None:
    async def talk(viewer: Viewer) -> None:
        fleet = viewer.fleet
        await _speak(fleet, ["apple", "birch"])
        await fleet.enrol_many(["cedar"])
        await fleet.beat("cedar", "activity", "7", pending=4, ago=300.0)
        without = await viewer.open(script=False)
        live = await viewer.open()
        await expect(live.locator("#pager")).to_be_hidden()
        await expect(live.locator("[data-slot=requests]")).to_have_text("199")
        for rows in ("#devices tr[role=row] td:not(.contact)", "[data-slot]"):
            said = [await page.locator(rows).all_inner_texts() for page in (without, live)]
            # Ages differ by the moment they were read at, and without a script none grow.
            plain = [[text.split(" min")[0].removesuffix(" 5") for text in texts] for texts in said]
            assert plain[0] == plain[1]
            assert len(plain[0]) > 10
        for width in (360, 768):
            phone = await viewer.open(width=width)
            await expect(phone.locator("#devices tbody tr[role=row]")).to_have_count(4)
            assert await phone.evaluate("document.documentElement.scrollWidth") <= width

    view(tmp_path, talk)


def test_a_page_without_a_gateway_says_so_and_its_colours_go(tmp_path: Path) -> None:
    async def talk(viewer: Viewer) -> None:
        await _speak(viewer.fleet, ["apple"])
        page = await viewer.open()
        state = page.get_by_role("row").filter(has_text="apple").locator(".state")
        await viewer.fleet.beat("apple", "apparel", "1")
        await expect(state).to_have_text("live", use_inner_text=True)
        good = await state.locator("i").evaluate("dot => getComputedStyle(dot).backgroundColor")
        await expect(page.locator("#lost")).to_be_hidden()
        assert viewer.errors == []
        await viewer.served.stop()
        await expect(page.locator("#lost")).to_be_visible()
        await expect(page.locator("#lost")).to_contain_text("No word from the gateway")
        await expect(state).to_have_text("was live", use_inner_text=True)
        gone = await state.locator("i").evaluate("dot => getComputedStyle(dot).backgroundColor")
        assert gone != good
        age = page.locator("#lost time")
        before = int((await age.inner_text()).split()[0])
        await expect(age).not_to_have_text(f"{before} s")
        await viewer.served.start()
        await viewer.fleet.answers("apple", "apparel", "1", edge=1000)
        await viewer.fleet.beat("apple", "apparel", "1")
        await expect(page.locator("#lost")).to_be_hidden()
        await expect(page.locator("[data-slot=edge]")).to_have_text("1,090")
        await expect(state).to_have_text("live", use_inner_text=True)
        # The browser itself notes each try that found nobody.
        assert all("ERR_" in error for error in viewer.errors)
        viewer.errors.clear()

    view(tmp_path, talk)


def test_the_first_device_appears_on_an_empty_page(tmp_path: Path) -> None:
    async def talk(viewer: Viewer) -> None:
        page = await viewer.open()
        await expect(page.locator("code")).to_have_text("longstop-gateway device add NAME")
        await viewer.fleet.enrol_many(["apple"])
        await expect(page.get_by_role("row").filter(has_text="apple")).to_contain_text("never")

    view(tmp_path, talk)
