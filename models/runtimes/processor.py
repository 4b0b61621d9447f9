"""Which processor this is, as far as compiled models care: what was made for one may not run, or
run otherwise, on another."""

import hashlib
import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_VNNI = {"avx512_vnni", "avx_vnni"}
_TELLING = {"vendor_id", "model name", "flags", "Features", "CPU implementer", "CPU part"}


def processor(cpuinfo: Path = _CPUINFO) -> str:
    """A short name of the processor's kind and abilities, the same at every start."""
    try:
        said = telling(cpuinfo.read_text("utf-8", "replace"))
    except OSError:  # hidden from a confined service: the machine's name must do
        said = ()
    known = "\n".join((platform.machine(), *(said or (platform.processor(),))))
    return hashlib.sha256(known.encode()).hexdigest()[:16]


def adds_bytes_exactly(cpuinfo: Path = _CPUINFO) -> bool:
    """Whether the fast kernels for unsigned by signed bytes never saturate here.

    On x86 that takes VNNI. Before it, pairs of products are added in 16 bits, which overflow.
    """
    if platform.machine() not in ("x86_64", "AMD64"):
        return True
    try:
        said = telling(cpuinfo.read_text("utf-8", "replace"))
    except OSError:
        return False
    return any(_VNNI & set(line.split()) for line in said if line.startswith("flags"))


def telling(cpuinfo: str) -> tuple[str, ...]:
    """Kind and sorted flags of the first processor in `/proc/cpuinfo`; clock rates are left out."""
    first = cpuinfo.strip().partition("\n\n")[0]
    lines = (line.partition(":") for line in first.splitlines())
    return tuple(
        f"{name.strip()}: {' '.join(sorted(value.split()))}"
        for name, _, value in lines
        if name.strip() in _TELLING
    )
