"""Random copies of small grey pictures: shifted, mirrored, partly erased.

Everything is drawn from one generator, so a seed names an augmented copy of the data set.
Distillation relies on it: the teacher's answers are kept per seed and the pictures made again.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

CHUNK = 5000


def augmented_copy(
    pictures: Tensor, seed: int, *, shift: int, mirror: bool, erase: int, erase_share: float
) -> Tensor:
    """One augmented copy of `pictures` (uint8, [n, side, side]), in chunks to bound memory."""
    generator = torch.Generator().manual_seed(seed)
    return torch.cat(
        [
            augmented(
                part,
                generator,
                shift=shift,
                mirror=mirror,
                erase=erase,
                erase_share=erase_share,
            )
            for part in pictures.split(CHUNK)
        ]
    )


def augmented(
    pictures: Tensor,
    generator: torch.Generator,
    *,
    shift: int,
    mirror: bool,
    erase: int,
    erase_share: float,
) -> Tensor:
    """Shifts by up to `shift` pixels, mirrors half, blanks a square in `erase_share` of them."""
    count, side = len(pictures), pictures.shape[1]
    down = torch.randint(0, 2 * shift + 1, (count,), generator=generator)
    right = torch.randint(0, 2 * shift + 1, (count,), generator=generator)
    along = torch.arange(side)
    rows = along[None] + down[:, None]
    columns = along[None] + right[:, None]
    if mirror:
        mirrored = torch.rand(count, generator=generator) < 0.5
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    padded = functional.pad(pictures, (shift,) * 4)
    moved = padded[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
    if erase_share == 0.0:
        return moved
    top = torch.randint(-erase // 2, side - erase // 2 + 1, (count,), generator=generator)
    left = torch.randint(-erase // 2, side - erase // 2 + 1, (count,), generator=generator)
    chosen = torch.rand(count, generator=generator) < erase_share
    in_rows = (along[None] >= top[:, None]) & (along[None] < (top + erase)[:, None])
    in_columns = (along[None] >= left[:, None]) & (along[None] < (left + erase)[:, None])
    blank = in_rows[:, :, None] & in_columns[:, None, :] & chosen[:, None, None]
    return moved.masked_fill(blank, 0)
