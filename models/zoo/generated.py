"""The generated tasks' data: which machines, authors and customers are in which part.

Rules:
1. A group (machine, author, customer) is in one part only. The held-out data are two parts: *tune*
   and *calibrate*.
2. Each part can be made without the others. The numbers below are fixed: with them and one version
   of numpy the same samples come again.
3. The difficulty of a task was set with other seeds, so these parts were new to the recipes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from models.zoo.data import Dataset, Labels, Raw

PartName = Literal["train", "tune", "calibrate", "test"]
SEED = 2026

MACHINES: dict[PartName, range] = {
    "train": range(128),
    "tune": range(128, 144),
    "calibrate": range(300, 700),
    "test": range(184, 224),
}
WINDOWS_OF_A_STATE: dict[PartName, int] = {"train": 20, "tune": 20, "calibrate": 2, "test": 20}
"""Groups are what a certificate counts, so many machines with few windows calibrate best."""
AUTHORS: dict[PartName, range] = {
    "train": range(300),
    "tune": range(300, 340),
    "calibrate": range(600, 1000),
    "test": range(440, 540),
}
MESSAGES_OF_AN_AUTHOR: dict[PartName, int] = {
    "train": 40,
    "tune": 40,
    "calibrate": 10,
    "test": 40,
}
CUSTOMERS: dict[PartName, range] = {
    "train": range(4_000),
    "tune": range(4_000, 4_400),
    "calibrate": range(4_400, 5_400),
    "test": range(5_400, 6_400),
}
PAYMENTS_OF_A_CUSTOMER = 8


class Part(NamedTuple):
    """Samples [n, ...], their labels [n], and the number of the group each comes from [n]."""

    x: Raw
    y: Labels
    groups: Labels


def part(task: str, name: PartName) -> Part:
    """One part of `vibration`, `tickets` or `fraud`; a KeyError for another task."""
    return _MAKERS[task](name)


def tune_groups(task: str) -> tuple[int, ...]:
    """The groups of the held-out data that tune."""
    return tuple(_GROUPS[task]["tune"])


def dataset(task: str) -> Dataset:
    """All parts of one task."""
    train, tune, calibrate, test = (
        part(task, name) for name in ("train", "tune", "calibrate", "test")
    )
    held = Part(
        np.concatenate([tune.x, calibrate.x]),
        np.concatenate([tune.y, calibrate.y]),
        np.concatenate([tune.groups, calibrate.groups]),
    )
    return Dataset(
        name=task,
        label_names=label_names(task),
        train_x=train.x,
        train_y=train.y,
        held_x=held.x,
        held_y=held.y,
        test_x=test.x,
        test_y=test.y,
        train_groups=train.groups,
        held_groups=held.groups,
        test_groups=test.groups,
        sha256=_sha256(train, held, test),
    )


def label_names(task: str) -> tuple[str, ...]:
    """The classes of a task, in the order of its labels."""
    from models.zoo.fraud.generator import LABELS
    from models.zoo.tickets.phrases import TEAMS
    from models.zoo.vibration.generator import STATES

    return {"vibration": STATES, "tickets": TEAMS, "fraud": LABELS}[task]


def _vibration(name: PartName) -> Part:
    from models.zoo.vibration.generator import STATES, machine, windows

    made = [
        windows(machine(number, seed=SEED), state, WINDOWS_OF_A_STATE[name], seed=SEED)
        for number in MACHINES[name]
        for state in STATES
    ]
    states = np.repeat(np.arange(len(STATES)), WINDOWS_OF_A_STATE[name])
    groups = np.repeat(np.array(MACHINES[name]), len(states))
    return Part(np.concatenate(made), np.tile(states, len(MACHINES[name])), groups)


def _tickets(name: PartName) -> Part:
    from models.zoo.tickets.generator import messages

    made = messages(AUTHORS[name], MESSAGES_OF_AN_AUTHOR[name], seed=SEED)
    return Part(np.array(made.texts, dtype=np.object_), made.labels, made.authors)


def _fraud(name: PartName) -> Part:
    from models.zoo.fraud.generator import payments

    made = payments(CUSTOMERS[name], PAYMENTS_OF_A_CUSTOMER, seed=SEED)
    return Part(np.array(made.records, dtype=np.object_), made.labels, made.customers)


def _sha256(*parts: Part) -> str:
    found = hashlib.sha256()
    for one in parts:
        if one.x.dtype == np.object_:
            found.update(msgspec.json.encode(one.x.tolist()))
        else:
            found.update(one.x.astype(one.x.dtype.newbyteorder("<")).tobytes())
        found.update(one.y.astype("<i8").tobytes())
    return found.hexdigest()


_MAKERS: dict[str, Callable[[PartName], Part]] = {
    "vibration": _vibration,
    "tickets": _tickets,
    "fraud": _fraud,
}
_GROUPS: dict[str, dict[PartName, range]] = {
    "vibration": MACHINES,
    "tickets": AUTHORS,
    "fraud": CUSTOMERS,
}
