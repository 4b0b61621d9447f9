"""Where the repository lies and what is in it: the house tests look at files, not at behaviour."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("edge_agent", "cloud_gateway", "models", "sync", "sim")
SCRIPTS = Path(sys.executable).parent


def sources(*packages: str) -> Iterator[Path]:
    """Our Python files, in a stable order."""
    for package in packages or PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def module_name(source: Path) -> str:
    parts = source.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def executed(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below this one, in the order of the text, but not what only type checkers read."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                continue
            case _:
                yield child
                yield from executed(child)


def imported_names(source: Path, *, late: bool = True) -> set[str]:
    """The modules a file imports: anywhere in it, or (not `late`) at once when it is imported."""
    tree = ast.parse(source.read_text())
    found: set[str] = set()
    for node in executed(tree) if late else tree.body:
        match node:
            case ast.Import(names):
                found |= {alias.name for alias in names}
            case ast.ImportFrom(module=str(module), names=names):
                # `from models.zoo import data` imports models.zoo.data as well.
                found |= {module, *(f"{module}.{alias.name}" for alias in names)}
            case _:
                pass
    return found


def reaches(name: str, library: str) -> bool:
    return name == library or name.startswith(f"{library}.")


def training_modules() -> set[str]:
    """Modules that need PyTorch to be imported: no lock holds it, they run under ./just train."""
    imports = {module_name(source): imported_names(source, late=False) for source in sources()}
    found = {
        module for module, names in imports.items() if any(reaches(name, "torch") for name in names)
    }
    while more := {module for module, names in imports.items() if names & found} - found:
        found |= more
    return found


def importable_modules() -> list[str]:
    """Every module of ours that a program may import: not the doors, not what trains."""
    run_by_alembic = "cloud_gateway.migrations.env"  # a script in the middle of a migration
    names = {module_name(source) for source in sources()} - training_modules() - {run_by_alembic}
    return sorted(name for name in names if not name.endswith("__main__"))


def tracked_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], check=True, capture_output=True
    ).stdout
    files = (ROOT / os.fsdecode(name) for name in listed.split(b"\0") if name)
    return [file for file in files if file.is_file()]


def bare_environment(home: Path) -> dict[str, str]:
    """A newcomer's environment: a path, an empty home, nothing set for us."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"}
