"""Importing us calls nobody and writes nothing: seen from outside, by strace, in an empty home.

onnxruntime's wheel calls home unless ORT_DISABLE_TELEMETRY is set before its import, so these tests
run *without* that variable: our own adapter has to set it.
"""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.tree import (
    bare_environment,
    executed,
    importable_modules,
    imported_names,
    module_name,
    reaches,
    sources,
    training_modules,
)

CALLS = re.compile(r"\b(?:connect|sendto|sendmsg|sendmmsg)\(.*\bAF_INET6?\b.*")
SWITCH = "ORT_DISABLE_TELEMETRY"


def calls_out(program: str, *arguments: str, home: Path) -> list[str]:
    """The network calls a fresh interpreter makes while it runs `program`."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is missing; run ./just system")
    trace = home / "trace"
    watched = [strace, "-f", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", str(trace)]
    done = subprocess.run(
        [*watched, sys.executable, "-P", "-c", program, *arguments],
        capture_output=True,
        text=True,
        env=bare_environment(home),
    )
    if "PTRACE" in done.stderr:
        pytest.skip(f"strace may not trace here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return [line for line in trace.read_text().splitlines() if CALLS.search(line)]


def left_in(home: Path) -> list[Path]:
    return [found for found in home.rglob("*") if found.is_file() and found.name != "trace"]


def test_the_trace_sees_a_call_when_there_is_one(tmp_path: Path) -> None:
    knock = "import socket; socket.socket(type=socket.SOCK_DGRAM).connect(('127.0.0.1', 9))"
    assert len(calls_out(knock, home=tmp_path)) == 1


def test_importing_every_module_of_ours_calls_nobody_and_writes_nothing(tmp_path: Path) -> None:
    program = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    assert calls_out(program, *importable_modules(), home=tmp_path) == []
    assert left_in(tmp_path) == []


def meet_onnxruntime(*, late: bool) -> list[Path]:
    return [
        source
        for source in sources()
        if any(reaches(name, "onnxruntime") for name in imported_names(source, late=late))
    ]


def test_whoever_imports_onnxruntime_switches_its_telemetry_off_first() -> None:
    for source in meet_onnxruntime(late=True):
        name = module_name(source)
        switched = False
        for node in executed(ast.parse(source.read_text())):
            match node:
                case ast.Constant(value=value) if value == SWITCH:
                    switched = True
                case ast.Import(names) if any(reaches(each.name, "onnxruntime") for each in names):
                    assert switched, f"{name}:{node.lineno} imports it before setting {SWITCH}"
                case ast.ImportFrom(module=str(module)) if reaches(module, "onnxruntime"):
                    assert switched, f"{name}:{node.lineno} imports it before setting {SWITCH}"
                case _:
                    pass


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_a_model_runs_without_a_call_or_a_trace(tmp_path: Path, runtime: str) -> None:
    program = """
import pathlib, sys
import numpy, onnx, onnx.helper as make
from models.runtimes.choose import open_model
ends = [make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, 4]) for name in "xy"]
graph = make.make_graph([make.make_node("Relu", ["x"], ["y"])], "relu", ends[:1], ends[1:])
model = make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=8)
file = pathlib.Path(sys.argv[1])
file.write_bytes(model.SerializeToString())
assert open_model(file, sys.argv[2]).run([numpy.ones((1, 4), numpy.float32)])[0].sum() == 4
file.unlink()
"""
    assert calls_out(program, str(tmp_path / "relu.onnx"), runtime, home=tmp_path) == []
    assert left_in(tmp_path) == []


def test_programs_import_onnxruntime_late() -> None:
    """At the top of a module it would cost every importer 20 MB."""
    early = {module_name(source) for source in meet_onnxruntime(late=False)}
    assert early - training_modules() == set()
