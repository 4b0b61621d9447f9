"""The page of an evaluation in a real browser: it asks nobody, has no error, fits a phone."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from playwright.async_api import Browser, Page, async_playwright

from models.calibrate.certify import certify
from models.calibrate.outcomes import of_logits
from models.evaluate.evaluation import evaluate
from models.evaluate.inputs import EvaluationInputs, Link, Prices
from models.evaluate.page import to_html
from tests.cascades import made_up

CHROMIUM = shutil.which("chromium")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None, reason="no chromium here; ./just system installs it where it may"
    ),
]

BRIGHTNESS = """() => {
  const [r, g, b] = getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number);
  return (r + g + b) / 3;
}"""
# Words of a picture that lie on other words, or outside their picture.
COLLISIONS = """() => [...document.querySelectorAll('figure svg')].flatMap(svg => {
  const whole = svg.getBoundingClientRect();
  const words = [...svg.querySelectorAll('text')]
    .map(text => [text.textContent, text.getBoundingClientRect()]);
  const out = words.filter(([, b]) => b.left < whole.left - 1 || b.right > whole.right + 1
    || b.top < whole.top - 1 || b.bottom > whole.bottom + 1).map(([w]) => 'outside: ' + w);
  words.forEach(([a, x], i) => words.slice(i + 1).forEach(([b, y]) => {
    const wide = Math.min(x.right, y.right) - Math.max(x.left, y.left);
    const high = Math.min(x.bottom, y.bottom) - Math.max(x.top, y.top);
    if (wide > 2 && high > 4) out.push(a + ' on ' + b);
  }));
  return out;
})"""


def page_of_a_cascade() -> str:
    rows = made_up(1500, seed=1)
    outcomes = of_logits(rows.edge, rows.cloud, rows.y)
    first = np.arange(1500) < 400
    return to_html(
        evaluate(
            EvaluationInputs(
                task="<script>throw new Error('run')</script>",
                certificate=certify(
                    outcomes.where(first), outcomes.where(~first), promise="harm", eps=0.06
                ),
                labels=("bag", "shoe", "SITTING_DOWN", "<img src=x onerror=alert(1)>"),
                y=rows.y,
                edge_logits=rows.edge,
                edge_fp32_logits=rows.edge + 0.1,
                cloud_logits=rows.cloud,
                groups=np.arange(1500) % 5,
                request_bytes=812,
                edge_ms=np.array([1.0, 1.5]),
                cloud_ms=np.array([9.0]),
                link=Link(40.0, 90.0, 300.0),
                deadline_ms=100.0,
                prices=Prices(per_call=0.001),
                resamples=40,
            )
        )
    )


async def opened(
    browser: Browser, file: Path, scheme: Literal["light", "dark"], width: int, said: list[str]
) -> Page:
    context = await browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme
    )
    page = await context.new_page()
    page.on("console", lambda message: said.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on(
        "request",
        lambda request: (
            None
            if request.url == file.as_uri() or request.url.startswith("data:")
            else said.append(f"request: {request.url}")
        ),
    )
    await page.goto(file.as_uri())
    return page


def test_the_page_stands_alone_in_both_schemes_and_on_a_phone(tmp_path: Path) -> None:
    file = tmp_path / "evaluation.html"
    file.write_text(page_of_a_cascade(), encoding="utf-8")
    said: list[str] = []

    async def story() -> None:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=CHROMIUM, args=["--no-sandbox"]
            )
            light = await opened(browser, file, "light", 1280, said)
            assert await light.evaluate(BRIGHTNESS) > 200
            dark = await opened(browser, file, "dark", 1280, said)
            assert await dark.evaluate(BRIGHTNESS) < 60
            phone = await opened(browser, file, "light", 390, said)
            for page in (light, phone):
                wide = await page.evaluate("document.documentElement.scrollWidth")
                assert wide == await page.evaluate("document.documentElement.clientWidth")
                assert await page.locator("figure svg").count() == 8
                assert await page.evaluate(COLLISIONS) == []
            assert "go to the cloud; accuracy" in await light.locator("h1").inner_text()
            await browser.close()

    asyncio.run(story())
    assert said == []
