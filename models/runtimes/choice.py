"""The choice among candidates, kept on the device until something it rests on changes.

1. Only a candidate whose answers passed the caller's check may win.
2. Candidates come in the caller's order of preference: a later one wins only by being faster than
   every earlier one by more than `margin`. Equal speed is no reason to leave what was certified.
3. A choice holds for these candidates with these contents, these versions of the runtimes and this
   processor. When one of them changes, or the file cannot be read, everything is measured again.
4. A folder that cannot be written costs a measurement at the next start, nothing else.
5. That none is fit is a choice as well, and kept: it is not found out anew at every start.
"""

import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

import msgspec
from msgspec import Struct

from models.errors import NoCandidate, RuntimeFailed
from models.runtimes import onnx_file
from models.runtimes.artefacts import key_of
from models.runtimes.base import Array
from models.runtimes.measure import Candidate, Check, Measured, measure, words

FILE = "choice.json"
MARGIN = 0.05
_LIBRARIES = {
    "onnx": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml"),
    "openvino": ("openvino",),
}
"""Distributions any of which is a runtime's library: asked for their version without an import."""
_log = logging.getLogger(__name__)


class Choice(Struct, frozen=True, forbid_unknown_fields=True):
    """Which candidate, and why."""

    key: str
    at: int
    """The winner's place among the candidates; -1 when none was fit."""
    reason: str
    measured: tuple[Measured, ...]


def stored(candidates: Sequence[Candidate], folder: Path) -> Choice | None:
    """The choice kept in `folder`, if there is one and it still holds. Raises `NoCandidate`.

    It is not checked again: who loads a package compares its golden outputs anyway.
    """
    return _held(_read(folder / FILE), _key(candidates), len(candidates))


def choose(
    candidates: Sequence[Candidate],
    feeds: Sequence[Array],
    *,
    check: Check,
    folder: Path,
    margin: float = MARGIN,
    seconds: float = 3.0,
    limit_s: float | None = None,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> Choice:
    """The stored choice if it still holds, else a new one, stored in `folder`.

    `candidates[choice.at].open(cache=…)` opens the winner. Raises `NoCandidate`.
    """
    key = _key(candidates)
    if kept := _held(_read(folder / FILE), key, len(candidates)):
        return kept
    found = measure(
        candidates, feeds, check=check, seconds=seconds, limit_s=limit_s, clock_ns=clock_ns
    )
    try:
        winner, reason = best(found, margin=margin)
    except NoCandidate as error:
        _write(folder / FILE, Choice(key, -1, str(error), found))
        raise
    choice = Choice(key, winner.at, reason, found)
    _log.info("runtime.chosen %s", reason)
    _write(folder / FILE, choice)
    return choice


def keep_first(candidates: Sequence[Candidate], folder: Path, why: str) -> None:
    """Keep the first candidate as the choice where nothing could be measured, unless one is kept.

    It holds as long as a measured one would.
    """
    key = _key(candidates)
    kept = _read(folder / FILE)
    if kept is None or kept.key != key:
        reason = f"{words(candidates[0])}: nothing was measured, {why}"
        _write(folder / FILE, Choice(key, 0, reason, ()))


def best(found: Sequence[Measured], *, margin: float = MARGIN) -> tuple[Measured, str]:
    """The winner and the reason. Raises `NoCandidate`."""
    fit = [(each, each.run_us) for each in found if each.run_us is not None]
    unfit = "; ".join(f"{each.words} is unfit: {each.unfit}" for each in found if each.unfit)
    if not fit:
        raise NoCandidate(f"no candidate is fit here ({unfit or 'there is none'}); build it again")
    winner, least = fit[0]
    for each, run_us in fit[1:]:
        if run_us < least * (1 - margin):
            winner, least = each, run_us
    reason = f"{winner.words}: {least:.1f} us"
    others = ", ".join(f"{each.words} {us:.1f} us" for each, us in fit if each is not winner)
    if others:
        reason += f" against {others}"
        if min(us for _, us in fit) < least:
            reason += f"; within {margin:.0%} the one named first stays"
    return winner, f"{reason}; {unfit}" if unfit else reason


def _key(candidates: Sequence[Candidate]) -> str:
    return key_of("choice", 1, *(fact for each in candidates for fact in _facts(each)))


def _held(choice: Choice | None, key: str, count: int) -> Choice | None:
    if choice is None or choice.key != key or not -1 <= choice.at < count:
        return None
    if choice.at < 0:
        raise NoCandidate(choice.reason)
    return choice


def _facts(candidate: Candidate) -> tuple[object, ...]:
    """All that a candidate's figures rest on, except the processor."""
    options = (candidate.threads, candidate.provider, candidate.precision)
    return (candidate.file.name, _content(candidate), *_version(candidate.runtime), *options)


def _content(candidate: Candidate) -> str:
    try:
        if candidate.runtime == "twin":
            return hashlib.sha256(candidate.file.read_bytes()).hexdigest()
        return onnx_file.read(candidate.file).sha256()
    except (OSError, RuntimeFailed) as error:
        return str(error)  # it will be unfit; when it is repaired, the key changes


def _version(runtime: str) -> tuple[str, str]:
    for distribution in _LIBRARIES.get(runtime, ()):
        with contextlib.suppress(metadata.PackageNotFoundError):
            return runtime, f"{distribution} {metadata.version(distribution)}"
    return runtime, ""


def _read(file: Path) -> Choice | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Choice)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        _log.warning("choice.unreadable file=%s error=%s", file, error)
        return None


def _write(file: Path, choice: Choice) -> None:
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(msgspec.json.format(msgspec.json.encode(choice), indent=2))
        part.replace(file)
    except OSError as error:
        _log.warning("choice.not_kept file=%s error=%s", file, error)
