"""The SDK leaves the house alone: standard library and itself, whatever else is installed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from tests.house.tree import ROOT, bare_environment, imported_names, module_name, reaches, sources

SDK = sorted(sources("edge_agent/sdk"))

IMPORT_AND_TELL = """
import importlib, json, sys
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    importlib.import_module(name)
print(json.dumps(sorted(sys.modules)))
"""


def ours_or_stdlib(name: str) -> bool:
    head = name.split(".")[0]
    return head in sys.stdlib_module_names or head in ("edge_agent", "__main__")


def test_importing_the_sdk_loads_only_the_standard_library_and_itself(tmp_path: Path) -> None:
    for source in [ROOT / "edge_agent" / "__init__.py", *SDK]:
        copy = tmp_path / source.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, copy)
    names = ["edge_agent", *map(module_name, SDK)]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", IMPORT_AND_TELL, str(tmp_path), *names],
        capture_output=True,
        text=True,
        env=bare_environment(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout)
    assert "edge_agent" in loaded
    assert [name for name in loaded if not ours_or_stdlib(name)] == []


def test_the_sdk_imports_nothing_else_later_either() -> None:
    foreign = {
        f"{source.relative_to(ROOT)}: {name}"
        for source in SDK
        for name in imported_names(source)
        if not ours_or_stdlib(name)
        or (reaches(name, "edge_agent") and not reaches(name, "edge_agent.sdk"))
    }
    assert foreign == set()
