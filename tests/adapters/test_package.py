"""Packages on disk and as archives: what goes in comes out, and nothing bad comes in."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from models import archive, package
from models.archive import Entry
from models.errors import FileMissing, TargetExists
from models.manifest import Role, decode, encode
from models.twins import build_twin
from tests.tiny_models import build_tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def edge(folder: Path) -> bytes:
    return package.pack(folder, Role.EDGE)


def names_in(path: Path) -> list[str]:
    return sorted(found.name for found in path.iterdir())


def plain_of(packed: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(packed)


# What goes in comes out.


@pytest.mark.parametrize(
    ("role", "names"),
    [
        (Role.EDGE, ["edge.onnx", "figures.json", "manifest.json"]),
        (Role.CLOUD, ["cloud.onnx", "figures.json", "manifest.json"]),
    ],
)
def test_each_archive_holds_its_own_half(
    folder: Path, tmp_path: Path, role: Role, names: list[str]
) -> None:
    unpacked = package.unpack(package.pack(folder, role), tmp_path / "there" / "p")
    assert names_in(unpacked) == names
    for name in names:
        assert (unpacked / name).read_bytes() == (folder / name).read_bytes()
    assert package.roles(unpacked) == (role,)
    found = package.read(unpacked, role)
    assert found.manifest == package.read(folder, role).manifest
    assert found.first_model == unpacked / f"{role.value}.onnx"
    with pytest.raises(FileMissing, match="fetch or build the package again"):
        package.read(unpacked, next(other for other in Role if other is not role))


def test_the_same_parts_give_the_same_bytes(folder: Path, edge: bytes, tmp_path: Path) -> None:
    again = build_tiny(tmp_path)
    for name in names_in(folder):
        os.utime(again / name, (1, 1))
        (again / name).chmod(0o600)
        assert (again / name).read_bytes() == (folder / name).read_bytes()
    assert package.pack(again, Role.EDGE) == edge
    assert package.digest(edge) == package.digest(package.pack(folder, Role.EDGE))


def test_another_version_is_another_archive(folder: Path, edge: bytes, tmp_path: Path) -> None:
    other = build_tiny(tmp_path, version="2")
    assert package.read(other, Role.EDGE).manifest.version == "2"
    assert package.pack(other, Role.EDGE) != edge


def test_ordinary_tar_can_read_an_archive(edge: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(plain_of(edge))) as tar:
        members = tar.getmembers()
        assert [member.name for member in members] == [
            "edge.onnx",
            "figures.json",
            "manifest.json",
        ]
        assert {(m.mtime, m.uid, m.gid, m.mode, m.uname) for m in members} == {(0, 0, 0, 0o644, "")}


def test_a_manifest_reads_back_as_it_was_written(folder: Path) -> None:
    data = (folder / "manifest.json").read_bytes()
    assert encode(decode(data)) == data


@given(
    st.dictionaries(
        st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", fullmatch=True),
        st.binary(max_size=1100),
        min_size=1,
        max_size=4,
    )
)
def test_any_flat_files_survive_an_archive(files: dict[str, bytes]) -> None:
    entries = tuple(Entry(name, data) for name, data in sorted(files.items()))
    assert archive.unpack(archive.pack(entries)) == entries
    assert archive.pack(entries[::-1]) == archive.pack(entries)


def test_a_twin_package_needs_no_training(tmp_path: Path) -> None:
    twin = build_twin("anything", "3", tmp_path / "twin", labels=("no", "yes", "maybe", "later"))
    assert package.roles(twin) == (Role.EDGE, Role.CLOUD)
    assert package.read(twin, Role.EDGE).manifest.labels == ("no", "yes", "maybe", "later")


def test_a_build_does_not_overwrite(folder: Path) -> None:
    with pytest.raises(TargetExists, match="choose another place"):
        build_tiny(folder.parent)


def test_reading_packages_needs_neither_numpy_nor_a_runtime() -> None:
    script = (
        "import sys, models.package, models.release\n"
        "print(sorted({'numpy', 'onnxruntime', 'cryptography', 'scipy'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# Whole or not at all.


def test_unpacking_twice_changes_nothing(edge: bytes, tmp_path: Path) -> None:
    target = package.unpack(edge, tmp_path / "p")
    before = target.stat().st_ino
    assert package.unpack(edge, target) == target
    assert target.stat().st_ino == before
    assert names_in(tmp_path) == ["p"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda target: (target / "edge.onnx").write_bytes(b"other"),
        lambda target: (target / "edge.onnx").unlink(),
        lambda target: (target / "extra").write_bytes(b""),
        lambda target: [found.unlink() for found in target.iterdir()],
    ],
    ids=["altered", "missing", "extra", "empty"],
)
def test_unpacking_over_a_damaged_package_heals_it(
    edge: bytes, tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    target = package.unpack(edge, tmp_path / "p")
    spoil(target)
    package.unpack(edge, target)
    package.read(target, Role.EDGE)
    assert names_in(target) == ["edge.onnx", "figures.json", "manifest.json"]
    assert names_in(tmp_path) == ["p"]


UNPACK = """
import sys
from pathlib import Path
from models import package
package.unpack(Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]))
"""


MOMENTS = ["mkdir:when=2", *(f"fsync:when={n}" for n in range(1, 6)), "rename:when=1"]


@pytest.mark.parametrize(
    ("moment", "damaged"),
    [
        *((moment, damaged) for moment in MOMENTS for damaged in (False, True)),
        ("rename:when=2", True),
    ],
)
def test_a_power_cut_leaves_a_package_absent_or_whole(
    edge: bytes, tmp_path: Path, moment: str, *, damaged: bool
) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is missing; run ./just system")
    packed, target = tmp_path / "packed", tmp_path / "store" / "p"
    packed.write_bytes(edge)
    target.parent.mkdir()
    if damaged:
        package.unpack(edge, target)
        (target / "edge.onnx").write_bytes(b"damaged")
    call, when = moment.split(":")
    watched = [strace, "-qq", "-o", str(tmp_path / "trace"), "-e", f"trace={call}"]
    killing = ["-e", f"inject={call}:signal=SIGKILL:{when}"]
    done = subprocess.run(
        [*watched, *killing, sys.executable, "-P", "-B", "-c", UNPACK, str(packed), str(target)],
        capture_output=True,
        text=True,
    )
    if "PTRACE" in done.stderr:
        pytest.skip(f"strace may not trace here: {done.stderr.strip()}")
    assert done.returncode != 0, "nobody was killed"
    if target.exists() and (target / "edge.onnx").read_bytes() != b"damaged":
        package.read(target, Role.EDGE)
    package.sweep(target.parent)
    assert names_in(target.parent) in (["p"], [])
    package.unpack(edge, target)
    package.read(target, Role.EDGE)
    assert names_in(target.parent) == ["p"]
