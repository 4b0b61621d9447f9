"""Golden pictures of the package: garments drawn by a few lines, for no data set travels in one."""

from __future__ import annotations

import numpy as np

from models.zoo.garments.scenes import SIDE, png

Outline = tuple[tuple[int, int], ...]

GROUND, CLOTH, CLUTTER = 8, 190, 90
SHIRT: Outline = (
    (16, 22), (24, 14), (29, 17), (35, 17), (40, 14), (48, 22), (43, 28), (40, 25), (40, 48),
    (24, 48), (24, 25), (21, 28),
)  # fmt: skip
TROUSERS: Outline = ((26, 10), (40, 10), (42, 52), (35, 52), (33, 22), (31, 52), (24, 52))
BAG: Outline = ((14, 26), (44, 26), (47, 46), (11, 46))


def pictures() -> dict[str, bytes]:
    """PNG files by name."""
    from PIL import Image, ImageDraw

    drawn = {}
    outlines: dict[str, Outline | None] = {
        "shirt": SHIRT,
        "trousers": TROUSERS,
        "bag": BAG,
        "empty": None,
    }
    for name, outline in outlines.items():
        picture = Image.new("L", (SIDE, SIDE), GROUND)
        draw = ImageDraw.Draw(picture)
        draw.rectangle((52, 4, 58, 9), fill=CLUTTER)
        if outline is not None:
            draw.polygon(outline, fill=CLOTH)
        if name == "bag":
            draw.arc((20, 14, 38, 38), 180, 360, fill=CLOTH, width=2)
        held = np.asarray(picture)
        drawn[name] = png(held)
    return drawn
