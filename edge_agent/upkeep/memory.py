"""How much memory this machine, or the control group we run in, has and has left."""

from pathlib import Path

_MEMINFO, _VMSTAT = Path("/proc/meminfo"), Path("/proc/vmstat")
_GROUP = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


def total_bytes() -> int:
    """Of the machine, or of the control group where that has less; 0 when nobody knows."""
    known = [size for size in (_meminfo("MemTotal"), _group("memory.max")) if size]
    return min(known, default=0)


def available_bytes() -> int:
    """What a new process could have without swapping; a very large number when nobody knows."""
    free = [size for size in (_meminfo("MemAvailable"),) if size is not None]
    limit, used = _group("memory.max"), _group("memory.current")
    if limit is not None and used is not None:
        free.append(max(0, limit - used + (_group_cache() or 0)))
    return min(free, default=1 << 62)


def kernel_kills() -> int:
    """How many processes the kernel has killed for want of memory since it started."""
    return _counted(_VMSTAT, "oom_kill") or 0


def _meminfo(name: str) -> int | None:
    kilobytes = _counted(_MEMINFO, f"{name}:")
    return None if kilobytes is None else kilobytes << 10


def _group_cache() -> int | None:
    """Pages of files: the kernel gives them up when they are needed."""
    folder = _folder()
    return None if folder is None else _counted(folder / "memory.stat", "inactive_file")


def _group(name: str) -> int | None:
    folder = _folder()
    try:
        return None if folder is None else int((folder / name).read_text())
    except (OSError, ValueError):  # no such file, or `max`
        return None


def _folder() -> Path | None:
    """Where the second version of control groups says what ours may; None without it."""
    try:
        (line,) = (one for one in _GROUP.read_text().splitlines() if one.startswith("0::"))
    except (OSError, ValueError):
        return None
    return _GROUPS / line.removeprefix("0::").lstrip("/")


def _counted(file: Path, name: str) -> int | None:
    try:
        text = file.read_text()
    except OSError:
        return None
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == name:
            return int(words[1])
    return None
