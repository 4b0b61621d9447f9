"""The locks: every name pinned and hashed, no address in any, and a device that stays small."""

import re
from pathlib import Path

import pytest

from tests.house.tree import ROOT

FILES = sorted((ROOT / "requirements").glob("*.txt")) + sorted((ROOT / "requirements").glob("*.in"))
PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>\S+)(?: ; (?P<where>[^\\]+?))? \\$")

# What a device installs. A name more is memory, disk and updates on every device: argue for it.
DEVICE = set(
    "anyio certifi cffi click click-default-group cryptography flatbuffers h11 httpcore httpx idna"
    " msgspec numpy onnxruntime packaging paho-mqtt pillow pip pluggy protobuf pycparser"
    " python-dateutil sqlite-fts4 sqlite-utils tabulate typing-extensions tzdata uvloop"
    " xxhash zstandard".split()
)
# These call home, or replace what we chose to leave out.
UNWANTED = {"huggingface-hub", "openvino-telemetry", "torch", "opentelemetry-exporter-otlp"}
NOWHERE = "sys_platform == 'never'"
"""How an override keeps out what another package asks for: locked, and never installed."""


def pins(lock: str) -> set[tuple[str, str]]:
    lines = (ROOT / "requirements" / lock).read_text().splitlines()
    pinned = (pin for pin in map(PIN.match, lines) if pin)
    return {(pin["name"], pin["version"]) for pin in pinned if pin["where"] != NOWHERE}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_address_is_written_down(file: Path) -> None:
    assert "://" not in file.read_text()


@pytest.mark.parametrize("lock", ["bootstrap.txt", "agent.txt", "gateway.txt", "dev.txt"])
def test_every_line_is_a_pin_or_its_hash(lock: str) -> None:
    for line in (ROOT / "requirements" / lock).read_text().splitlines():
        assert PIN.match(line) or line.startswith("    --hash=sha256:"), line


def test_the_three_locks_hold_the_same_versions() -> None:
    assert pins("agent.txt") <= pins("gateway.txt") <= pins("dev.txt")


def test_a_device_installs_no_more_than_this() -> None:
    assert {name for name, _ in pins("agent.txt")} == DEVICE


def test_nothing_that_calls_home_is_locked() -> None:
    assert UNWANTED.isdisjoint(name for name, _ in pins("dev.txt"))
