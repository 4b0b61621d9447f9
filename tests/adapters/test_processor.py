"""What a processor says of itself, and what follows for INT8."""

from pathlib import Path

import pytest

from models.runtimes.processor import adds_bytes_exactly


@pytest.mark.parametrize(
    ("flags", "exact"),
    [
        ("fpu sse4_2 avx2", False),
        ("fpu avx2 avx512f", False),
        ("fpu avx2 avx_vnni", True),
        ("fpu avx512f avx512_vnni", True),
        ("fpu avx512_vnni_of_another_name", False),
    ],
)
def test_only_vnni_adds_products_of_bytes_without_saturating(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, exact: bool
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor : 0\nflags : {flags}\n\nprocessor : 1\nflags : {flags}\n")
    assert adds_bytes_exactly(cpuinfo) is exact


def test_a_processor_that_cannot_be_asked_gets_the_exact_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert not adds_bytes_exactly(tmp_path / "hidden")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert adds_bytes_exactly(tmp_path / "hidden")
