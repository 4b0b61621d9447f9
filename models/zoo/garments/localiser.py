"""The net that finds garments: at each of 8 x 8 places, is one centred near here, and its square.

Every place within `NEAR` pixels of a garment's centre learns to find it, so a garment between two
places is found by both and suppression keeps one. Places from there to `FAR` learn nothing about
it: whether they see it may go either way.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.zoo.garments.scenes import SIDE, TILE
from models.zoo.networks import Residual, convolution_block

STRIDE = 8
PLACES = SIDE // STRIDE
NEAR, FAR = 6.0, 12.0
BOX_SHARE = 4.0
"""Weight of the boxes' loss beside that of being there."""


class Localiser(nn.Module):  # type: ignore[misc]
    """x [n, 1, 64, 64] to [n, 4, 8, 8]: logit, right and down in strides, log of side / 28."""

    def __init__(self, first: int, second: int, width: int) -> None:
        super().__init__()
        block = convolution_block
        self.body = nn.Sequential(
            block(1, first, stride=2),
            block(first, second, stride=2),
            block(second, width, stride=2),
            Residual(block(width, width)),
            Residual(block(width, width)),
            Residual(block(width, width)),
        )
        self.head = nn.Conv2d(width, 4, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.body(inputs))


class Decoded(nn.Module):  # type: ignore[misc]
    """What ships: boxes [n, 64, 4] (centre x and y, width, height in pixels), scores [n, 64, 1]."""

    def __init__(self, localiser: Localiser) -> None:
        super().__init__()
        self.body, self.head = localiser.body, localiser.head
        self.register_buffer("middles", _middles().flatten(1)[None])

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        found = self.head(self.body(inputs)).flatten(2)
        centres = self.middles + STRIDE * found[:, 1:3]
        sides = TILE * torch.exp(found[:, 3:4])
        boxes = torch.cat([centres, sides, sides], 1).transpose(1, 2)
        return boxes, torch.sigmoid(found[:, :1]).transpose(1, 2)


def loss(found: Tensor, truth: Tensor, _teacher: Tensor | None) -> Tensor:
    """Of the map [n, 4, 8, 8] against squares [n, 3] (centre x and y, side); NaN where nothing is.

    Cross entropy of being there, and smooth L1 of the square at the places near its centre.
    """
    middles = _middles()
    away = truth[:, :2, None, None] - middles[None]
    distance = torch.nan_to_num(away.square().sum(1).sqrt(), nan=math.inf)
    near, matters = distance <= NEAR, (distance <= NEAR) | (distance > FAR)
    there = functional.binary_cross_entropy_with_logits(found[:, 0][matters], near.float()[matters])
    sides = torch.log(truth[:, 2] / TILE)[:, None, None, None].expand(-1, 1, PLACES, PLACES)
    wanted = torch.cat([away / STRIDE, sides], 1).permute(0, 2, 3, 1)[near]
    said = found[:, 1:].permute(0, 2, 3, 1)[near]
    return there + BOX_SHARE * functional.smooth_l1_loss(said, wanted, beta=0.1)


def squares(boxes: Tensor) -> Tensor:
    """Boxes [n, 4] as centre x, centre y, side."""
    return torch.stack(
        [
            (boxes[:, 0] + boxes[:, 2]) / 2,
            (boxes[:, 1] + boxes[:, 3]) / 2,
            boxes[:, 2] - boxes[:, 0],
        ],
        1,
    )


def prepare(pictures: Tensor) -> Tensor:
    """uint8 [n, 64, 64] as the localiser takes them, in -1..1."""
    scaled = pictures.float() / 127.5 - 1.0
    return scaled[:, None].contiguous(memory_format=torch.channels_last)


def _middles() -> Tensor:
    """[2, 8, 8]: x and y of every place, in pixels."""
    along = (torch.arange(PLACES) + 0.5) * STRIDE
    return torch.stack([along[None].expand(PLACES, -1), along[:, None].expand(-1, PLACES)])
