"""Imports point down, and every core is held to what a core may import."""

import ast
import subprocess
import tomllib
from collections.abc import Iterator

import pytest

from tests.house.tree import (
    ROOT,
    SCRIPTS,
    imported_names,
    module_name,
    reaches,
    sources,
    training_modules,
)

CORES = "Cores reach no I/O, clock or chance"
# The only files that may meet these libraries; their exceptions and types stay there.
ADAPTERS = {
    "cv2": {"edge_agent.sources.camera"},
    "paho": {"sync.transport.mqtt"},
    "onnxruntime": {"models.runtimes.onnx", "models.quantize", "models.zoo"},
    "openvino": {"models.runtimes.openvino"},
    "torch": {"models.zoo"},
}


def contracts() -> list[dict[str, object]]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found: list[dict[str, object]] = settings["tool"]["importlinter"]["contracts"]
    return found


def cores() -> Iterator[str]:
    """A core is known by its shape: a module with `step(state, event, now)`."""
    for source in sources():
        for node in ast.parse(source.read_text()).body:
            match node:
                case ast.FunctionDef(name="step", args=arguments):
                    if [argument.arg for argument in arguments.args] == ["state", "event", "now"]:
                        yield module_name(source)
                case _:
                    pass


def test_the_import_contracts_hold() -> None:
    done = subprocess.run(
        [SCRIPTS / "lint-imports", "--no-logo"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_core_stands_in_the_contract_for_cores() -> None:
    listed = {
        name
        for contract in contracts()
        if contract["name"] == CORES and isinstance(contract["source_modules"], list)
        for name in contract["source_modules"]
    }
    missing = sorted(set(cores()) - listed)
    assert not missing, f"add to {CORES!r} in pyproject.toml: {missing}"


@pytest.mark.parametrize("library", sorted(ADAPTERS))
def test_a_library_is_met_only_in_its_adapter(library: str) -> None:
    elsewhere = {
        module_name(source)
        for source in sources()
        if any(reaches(name, library) for name in imported_names(source))
        and not any(reaches(module_name(source), place) for place in ADAPTERS[library])
    }
    assert elsewhere == set(), f"{library} is met outside {sorted(ADAPTERS[library])}"


def test_no_program_reaches_what_trains() -> None:
    training = training_modules()
    programs = {
        f"{module_name(source)} imports {name}"
        for source in sources()
        if not module_name(source).startswith("models.zoo.")
        for name in imported_names(source) & training
    }
    assert programs == set()
