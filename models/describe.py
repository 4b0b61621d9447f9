"""A package as a person wants to read it, and the same facts for a script."""

from pathlib import Path
from textwrap import fill
from typing import assert_never

from msgspec import Struct
from msgspec.structs import fields

from models import package
from models.calibrate.certificate import Certificate
from models.manifest import Edition, Manifest, Role
from models.pipeline.declared import Model, Node, Steps
from models.pipeline.files import FileRef
from models.pipeline.heads import Anomaly, Classify, Detect, Head, Regress, Search
from models.pipeline.plan import needs, plan

_SHOWN_APART = frozenset(
    ("id", "after", "boxes", "scores", "image", "logits", "on", "then", "otherwise", "key")
)


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
    halves = {role: manifest.files(role) for role in Role}
    files = [
        _state(folder, ref, "both" if all(ref in refs for refs in halves.values()) else half)
        for ref, half in {ref: role.value for role, refs in halves.items() for ref in refs}.items()
    ]
    sha256 = package.digest((folder / package.MANIFEST).read_bytes())
    return Description(manifest, sha256, tuple(files), promise(manifest.certificate))


_PROMISED = {
    "excess": "the system is wrong at most {eps} points more often than the cloud alone",
    "harm": (
        "of all inputs, at most {eps} % are answered on the device wrongly where the cloud would"
        " have been right"
    ),
    "teacher": (
        "of all inputs, at most {eps} % are answered on the device otherwise than by the cloud"
    ),
    "selective": "of the inputs answered on the device, at most {eps} % are answered wrongly",
}


def promise(certificate: Certificate) -> str:
    """The threshold and what it promises, in plain sentences."""
    if certificate.threshold is None:
        rule = "Every input goes to the cloud."
    else:
        rule = f"Inputs with a score below {certificate.threshold:.4f} go to the cloud."
    if not certificate.feasible:
        return f"{rule} This keeps no promise: {certificate.note or certificate.method}."
    what = _PROMISED[certificate.promise].format(eps=f"{100 * certificate.eps:g}")
    sure = (
        f"in at least {100 * (1 - certificate.delta):g} of 100 calibrations"
        if certificate.guarantee == "high-probability"
        else "on average over calibrations, and about half of them break it"
    )
    seen = "" if certificate.k is None else f"{certificate.k} such cases in "
    # A marginal promise is about many calibrations: it has no limit for this one.
    limit = (
        ""
        if certificate.upper_bound is None
        else f", upper limit {100 * certificate.upper_bound:.2f} %"
    )
    return (
        f"{rule} Promise: {what}. The rule behind it keeps this {sure}; this one saw {seen}"
        f"{certificate.n:,} {_counted(certificate)}{limit}."
    )


def _counted(certificate: Certificate) -> str:
    return "groups" if certificate.groups == certificate.n else "held-out samples"


def certificate_text(certificate: Certificate) -> str:
    """A certificate as lines for a terminal."""
    lines = [
        fill(promise(certificate), 94, initial_indent="  ", subsequent_indent="  "),
        (
            f"  Score {certificate.score}, temperature {certificate.temperature:.4f}; "
            f"{certificate.method}."
        ),
    ]
    if certificate.local is not None:
        lines.append(f"  {100 * (1 - certificate.local):.1f} % of the samples go to the cloud.")
    if certificate.needed_n is not None:
        lines.append(f"  About {certificate.needed_n:,} {_counted(certificate)} would do.")
    if certificate.feasible and certificate.note:
        lines.append(fill(f"{certificate.note}.", 94, initial_indent="  ", subsequent_indent="  "))
    if certificate.bound is not None:
        bound = certificate.bound
        lines.append(f"  Made on {bound.runtime} ({bound.provider}, {bound.precision}).")
    return "\n".join(lines)


def to_text(description: Description) -> str:
    """The description as lines for a terminal."""
    manifest = description.manifest
    lines = [
        f"{manifest.name} {manifest.version}, task {manifest.task}, format {manifest.format}",
        f"  manifest   {description.manifest_sha256}",
        f"  input      {_input(manifest)}",
        f"  answer     {_answer(manifest.answer)}",
    ]
    for role in Role:
        lines += ["", f"{role.value.capitalize()} pipeline", *_graph(manifest, role)]
    lines += [
        "",
        "Files",
        *(
            f"  {file.path:<16} {file.half:<6} {file.size:>9,} bytes  {file.sha256[:16]}…"
            f"  {file.state}"
            for file in description.files
        ),
    ]
    certificate, golden = manifest.certificate, manifest.golden
    source = "from a file" if golden.samples else f"made from seed {golden.seed}"
    lines += [
        "",
        f"Certificate {certificate.id}",
        certificate_text(certificate),
        *(line for edition in manifest.editions for line in _edition(edition)),
        "",
        f"Golden inputs: {golden.count}, {source}; another machine may differ",
        f"  by {golden.tolerance:g} in confidence and in no label.",
    ]
    return "\n".join(lines)


def _edition(edition: Edition) -> list[str]:
    files = ", ".join(f"{one.model} is {one.file.path}" for one in edition.files)
    where = f"{edition.runtime} ({edition.provider}, {edition.precision})"
    return [
        "",
        f"Edition {edition.name} on {where}, {files or 'the same files'}",
        f"  Certificate {edition.certificate.id}",
        certificate_text(edition.certificate),
    ]


def _input(manifest: Manifest) -> str:
    given = manifest.input
    return f"{given.name}: {given.kind.words()}{f' ({given.layout})' if given.layout else ''}"


def _answer(head: Head) -> str:
    match head:
        case Classify(labels):
            return f"one of {len(labels)}: {', '.join(labels)}"
        case Detect(labels, threshold):
            return f"objects scored {threshold:g} and more: {', '.join(labels)}"
        case Regress():
            unit = f" in {head.unit}" if head.unit else ""
            return f"a number{unit}, right within {head.tolerance:g}"
        case Anomaly():
            return (
                f"an alarm when {head.needed} of {head.of} scores in a row reach {head.threshold:g}"
            )
        case Search(labels):
            return f"the nearest of {len(labels)} references"
        case _:
            assert_never(head)


def _graph(manifest: Manifest, role: Role) -> list[str]:
    """One line a node: name, what it gives, what it does to what."""
    pipeline = manifest.pipeline(role)
    found = plan(pipeline, manifest.input.name, manifest.input.kind)
    lines = []
    for node in found.order:
        from_ = ", ".join(needs(node))
        lines.append(f"  {node.id:<10} {from_} -> {found.kind_of(node.id).words()}")
        lines += [
            fill(words, 94, initial_indent=" " * 13, subsequent_indent=" " * 15)
            for words in _doing(node)
        ]
    return lines


def _doing(node: Node) -> list[str]:
    match node:
        case Steps():
            return [_fields(step) for step in node.steps] or ["as it comes"]
        case Model():
            return [f"model {node.file.path} ({node.form})"]
        case _:
            return [_fields(node)]


def _fields(value: Struct) -> str:
    """A declared step or node by its tag and what is not at its default."""
    config = value.__struct_config__
    said = []
    for field in fields(value):
        held = getattr(value, field.name)
        if field.name not in _SHOWN_APART and held != field.default:
            said.append(f"{field.name} {_word(held)}")
    return " ".join([str(config.tag), ", ".join(said)]).strip()


def _word(held: object) -> str:
    if isinstance(held, tuple):
        return " ".join(map(_word, held))
    if isinstance(held, FileRef):
        return held.path
    if isinstance(held, Struct):
        return f"({_fields(held)})"
    return f"{held:.4g}" if isinstance(held, float) else str(held)


def _state(folder: Path, ref: FileRef, half: str) -> FileState:
    try:
        data = (folder / ref.path).read_bytes()
    except OSError:
        state = "absent"
    else:
        state = "whole" if package.digest(data) == ref.sha256 else "altered"
    return FileState(ref.path, half, ref.size, ref.sha256, state)
