"""The disk: whose it is, whether it can be written, how much is left, how long a sync takes."""

import errno
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from edge_agent.commands.checks.finding import Finding, Patient, broken, ok, warning

SPARE_BYTES = 64 << 20
LEAST_BYTES = 16 << 20
LEAST_INODES = 1000
SLOW_SYNC_S = 0.1
WORN = 9
"""eMMC tells its age in tenths of its life."""
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs"})


def disk(patient: Patient) -> Iterator[Finding]:
    """Everything below the data folder."""
    data = patient.data
    if not data.exists():
        yield broken(
            "data folder",
            f"{data} is not there",
            "enrol this device (longstop-gateway device add prints the line), or name its folder"
            " with --data",
        )
        return
    whose = list(_owners(data))
    yield from whose
    if whose:
        return
    yield from _written(data)
    yield from _room(patient)
    yield from _kind(data)
    yield from _wear(data)


def _owners(data: Path) -> Iterator[Finding]:
    """Somebody ran the agent once as root, and now it cannot write its own outbox."""
    owner = data.stat().st_uid
    may_write = os.access(data, os.R_OK | os.W_OK | os.X_OK)
    if not may_write and not os.statvfs(data).f_flag & os.ST_RDONLY:
        yield broken(
            "data folder",
            f"{data} belongs to user {owner}, and you are user {os.geteuid()}",
            "run the agent and this command as that user, or name another folder with --data",
        )
        return
    strangers = [
        path
        for path in (
            *(data / name for name in ("agent.lock", "outbox", "packages", "run", "token")),
            *(data / "outbox").glob("*"),
            *(data / "packages").glob("*/state.json"),
        )
        if path.exists() and path.stat().st_uid != owner
    ]
    if strangers:
        yield broken(
            "data folder",
            f"{data} belongs to user {owner}, {strangers[0]} to user {strangers[0].stat().st_uid}",
            f"run the agent always as one user, and give it all of it: chown -R {owner} {data}",
        )


def _written(data: Path) -> Iterator[Finding]:
    """Write a page and sync it, a few times, as the outbox does."""
    probe = data / f".doctor-{os.getpid()}"
    took: list[float] = []
    try:
        with probe.open("wb", buffering=0) as file:
            for _ in range(5):
                began = time.monotonic()
                file.write(bytes(4096))
                os.fsync(file.fileno())
                took.append(time.monotonic() - began)
    except OSError as error:
        yield broken("data folder", f"{data}: {error.strerror}", _remedy(error.errno, data))
        return
    finally:
        _removed(probe)
    typical = statistics.median(took)
    told = f"{data} can be written; one sync takes {typical * 1000:.1f} ms"
    if typical > SLOW_SYNC_S:
        yield warning(
            "data folder",
            told,
            "raise outbox.linger_ms so that more records share a sync, or use a faster card",
        )
    else:
        yield ok("data folder", told)


def _removed(probe: Path) -> None:
    try:
        probe.unlink(missing_ok=True)
    except OSError:
        return  # on a file system that is read-only it never came to be


def _remedy(number: int | None, data: Path) -> str:
    match number:
        case errno.EROFS:
            return (
                "the file system is read-only: look into dmesg (a failing card is mounted so), run"
                " fsck, then mount it again: mount -o remount,rw"
            )
        case errno.ENOSPC | errno.EDQUOT:
            return f"make room on the disk of {data}; the agent goes on by itself then"
        case errno.EACCES | errno.EPERM:
            return f"run the agent and this command as the owner of {data}"
        case _:
            return "look into dmesg: the disk may be failing"


def _room(patient: Patient) -> Iterator[Finding]:
    found = os.statvfs(patient.data)
    free = found.f_bavail * found.f_frsize
    outbox = patient.data / "outbox" / "outbox.db"
    held = outbox.stat().st_size if outbox.exists() else 0
    still = max(0, patient.settings.outbox.limits.budget_bytes - held)
    told = f"{_mb(free)} free; the outbox may still grow by {_mb(still)}"
    make_room = "make room, or lower outbox.limits.budget_bytes"
    if free < LEAST_BYTES:
        yield broken("disk space", told, f"{make_room}; without room records are lost (not_stored)")
    elif free < SPARE_BYTES + still:
        yield warning("disk space", told, make_room)
    else:
        yield ok("disk space", told)
    # Some file systems count no inodes and say 0 of 0.
    if found.f_files and found.f_favail < LEAST_INODES:
        yield warning(
            "inodes", f"{found.f_favail} left of {found.f_files}", "remove many small files"
        )


def _kind(data: Path) -> Iterator[Finding]:
    kind, options = mounted(data, Path("/proc/self/mountinfo").read_text())
    if "ro" in options:
        yield broken("file system", f"{data} is mounted read-only", _remedy(errno.EROFS, data))
    elif kind in _NETWORK:
        yield warning(
            "file system",
            f"{data} lies on {kind}",
            "SQLite's locks and syncs are not safe there; use a local disk",
        )
    elif kind in ("tmpfs", "ramfs"):
        yield warning(
            "file system",
            f"{data} lies in memory ({kind})",
            "records do not survive a power cut; use a disk, unless that is meant",
        )


def mounted(path: Path, mounts: str) -> tuple[str, frozenset[str]]:
    """Type and options of the file system under a path, from `/proc/self/mountinfo`."""
    best: tuple[int, str, frozenset[str]] = (-1, "", frozenset())
    whole = path.resolve()
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        fields, tail = left.split(), right.split()
        if len(fields) < 6 or not tail:
            continue
        place = Path(fields[4].replace("\\040", " "))
        if (whole == place or place in whole.parents) and len(place.parts) >= best[0]:
            best = (len(place.parts), tail[0], frozenset(fields[5].split(",")))
    return best[1], best[2]


def _wear(data: Path) -> Iterator[Finding]:
    device = data.stat().st_dev
    block = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    for folder in (block / "device", block / ".." / "device"):
        try:
            ages = [int(text, 16) for text in (folder / "life_time").read_text().split()]
        except (OSError, ValueError):
            continue
        worst = max(ages, default=0)
        told = f"the card has used about {worst * 10} % of its life"
        if worst >= WORN:
            yield warning(
                "wear", told, "replace it soon; limits.flash_bytes_per_day slows the rest"
            )
        else:
            yield ok("wear", told)
        return


def _mb(size: int) -> str:
    return f"{size / (1 << 20):.0f} MB"
