"""From parts to a package folder: two graphs with their files, a head, a certificate.

The same parts give the same bytes. Golden answers are computed here, by the runtime that will run
the files. Where the golden inputs come from a seed, it is the first at which none of them is a near
tie: which label wins a tie says nothing about another machine.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from models import package
from models.archive import Entry
from models.calibrate.certificate import Certificate
from models.calibrate.scores import confidence
from models.errors import FileMissing, PackageError, TargetUnwritable
from models.golden import write_samples
from models.manifest import (
    FORMAT,
    Edition,
    Golden,
    Manifest,
    OtherFile,
    Role,
    Said,
    TensorSpec,
    decode,
    encode,
)
from models.one_file import with_weights
from models.pipeline.declared import Form, Gives, Model, Pipeline, Steps
from models.pipeline.files import FileRef
from models.pipeline.heads import Classify, Detect, Head
from models.pipeline.ops.families import Step
from models.pipeline.values import Array
from models.predict import Prediction, Predictor
from models.runtimes.wish import AS_DECLARED, Precision, Provider, Runs

TOLERANCE = 0.01
_MARGIN = 0.05
_SEEDS = range(1, 501)


class Half(Struct, frozen=True):
    """One pipeline and its files. The graph names files; `files` says what they hold."""

    pipeline: Pipeline
    files: tuple[Entry, ...]


class Drawn(Struct, frozen=True):
    """Golden inputs drawn from a seed, with values in low..high."""

    low: float
    high: float
    count: int = 8


class Chosen(Struct, frozen=True):
    """Golden inputs somebody chose: encoded pictures or sounds, texts, JSON records."""

    samples: tuple[bytes, ...]


class EditionParts(Struct, frozen=True):
    """An edition before its golden answers."""

    name: str
    runtime: str
    certificate: Certificate
    provider: Provider = "cpu"
    precision: Precision = "f32"
    files: tuple[OtherFile, ...] = ()
    entries: tuple[Entry, ...] = ()
    """What `files` hold."""


class Parts(Struct, frozen=True):
    """All a package is made of, except its version."""

    name: str
    task: str
    given: TensorSpec
    answer: Head
    edge: Half
    cloud: Half
    certificate: Certificate
    golden: Drawn | Chosen
    figures: Path | None = None
    others: tuple[Entry, ...] = ()
    """Files the head names."""
    editions: tuple[EditionParts, ...] = ()


def one_model(
    given: TensorSpec,
    steps: tuple[Step, ...],
    file: Path,
    *,
    gives: Gives,
    role: Role,
    form: Form = "onnx",
) -> Half:
    """The commonest graph: steps on the input, then one model.

    Raises `FileMissing`, and `RuntimeFailed` for an ONNX file whose weights are not beside it.
    """
    data = content(file)
    if form == "onnx":
        data = with_weights(file, data)
    entry = Entry(f"{role.value}.{'onnx' if form == 'onnx' else 'json'}", data)
    model = Model("model", ("prepare",), file_ref(entry), (gives,), form)
    return Half(Pipeline((Steps("prepare", given.name, steps), model), "model"), (entry,))


def build(parts: Parts, version: str, into: Path) -> Path:
    """Make the new package folder `into` and return it.

    Raises `TargetExists`, `TargetUnwritable`, `FileMissing`, `ManifestInvalid`, `RuntimeFailed`;
    `RuntimeMissing` where an edition's runtime is not here to answer the golden inputs.
    """
    figures = () if parts.figures is None else (Entry("figures.json", content(parts.figures)),)
    samples = _samples(parts.golden)
    golden = _no_answers(parts.golden, samples)
    draft = Manifest(
        format=FORMAT,
        name=parts.name,
        version=version,
        task=parts.task,
        input=parts.given,
        answer=parts.answer,
        edge=parts.edge.pipeline,
        cloud=parts.cloud.pipeline,
        certificate=parts.certificate,
        golden=golden,
        figures=file_ref(figures[0]) if figures else None,
        editions=tuple(_edition(one, golden) for one in parts.editions),
    )
    draft = decode(encode(draft))  # What cannot be read is refused before anything runs.
    of_editions = [entry for one in parts.editions for entry in one.entries]
    entries = dict.fromkeys(
        (*parts.edge.files, *parts.cloud.files, *figures, *samples, *parts.others, *of_editions)
    )
    write(_answered(draft, tuple(entries)), tuple(entries), into)
    return into


def write(manifest: Manifest, files: Sequence[Entry], into: Path, *, over: bool = False) -> None:
    """Write a package folder in one step, and none that could not be read.

    Raises `TargetExists`, `TargetUnwritable`, `ManifestInvalid`.
    """
    data = encode(manifest)
    decode(data)
    try:
        package.write_folder(into, [Entry(package.MANIFEST, data), *files], replace=over)
    except OSError as error:
        raise TargetUnwritable(
            f"{into} cannot be written: {error.strerror}; choose a folder on a disk that has room"
            " and lets you write"
        ) from error


def answer_golden(manifest: Manifest, folder: Path, on: Runs = AS_DECLARED) -> Golden:
    """The golden answers of a package folder that has all its files.

    The edge half answers on what its certificate was made on.
    """
    halves = {Role.EDGE: on, Role.CLOUD: AS_DECLARED}
    said = {
        role: _said(_answers(_predictor(manifest, folder, role, runs), manifest.golden))
        for role, runs in halves.items()
        if all((folder / ref.path).exists() for ref in manifest.pipeline(role).files)
    }
    return replace(
        manifest.golden,
        edge=said[Role.EDGE],
        cloud=said.get(Role.CLOUD, manifest.golden.cloud),
    )


def answer_edition(manifest: Manifest, folder: Path, name: str) -> Edition:
    """One edition with the golden answers it gives on what it is made to run on.

    Raises `UnknownEdition`, `RuntimeMissing`, `RuntimeFailed`.
    """
    edition, alone = manifest.edition(name), manifest.as_edition(name)
    predictor = _predictor(alone, folder, Role.EDGE, edition.runs)
    return replace(edition, golden=_said(_answers(predictor, alone.golden)))


def file_ref(entry: Entry) -> FileRef:
    return FileRef(entry.name, package.digest(entry.data), len(entry.data))


def content(path: Path) -> bytes:
    """What a file holds. Raises `FileMissing`."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileMissing(
            f"{path} cannot be read: {error.strerror}; check the path, or make the file first"
        ) from error


def _samples(golden: Drawn | Chosen) -> tuple[Entry, ...]:
    match golden:
        case Drawn():
            return ()
        case Chosen(samples):
            return (Entry("golden.msgpack", write_samples(samples)),)


def _no_answers(golden: Drawn | Chosen, samples: tuple[Entry, ...]) -> Golden:
    match golden:
        case Drawn(low, high, count):
            nothing = (Said("", None),) * count
            return Golden(0, count, low, high, nothing, nothing, TOLERANCE)
        case Chosen(chosen):
            nothing = (Said("", None),) * len(chosen)
            ref = file_ref(samples[0])
            return Golden(0, len(chosen), 0.0, 1.0, nothing, nothing, TOLERANCE, ref)


class _Both(NamedTuple):
    edge: tuple[Prediction, ...]
    cloud: tuple[Prediction, ...]


def _edition(parts: EditionParts, golden: Golden) -> Edition:
    return Edition(
        name=parts.name,
        runtime=parts.runtime,
        provider=parts.provider,
        precision=parts.precision,
        certificate=parts.certificate,
        golden=golden.edge,  # nothing yet
        files=parts.files,
    )


def _answered(draft: Manifest, files: tuple[Entry, ...]) -> Manifest:
    """The manifest with all golden answers."""
    with tempfile.TemporaryDirectory(prefix="longstop-build.") as temporary:
        folder = Path(temporary)
        for entry in files:
            (folder / entry.name).write_bytes(entry.data)
        whole = replace(draft, golden=_golden(draft, folder))
        names = [one.name for one in draft.editions]
        return replace(whole, editions=tuple(answer_edition(whole, folder, one) for one in names))


def _golden(draft: Manifest, folder: Path) -> Golden:
    """Golden answers; where inputs are drawn, from the first seed that leaves no doubt."""
    predictors = {role: _predictor(draft, folder, role) for role in Role}
    seeds = _SEEDS if draft.golden.samples is None else (0,)
    for seed in seeds:
        golden = replace(draft.golden, seed=seed)
        both = _Both(*(_answers(predictors[role], golden) for role in Role))
        if draft.golden.samples is not None or (
            _clear(draft.answer, both.edge, draft.certificate.temperature)
            and _clear(draft.answer, both.cloud, 1.0)
        ):
            return replace(golden, edge=_said(both.edge), cloud=_said(both.cloud))
    raise PackageError(
        f"{draft.task}: none of {len(_SEEDS)} seeds gives {draft.golden.count} golden inputs that "
        "both halves answer clearly; check that the models answer at all, or ask for fewer inputs"
    )


def _predictor(manifest: Manifest, folder: Path, role: Role, on: Runs = AS_DECLARED) -> Predictor:
    # Whoever builds a package runs their own code in it.
    return Predictor.load(
        package.Package(manifest, folder, role, manifest_sha256=""),
        runtime=on.runtime,
        provider=on.provider,
        precision=on.precision,
        allow_custom=True,
    )


def _answers(predictor: Predictor, golden: Golden) -> tuple[Prediction, ...]:
    return predictor.predict_batch(predictor.golden_samples(golden))


def _clear(head: Head, answers: Sequence[Prediction], temperature: float) -> bool:
    """Whether every answer has a confidence and is far from the next one."""
    if any(one.confidence is None for one in answers):
        return False
    match head:
        case Classify():
            return all(_clear_winner(one.output, temperature) for one in answers)
        case Detect(threshold=threshold):
            scores = np.concatenate([one.output[:, 4] for one in answers])
            return bool((np.abs(scores - threshold) > _MARGIN).all())
        case _:
            return True


def _clear_winner(logits: Array, temperature: float) -> bool:
    top = confidence(logits[None], temperature)[0]
    ordered = np.sort(logits.astype(np.float64))
    return bool(top * (1 - np.exp((ordered[-2] - ordered[-1]) / temperature)) > _MARGIN)


def _said(answers: Sequence[Prediction]) -> tuple[Said, ...]:
    return tuple(Said(one.label, one.confidence) for one in answers)
