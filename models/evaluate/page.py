"""An evaluation as one HTML page: no script, no request, both colour schemes, any width.

Rules:
1. A figure gets on the page through `fig`, by its path in the JSON: so the two cannot differ. Its
   element carries the path and the whole number.
2. Everything is escaped by Jinja, the pictures by `plot`; names come from users.
3. A policy in the page forbids it to fetch anything, should we ever forget.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from models.evaluate import charts
from models.evaluate.sections import Evaluation, Part
from models.evaluate.shown import SPACE, shown, value_at
from models.evaluate.wording import promised

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).with_name("templates")
MOST_ROWS = 200
"""Of a table of classes or groups; a page of a megabyte is read by nobody."""
VERDICTS = {
    "kept": "promise kept on these data",
    "above, within chance": "above the promise here, within chance",
    "broken": "promise broken on these data",
    "no promise": "no promise is made",
}


class Charts(Struct, frozen=True):
    """The pictures, as SVG; empty where there is nothing to draw."""

    accuracy: str
    coverage: str
    reliability: str
    bounds: str
    audit: str
    labels: str
    classes: str
    groups: str


def to_html(evaluation: Evaluation) -> str:
    """The whole page. Needs jinja2, which the `models` extra brings."""
    from markupsafe import Markup

    def fig(path: str) -> Markup:
        value = value_at(evaluation, path)
        text = shown(path.rsplit(".", 1)[-1], value)
        if value is None:
            return Markup(
                '<span title="these data cannot tell, or there is none">{}</span>'
            ).format(text)
        return Markup('<data data-figure="{}" value="{}" title="{}">{}</data>').format(
            path, value, value, text
        )

    drawn = {
        name: Markup(getattr(pictures, name))  # noqa: S704 - `plot` escapes what it is given
        for pictures in [draw_charts(evaluation)]
        for name in Charts.__struct_fields__
    }

    def tied(words: str) -> str:
        """A number and its unit stay on one line."""
        return words.replace(" %", f"{SPACE}%")

    style = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    words = promised(evaluation.certified)
    return (
        _environment()
        .get_template("page.html")
        .render(
            e=evaluation,
            fig=fig,
            tied=tied,
            charts=drawn,
            most_parts=charts.MOST_PARTS,
            most_rows=MOST_ROWS,
            listed=listed,
            style=Markup(style),  # noqa: S704 - our own file
            verdict=VERDICTS[evaluation.headline.verdict],
            promised=tied(words[0].upper() + words[1:]),
        )
    )


def listed(parts: Sequence[Part]) -> list[tuple[int, Part]]:
    """The parts of a table with their places in the JSON: all in order, or the worst of many."""
    places = range(len(parts))
    if len(parts) > MOST_ROWS:
        worst = sorted(places, key=lambda at: (parts[at].system_percent, parts[at].name))
        return [(at, parts[at]) for at in worst[:MOST_ROWS]]
    return [(at, parts[at]) for at in places]


def draw_charts(evaluation: Evaluation) -> Charts:
    """Every picture of the page."""
    e = evaluation
    before, after = e.confidence.reliability_before, e.confidence.reliability_after
    system = e.accuracy.system_percent
    return Charts(
        accuracy=charts.accuracy_chart(e.accuracy, e.about.measure),
        coverage=charts.coverage_chart(e.confidence, e.accuracy),
        reliability=charts.reliability_chart(before, after) if before and after else "",
        bounds=charts.bounds_chart(e.certified, e.accuracy.escalated_percent),
        audit=charts.audit_chart(e.audit, e.certified.eps_percent) if e.audit else "",
        labels=charts.labels_chart(e.audit) if e.audit else "",
        classes=charts.parts_chart(e.parts.classes, system) if e.parts.classes else "",
        groups=charts.parts_chart(e.parts.groups, system) if e.parts.groups else "",
    )


@cache
def _environment() -> jinja2.Environment:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
