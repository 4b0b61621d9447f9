"""Finished stages of a training run, kept as files, so that a run cut short goes on from there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from models.zoo.lessons import Trained


def keep(path: Path, trained: Trained) -> None:
    """Writes a trained net."""
    save(
        path,
        {
            "network": trained.network.state_dict(),
            "seed": trained.seed,
            "epochs": trained.epochs,
            "cpu_seconds": trained.cpu_seconds,
        },
    )


def kept(path: Path, network_of: Callable[[], nn.Module]) -> Trained:
    """A net that `keep` wrote."""
    values = torch.load(path)
    network = network_of()
    network.load_state_dict(values["network"])
    return Trained(network, values["seed"], values["epochs"], values["cpu_seconds"])


def save(path: Path, values: Mapping[str, object]) -> None:
    """A stage cut short leaves nothing that looks finished."""
    half = path.with_suffix(".half")
    torch.save(dict(values), half)
    half.rename(path)
