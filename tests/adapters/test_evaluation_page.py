"""The page of an evaluation: whole HTML, nothing from outside, and no figure but the JSON's."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from models.calibrate.certify import certify
from models.calibrate.outcomes import of_logits
from models.evaluate.drawing import draw
from models.evaluate.evaluation import evaluate, to_json
from models.evaluate.inputs import EvaluationInputs, Link, Prices
from models.evaluate.page import MOST_ROWS, listed, to_html
from models.evaluate.plot import Axis, Level, Line, Mark, Plot
from models.evaluate.sections import Evaluation, Part, Range
from models.evaluate.shown import shown
from models.zoo import data
from models.zoo.figures import ZOO, read_certificate
from tests.cascades import certificate, made_up

VOID = {"meta", "link", "br", "path", "circle", "rect"}
EVIL = '<script>alert("x")</script>'
SIZES = {"kB": 1e3, "MB": 1e6, "GB": 1e9}


class Read(HTMLParser):
    """What stands in a page: its elements, its figures by path, its text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.figures: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, words: str) -> None:
        self.text.append(words)
        tag, attributes = self.tags[-1] if self.tags else ("", {})
        if tag == "data" and self.open[-1] == "data":
            path, value = attributes["data-figure"], attributes["value"]
            assert path is not None
            assert value is not None
            self.figures.append((path, value, words))


def whole() -> Evaluation:
    """Every section filled, names as bad as they come."""
    rows = made_up(1500, seed=1)
    bad = made_up(600, seed=2, cloud_skill=-1.0)
    edge, cloud = np.concatenate([rows.edge, bad.edge]), np.concatenate([rows.cloud, bad.cloud])
    y = np.concatenate([rows.y, bad.y])
    outcomes = of_logits(edge, cloud, y)
    chance = np.random.default_rng(0).random(2100)
    made = certify(
        outcomes.where(chance < 0.3), outcomes.where(chance >= 0.3), promise="harm", eps=0.04
    )
    return evaluate(
        EvaluationInputs(
            task=f"bags & {EVIL}",
            certificate=made,
            labels=("bag", EVIL, 'a "quoted" & long name of a class', "'"),
            y=y,
            edge_logits=edge,
            edge_fp32_logits=edge + 0.1,
            cloud_logits=cloud,
            groups=np.array(["old"] * 1500 + [EVIL] * 600),
            calibration=outcomes.where(chance >= 0.3),
            request_bytes=812,
            edge_ms=np.array([1.0, 1.5]),
            cloud_ms=np.array([9.0]),
            link=Link(40.0, 90.0, 300.0),
            deadline_ms=100.0,
            prices=Prices(currency="EUR<b>", per_call=0.001),
            resamples=40,
        )
    )


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return whole()


@pytest.fixture(scope="module")
def page(evaluation: Evaluation) -> str:
    return to_html(evaluation)


def at(document: Any, path: str) -> Any:
    for step in path.split("."):
        document = document[int(step)] if isinstance(document, list) else document[step]
    return document


def number(words: str) -> tuple[float, float]:
    """What a written figure says, and by how much rounding may have moved it."""
    found = re.fullmatch(r"([+−]?)([\d,]+)(?:\.(\d+))?(?:e([+−]?\d+))?\s*(\S*)", words)
    assert found is not None, words
    sign, units, digits, power, unit = found.groups()
    scale = 10.0 ** int((power or "0").replace("−", "-")) * SIZES.get(unit, 1.0)
    value = float(f"{units.replace(',', '')}.{digits or 0}") * scale
    return (-value if sign == "−" else value), 0.5000001 * 10.0 ** -len(digits or "") * scale


def test_every_figure_of_the_page_is_the_json_s(page: str, evaluation: Evaluation) -> None:
    document = msgspec.json.decode(to_json(evaluation))
    figures = Read(page).figures
    assert len(figures) > 150
    for path, value, words in figures:
        there = at(document, path)
        assert float(value) == there, path
        if words.startswith("<"):
            assert there < number(words[1:].strip())[0], path
            continue
        says, rounding = number(words)
        assert says == pytest.approx(there, abs=rounding), (path, words)


def test_every_section_has_figures_on_the_page(page: str) -> None:
    sections = {path.split(".")[0] for path, _, _ in Read(page).figures}
    assert sections >= {
        "about",
        "accuracy",
        "audit",
        "certified",
        "confidence",
        "cost",
        "hurting",
        "likeness",
        "parts",
        "precision",
    }


def test_the_page_is_well_formed_and_every_picture_says_what_it_shows(page: str) -> None:
    read = Read(page)
    assert read.open == []
    pictures = [
        attributes for tag, attributes in read.tags if tag == "svg" and "role" in attributes
    ]
    assert len(pictures) == 8
    assert all(picture["aria-label"] for picture in pictures)


def test_nothing_is_asked_of_anybody(page: str) -> None:
    read = Read(page)
    assert not {tag for tag, _ in read.tags} & {"script", "img", "iframe", "object", "use", "base"}
    for tag, attributes in read.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name != "src"
            if "href" in name:
                assert (value or "").startswith(("data:", "#")), (tag, value)
    assert "http" not in page.replace("http-equiv", "")
    assert "url(" not in page
    assert "@import" not in page
    policy = next(a for t, a in read.tags if t == "meta" and "http-equiv" in a)
    assert str(policy["content"]).startswith("default-src 'none'")


def test_names_of_users_stay_words(page: str) -> None:
    assert "<script" not in page
    assert "EUR<b>" not in page
    text = "".join(Read(page).text)
    assert f"Evaluation of bags & {EVIL}" in text
    assert 'a "quoted" & long name of a class' in text


def test_headline_and_caveats_stand_above_everything_else(
    page: str, evaluation: Evaluation
) -> None:
    text = "".join(Read(page).text).replace("\u00a0", " ")
    assert text.index(evaluation.headline.sentence) < text.index(evaluation.headline.promise)
    for caveat in evaluation.caveats:
        assert text.index(caveat.text) < text.index("What escalating buys")
    assert any(caveat.code.startswith("escalating_hurts") for caveat in evaluation.caveats)


@pytest.mark.parametrize(
    "case", ["no labels", "nothing certified", "judged", "one row", "no score"]
)
def test_a_page_can_be_made_of_little(case: str) -> None:
    rows = made_up(400, seed=3)
    given = {
        "no labels": EvaluationInputs(
            task=case,
            certificate=certificate(threshold=0.6, promise="teacher"),
            edge_logits=rows.edge,
            cloud_logits=rows.cloud,
            resamples=10,
        ),
        "nothing certified": EvaluationInputs(
            task=case,
            certificate=certificate(threshold=None, feasible=False, n=40, eps=0.01),
            y=rows.y,
            edge_logits=rows.edge,
            cloud_logits=rows.cloud,
            resamples=10,
        ),
        "judged": EvaluationInputs(
            task=case,
            certificate=certificate(threshold=0.6),
            judged=of_logits(rows.edge, rows.cloud, rows.y),
            resamples=10,
        ),
        "one row": EvaluationInputs(
            task=case,
            certificate=certificate(threshold=0.6),
            y=rows.y[:1],
            edge_logits=rows.edge[:1],
            cloud_logits=rows.cloud[:1],
        ),
        "no score": EvaluationInputs(
            task=case,
            certificate=certificate(threshold=0.6),
            y=rows.y,
            edge_logits=np.full((400, 4), np.nan),
            cloud_logits=rows.cloud,
        ),
    }[case]
    read = Read(to_html(evaluate(given)))
    assert read.open == []
    assert "nan" not in " ".join(read.text).lower().replace("nan,", "")
    assert not any("nan" in str(a.get("d", "")) for _, a in read.tags)


def test_the_shipped_digits_make_a_page(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    digits = data.load("digits")
    inputs = (digits.test_x.astype(np.float32) / 16)[:, None]
    edge, cloud = (
        onnxruntime.InferenceSession(
            ZOO / "digits" / f"{name}.onnx", providers=["CPUExecutionProvider"]
        ).run(None, {"x": inputs})[0]
        for name in ("edge", "cloud")
    )
    certified = read_certificate("digits")
    found = evaluate(
        EvaluationInputs(
            task="digits",
            certificate=certificate(
                threshold=certified.threshold,
                promise="harm",
                eps=certified.eps,
                n=certified.n,
                temperature=certified.temperature,
            ),
            labels=digits.label_names,
            y=digits.test_y,
            edge_logits=edge,
            cloud_logits=cloud,
            resamples=50,
        )
    )
    assert found.accuracy.edge_percent == pytest.approx(97.22, abs=0.3)
    assert found.accuracy.cloud_percent == pytest.approx(99.44, abs=0.3)
    assert found.certified.verdict == "kept"
    page = tmp_path / "digits.html"
    page.write_text(to_html(found), encoding="utf-8")
    assert 20_000 < page.stat().st_size < 200_000


# Small pictures and words.


def test_labels_keep_off_each_other_and_inside_the_picture() -> None:
    rising = [(float(x), float(x)) for x in range(0, 101, 5)]
    falling = [(x, 100 - y) for x, y in rising]
    picture = draw(
        Plot(
            "crossing",
            Axis(0, 100, "x"),
            Axis(0, 100, "y"),
            lines=[Line("rising line", rising, "a"), Line("falling line", falling, "b")],
            marks=[Mark(50, 50, "the middle", "c"), Mark(51, 50, "its neighbour", "c")],
            levels=[Level("half way", "d", y=50.0)],
        )
    )
    labels = re.findall(r'class="label [^"]*" x="([\d.]+)" y="([\d.]+)">([^<]+)<', picture)
    assert {words for _, _, words in labels} == {
        "rising line",
        "falling line",
        "the middle",
        "its neighbour",
        "half way",
    }
    boxes = [(float(x), float(y) - 10, float(x) + 6.7 * len(w), float(y) + 3) for x, y, w in labels]
    for number_, (left, top, right, bottom) in enumerate(boxes):
        assert left >= 0
        assert right <= 400
        assert top >= 0
        assert bottom <= 270
        for other in boxes[number_ + 1 :]:
            apart = right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
            assert apart, (labels, other)


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (Axis(0, 100, ""), ["0", "20", "40", "60", "80", "100"]),
        (Axis(92.6, 95.7, ""), ["93", "94", "95"]),
        (Axis(0, 1.2, ""), ["0.00", "0.25", "0.50", "0.75", "1.00"]),
        (Axis(100, 3000, "", log=True), ["100", "300", "1,000", "3,000"]),
    ],
)
def test_ticks_are_round(axis: Axis, ticks: list[str]) -> None:
    assert [axis.tick_text(tick) for tick in axis.ticks()] == ticks


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("edge_percent", 92.714, "92.71 %"),
        ("edge_percent", 0.0012, "0.0012 %"),
        ("edge_percent", -3.5, "−3.50 %"),
        ("gain_points", -0.4, "−0.40 points"),
        ("gain_points", 2.0, "+2.00 points"),
        ("rows_count", 10000, "10,000"),
        ("p50_ms", 0.3712, "0.37 ms"),
        ("p50_ms", 1234.5, "1,234.5 ms"),
        ("sent_bytes", 77572.0, "77.6 kB"),
        ("sent_bytes", 12, "12 B"),
        ("p_ratio", 2e-20, "< 0.0001"),
        ("auroc_ratio", 0.92514, "0.9251"),
        ("per_1000_cost", 0.041718, "0.04172"),
        ("edge_percent", None, "–"),
    ],
)
def test_a_figure_is_written_by_the_unit_in_its_name(
    name: str, value: float | None, words: str
) -> None:
    assert shown(name, value).replace("\u00a0", " ") == words


@pytest.mark.parametrize("sure", [8.0, 900.0])
@pytest.mark.parametrize("right", [True, False])
def test_a_device_that_is_always_or_never_right_has_a_page_too(sure: float, right: bool) -> None:
    y = np.arange(600) % 4
    logits = sure * np.eye(4)[y if right else (y + 1) % 4]
    logits = logits + np.random.default_rng(0).normal(0, 0.01, logits.shape)
    made = certificate(threshold=0.0)
    found = evaluate(
        EvaluationInputs(
            task="spots",
            certificate=made,
            labels=("a", "b", "c", "d"),
            y=y,
            edge_logits=logits,
            cloud_logits=logits,
            resamples=20,
        )
    )
    Read(to_html(found))


def test_of_hundreds_of_groups_the_worst_are_drawn_and_the_others_fold_away() -> None:
    rows = made_up(1500, seed=1)
    found = evaluate(
        EvaluationInputs(
            task="shops",
            certificate=certificate(threshold=0.8),
            labels=("a", "b", "c", "d"),
            y=rows.y,
            edge_logits=rows.edge,
            cloud_logits=rows.cloud,
            groups=np.array([f"shop {number % 150}" for number in range(1500)]),
            resamples=0,
        )
    )
    page = to_html(found)
    assert found.parts.worst_group is not None
    assert len(re.findall(r"<title>shop ", page)) == 20
    assert f"<title>{found.parts.worst_group.name}:" in page
    assert "the worst 20 of 150 are drawn" in page
    folded = page[page.index("By group, as a table: all 150") :]
    assert len(re.findall(r'<th scope="row">shop ', folded[: folded.index("</details>")])) == 150


def test_of_a_thousand_groups_the_table_lists_the_worst() -> None:
    def part(name: str, percent: float) -> Part:
        whole = Range(0.0, 100.0)
        return Part(name, 10, percent, percent, percent, whole, 0.0, 0.0, whole)

    parts = [part(str(at), 50.0 + at % 50) for at in range(MOST_ROWS + 100)]
    rows = listed(parts)
    assert len(rows) == MOST_ROWS
    assert rows[0][1].system_percent == 50.0
    assert all(parts[place] is one for place, one in rows)
    few = listed(parts[:3])
    assert [place for place, _ in few] == [0, 1, 2]
