"""Building blocks of the zoo's networks.

The blocks are plain on purpose: convolution, batch normalisation, rectifier. Batch normalisation
folds into the convolution on export, so what ships is convolutions, additions and one matrix
product, which every runtime does well.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

Convolution = type[nn.Conv1d] | type[nn.Conv2d]


def convolution_block(
    channels_in: int, channels_out: int, *, width: int = 3, stride: int = 1, dimensions: int = 2
) -> nn.Sequential:
    """Convolution, normalisation, rectifier; `dimensions`: 2 for pictures, 1 for time series."""
    convolution: Convolution = nn.Conv2d if dimensions == 2 else nn.Conv1d
    normalisation = nn.BatchNorm2d if dimensions == 2 else nn.BatchNorm1d
    return nn.Sequential(
        convolution(channels_in, channels_out, width, stride, width // 2, bias=False),
        normalisation(channels_out),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):  # type: ignore[misc]
    """Adds what its blocks compute to its input, so a deep net starts out as a shallow one."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + self.blocks(inputs)


class ScaledLinear(nn.Linear):  # type: ignore[misc]
    """A last layer whose output is scaled down, so that it learns more slowly than those below it.

    `scale` is no parameter; `export.fused` multiplies it into the weights.
    """

    def __init__(self, features: int, classes: int, *, scale: float) -> None:
        super().__init__(features, classes)
        self.scale = scale

    def forward(self, inputs: Tensor) -> Tensor:
        return functional.linear(inputs, self.weight, self.bias) * self.scale


def parameter_count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


class MirrorMean(nn.Module):  # type: ignore[misc]
    """The mean answer of a net to a picture and to its mirror image: better, at twice the work."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        return (self.network(inputs) + self.network(inputs.flip(-1))) / 2
