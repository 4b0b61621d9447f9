"""A package as a person wants to read it, and the same facts for a script."""

from pathlib import Path
from textwrap import fill

from msgspec import Struct

from models import package
from models.manifest import Decision, Manifest, Role, TensorSpec
from models.pipeline.declared import Cast, FileRef, Normalise, Reshape, Scale, Step, Transpose


class FileState(Struct, frozen=True):
    """One file the manifest names."""

    path: str
    half: str
    """`edge`, `cloud` or `both`."""
    size: int
    sha256: str
    state: str
    """`whole`, `absent` (an archive holds one half) or `altered`."""


class Description(Struct, frozen=True):
    """What `inspect` prints."""

    manifest: Manifest
    manifest_sha256: str
    files: tuple[FileState, ...]
    promise: str


def describe(folder: Path, manifest: Manifest) -> Description:
    """Facts about the package in a folder; a damaged file is a fact here, not an error."""
    files = [_state(folder, manifest.pipeline(role).model.file, role.value) for role in Role]
    if manifest.figures is not None:
        files.append(_state(folder, manifest.figures, "both"))
    sha256 = package.digest((folder / package.MANIFEST).read_bytes())
    return Description(manifest, sha256, tuple(files), promise(manifest.decision))


def promise(decision: Decision) -> str:
    """The threshold and what it promises, in plain sentences."""
    if decision.threshold is None:
        rule = "Every input goes to the cloud."
    else:
        rule = f"Inputs with a confidence below {decision.threshold:.4f} go to the cloud."
    if not decision.feasible or decision.k is None or decision.upper_bound is None:
        return f"{rule} This keeps no promise: {decision.note or decision.method}."
    return (
        f"{rule} Promise: of all inputs, at most {100 * decision.eps:g} % are answered on the "
        "device wrongly where the cloud would have been right. The rule behind it keeps this in at "
        f"least {100 * (1 - decision.delta):g} of 100 calibrations; this one saw {decision.k} such "
        f"cases in {decision.n:,} held-out samples, upper limit {100 * decision.upper_bound:.2f} %."
    )


def to_text(description: Description) -> str:
    """The description as lines for a terminal."""
    manifest = description.manifest
    (given,) = manifest.inputs
    lines = [
        f"{manifest.name} {manifest.version}, task {manifest.task}, format {manifest.format}",
        f"  manifest   {description.manifest_sha256}",
        f"  input      {_tensor(given)}",
        f"  prepared   {_steps(manifest.edge.prepare.steps)}",
    ]
    if manifest.cloud.prepare.steps != manifest.edge.prepare.steps:
        lines.append(f"  cloud      {_steps(manifest.cloud.prepare.steps)}")
    lines += [
        f"  output     one of {len(manifest.labels)}: {', '.join(manifest.labels)}",
        "",
        "Files",
    ]
    lines += [
        f"  {file.path:<14} {file.half:<6} {file.size:>9,} bytes  {file.sha256[:16]}…  {file.state}"
        for file in description.files
    ]
    golden = manifest.golden
    lines += [
        "",
        "Threshold",
        fill(description.promise, 94, initial_indent="  ", subsequent_indent="  "),
        f"  Temperature {manifest.decision.temperature:.4f}; {manifest.decision.method}.",
        *([f"  {manifest.decision.note}."] if manifest.decision.feasible else []),
        "",
        f"Golden inputs: {golden.count}, made from seed {golden.seed}; another machine may differ",
        f"  by {golden.tolerance:g} in confidence and in no label.",
    ]
    return "\n".join(lines)


def _state(folder: Path, ref: FileRef, half: str) -> FileState:
    try:
        data = (folder / ref.path).read_bytes()
    except OSError:
        state = "absent"
    else:
        state = "whole" if package.digest(data) == ref.sha256 else "altered"
    return FileState(ref.path, half, ref.size, ref.sha256, state)


def _tensor(spec: TensorSpec) -> str:
    return f"{spec.name}: {spec.dtype} {list(spec.shape)} ({spec.layout})"


def _steps(steps: tuple[Step, ...]) -> str:
    return ", then ".join(_step(step) for step in steps) or "as it comes"


def _step(step: Step) -> str:
    match step:
        case Cast(dtype):
            return f"cast to {dtype}"
        case Scale(by):
            return f"scale by {_numbers(by)}"
        case Normalise(mean, std):
            return f"normalise with mean {_numbers(mean)} and deviation {_numbers(std)}"
        case Transpose(axes):
            return f"transpose to axes {list(axes)}"
        case Reshape(shape):
            return f"reshape to {list(shape)}"


def _numbers(numbers: tuple[float, ...]) -> str:
    return ", ".join(f"{number:.4g}" for number in numbers)
