"""The state of a task's packages on a disk, and what a power cut or a bad sector leaves of it."""

from pathlib import Path

import pytest

from edge_agent.update.activation import Activation, Installed
from edge_agent.update.store import PackageStore

ONE, TWO = "1" * 64, "2" * 64
FIRST = Activation(active=Installed("1.0.0", ONE), wanted="1.0.0")
SECOND = Activation(active=Installed("2.0.0", TWO), previous=FIRST.active, wanted="2.0.0")


def store_with(folder: Path, *states: Activation) -> PackageStore:
    store = PackageStore(folder)
    for state in states:
        store.save("apparel", state)
    return store


def test_what_was_saved_last_is_what_is_loaded(tmp_path: Path) -> None:
    assert PackageStore(tmp_path).load("apparel") == Activation()
    store_with(tmp_path, FIRST, SECOND)
    again = PackageStore(tmp_path)
    assert again.load("apparel") == SECOND
    assert again.tasks() == ("apparel",)


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b'{"format":2,"crc":0,"activation":{}}',
        b'{"format":1,"crc":7,"activation":{}}',
        b"\0" * 300,
    ],
)
def test_a_damaged_state_is_set_aside_and_the_one_before_serves(
    tmp_path: Path, damage: bytes
) -> None:
    store_with(tmp_path, FIRST, SECOND)
    state = tmp_path / "apparel" / "state.json"
    state.write_bytes(damage)
    assert PackageStore(tmp_path).load("apparel") == FIRST
    assert (tmp_path / "apparel" / "state.damaged").read_bytes() == damage
    assert PackageStore(tmp_path).load("apparel") == FIRST


@pytest.mark.parametrize("position", range(0, 160, 7))
def test_no_flipped_bit_is_believed(tmp_path: Path, position: int) -> None:
    store_with(tmp_path, FIRST, SECOND)
    state = tmp_path / "apparel" / "state.json"
    data = bytearray(state.read_bytes())
    data[position] ^= 4
    state.write_bytes(data)
    assert PackageStore(tmp_path).load("apparel") in (FIRST, SECOND)


def test_with_neither_left_the_task_begins_anew(tmp_path: Path) -> None:
    store_with(tmp_path, FIRST, SECOND)
    for name in ("state.json", "state.old.json"):
        (tmp_path / "apparel" / name).write_bytes(b"?")
    assert PackageStore(tmp_path).load("apparel") == Activation()


def test_a_power_cut_between_the_renames_leaves_the_state_before(tmp_path: Path) -> None:
    store = store_with(tmp_path, FIRST)
    home = tmp_path / "apparel"
    (home / "state.json.new").write_bytes(b"half of the next st")
    (home / "state.json").replace(home / "state.old.json")
    assert PackageStore(tmp_path).load("apparel") == FIRST
    assert PackageStore(tmp_path).tasks() == ("apparel",)
    store.save("apparel", SECOND)
    assert PackageStore(tmp_path).load("apparel") == SECOND


def test_only_packages_nobody_needs_are_removed(tmp_path: Path) -> None:
    store = store_with(tmp_path, SECOND)
    for digest in (ONE, TWO, "3" * 64):
        store.package("apparel", digest).mkdir()
    store.keep("apparel", {ONE, TWO})
    left = sorted(path.name for path in (tmp_path / "apparel").iterdir())
    assert left == [ONE, TWO, "state.json"]
