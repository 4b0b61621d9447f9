"""A package declared in TOML: the user's own files, the graphs around them, what the answer means.

    task = "parcels"

    [input]
    name = "image"
    dtype = "bytes"

    [answer]
    kind = "classify"
    labels = ["box", "tube", "bag"]

    [edge]
    steps = [
      {op = "decode_image"}, {op = "resize", height = 96, width = 96},
      {op = "cast", dtype = "float32"}, {op = "scale", by = [0.00392156862745098]},
      {op = "transpose", axes = [2, 0, 1]},
    ]
    model = "small.onnx"

    [cloud]
    model = "large.onnx"

    [golden]
    samples = ["golden/box.jpg", "golden/tube.jpg"]

A half is `steps` and one `model`, as here, or a graph: `output` and a list of `nodes`, each as the
manifest declares it, with a path where the manifest has a file. `cloud` without steps takes those
of `edge`. `estimator` in place of `model` names a scikit-learn pipeline saved by joblib. Paths are
relative to the recipe. Unknown keys are refused with their place.

    [[edition]]
    name = "openvino"
    runtime = "openvino"
    model = "small-fp32.onnx"

An `[[edition]]` is another way to run the edge half: on another runtime, with another `model`, or
with other `models` by the name of their node. It is certified beside the main one.

The package is not calibrated yet: every input is hard until `longstop-models calibrate`.
"""

import re
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, UnsetType
from msgspec.structs import replace

from models.archive import Entry
from models.build import Chosen, Drawn, EditionParts, Half, Parts, content, file_ref
from models.calibrate.by_hand import by_hand
from models.errors import FileMissing, RecipeInvalid
from models.manifest import Name, OtherFile, Role, TensorSpec, Version
from models.one_file import with_weights
from models.pipeline.declared import Custom, Model, Pipeline, Tokenise
from models.pipeline.files import FileRef
from models.pipeline.heads import Head
from models.pipeline.kinds import RAW
from models.runtimes.choose import RUNTIMES, open_model
from models.runtimes.wish import Precision, Provider

Table = dict[str, Any]
"""A table as TOML gives it, before it is converted."""
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,89}")
"""As `files.FileName`, with room for `cloud-` in front."""


class GoldenRecipe(Struct, frozen=True, forbid_unknown_fields=True):
    """Golden inputs: drawn between `low` and `high`, or the files (or texts) of `samples`."""

    low: float = 0.0
    high: float = 1.0
    count: int = 8
    samples: tuple[str, ...] = ()


class EditionRecipe(Struct, frozen=True, forbid_unknown_fields=True):
    """Another way to run the edge half."""

    name: Name
    runtime: str = "onnx"
    provider: Provider = "cpu"
    precision: Precision = "f32"
    model: str | UnsetType = msgspec.UNSET
    """Where the edge half has one model."""
    models: dict[str, str] = {}


class Recipe(Struct, frozen=True, forbid_unknown_fields=True):
    """The file, its halves still as written."""

    task: Name
    input: TensorSpec
    answer: Table
    edge: Table
    cloud: Table
    name: Name | UnsetType = msgspec.UNSET
    version: Version = "1"
    golden: GoldenRecipe = GoldenRecipe()
    figures: str | UnsetType = msgspec.UNSET
    edition: tuple[EditionRecipe, ...] = ()


class Read(Struct, frozen=True):
    """A recipe with its files."""

    parts: Parts
    version: str


def read_recipe(path: Path) -> Read:
    """The parts a recipe declares.

    Raises `FileMissing`, `RecipeInvalid`, `RuntimeFailed`, and `EstimatorUnreadable` or
    `EstimatorUnsupported` for what `estimator` names.
    """
    try:
        recipe = msgspec.convert(tomllib.loads(path.read_text()), Recipe)
    except OSError as error:
        raise FileMissing(f"{path} cannot be read: {error.strerror}; check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise RecipeInvalid(f"{path.name}: {error}; correct the recipe") from error
    both = _Shelf(path.parent, "answer")
    edge = _half(path.parent, recipe, Role.EDGE)
    parts = Parts(
        name=recipe.task if recipe.name is msgspec.UNSET else recipe.name,
        task=recipe.task,
        given=recipe.input,
        answer=_head(both, recipe),
        edge=edge,
        cloud=_half(path.parent, recipe, Role.CLOUD),
        certificate=by_hand(note="not calibrated yet"),
        golden=_golden(path.parent, recipe),
        figures=None if recipe.figures is msgspec.UNSET else path.parent / recipe.figures,
        others=both.taken,
        editions=tuple(_edition(path.parent, one, edge) for one in recipe.edition),
    )
    return Read(_apart(parts), recipe.version)


def _head(shelf: "_Shelf", recipe: Recipe) -> Head:
    table = dict(recipe.answer)
    if "reference" in table:
        table["reference"] = msgspec.to_builtins(shelf.take(table["reference"]))
    try:
        head: Head = msgspec.convert(table, Head)
    except msgspec.ValidationError as error:
        raise RecipeInvalid(f"answer: {error}; correct the recipe") from error
    return head


def _half(folder: Path, recipe: Recipe, role: Role) -> Half:
    """One half as written, or its short form written out."""
    table = recipe.edge if role is Role.EDGE else recipe.cloud
    if "nodes" not in table:
        table = _written_out(table, recipe, role)
    elif not isinstance(table["nodes"], list):
        raise RecipeInvalid(f"{role.value}.nodes is a list of tables, [[{role.value}.nodes]]")
    shelf = _Shelf(folder, role.value)
    pipeline = shelf.pipeline(table)
    return Half(pipeline, shelf.taken)


def _written_out(table: Table, recipe: Recipe, role: Role) -> Table:
    if unknown := sorted(table.keys() - {"steps", "model", "estimator"}):
        raise RecipeInvalid(
            f"{role.value} has {', '.join(unknown)}, which a half is not made of; write steps and "
            "model (or estimator), or nodes and output"
        )
    if ("model" in table) == ("estimator" in table):
        raise RecipeInvalid(
            f"{role.value} names {'a model and an' if 'model' in table else 'neither model nor'} "
            f"estimator; write one of the two, or nodes and output"
        )
    steps = table.get("steps", recipe.edge.get("steps", []))
    prepare = {"kind": "steps", "id": "prepare", "after": recipe.input.name, "steps": steps}
    file = {"file": table["model"]} if "model" in table else {}
    estimator = {"estimator": table["estimator"]} if "estimator" in table else {}
    model = {"kind": "model", "id": "model", "after": "prepare", **file, **estimator}
    return {"nodes": [prepare, model], "output": "model"}


def _edition(folder: Path, recipe: EditionRecipe, edge: Half) -> EditionParts:
    where = f"edition {recipe.name}"
    named = dict(recipe.models)
    if recipe.runtime not in RUNTIMES:
        raise RecipeInvalid(
            f"{where}: runtime {recipe.runtime!r} is unknown; choose one of {', '.join(RUNTIMES)}"
        )
    if recipe.model is not msgspec.UNSET:
        models = [node.id for node in edge.pipeline.models]
        if len(models) != 1 or named:
            raise RecipeInvalid(
                f"{where}: the edge half has {len(models)} models; name each file by its node, as "
                "in models = {model = ...}"
            )
        named = {models[0]: recipe.model}
    shelf = _Shelf(folder, where)
    held = {entry.name: entry.data for entry in edge.files}
    files = []
    for node, file in named.items():
        ref = shelf.take(file, is_onnx=True)
        if held.get(ref.path) not in (None, shelf.data(ref)):
            raise RecipeInvalid(
                f"{where}: the edge half has another file called {ref.path!r}; rename one, a "
                "package has no folders"
            )
        files.append(OtherFile(node, ref))
    return EditionParts(
        recipe.name,
        recipe.runtime,
        by_hand(note="not calibrated yet"),
        recipe.provider,
        recipe.precision,
        tuple(files),
        shelf.taken,
    )


def _golden(folder: Path, recipe: Recipe) -> Drawn | Chosen:
    golden = recipe.golden
    if recipe.input.dtype not in RAW and not golden.samples:
        return Drawn(golden.low, golden.high, golden.count)
    if not golden.samples:
        raise RecipeInvalid(
            f"golden.samples is missing: golden inputs of {recipe.input.dtype} cannot be drawn; "
            "name a few files, or write a few texts or JSON records"
        )
    if recipe.input.dtype in ("text", "record"):
        return Chosen(tuple(sample.encode() for sample in golden.samples))
    return Chosen(tuple(content(folder / sample) for sample in golden.samples))


def _apart(parts: Parts) -> Parts:
    """Files of the two halves that share a name and not their bytes, told apart."""
    of_editions = (entry for edition in parts.editions for entry in edition.entries)
    edge = {entry.name: entry.data for entry in (*parts.edge.files, *of_editions)}
    clash = {
        entry.name for entry in parts.cloud.files if edge.get(entry.name, entry.data) != entry.data
    }
    if not clash:
        return parts
    names = {name: f"cloud-{name}" for name in clash}
    files = tuple(
        Entry(names.get(entry.name, entry.name), entry.data) for entry in parts.cloud.files
    )
    nodes = tuple(
        replace(node, file=replace(node.file, path=names.get(node.file.path, node.file.path)))
        if isinstance(node, Model | Tokenise | Custom)
        else node
        for node in parts.cloud.pipeline.nodes
    )
    return replace(parts, cloud=Half(replace(parts.cloud.pipeline, nodes=nodes), files))


class _Shelf:
    """The files one half names, and tables with those names resolved."""

    def __init__(self, folder: Path, half: str) -> None:
        self._folder = folder
        self._half = half
        self._entries: dict[str, Entry] = {}

    @property
    def taken(self) -> tuple[Entry, ...]:
        return tuple(self._entries.values())

    def data(self, ref: FileRef) -> bytes:
        return self._entries[ref.path].data

    def pipeline(self, table: Table) -> Pipeline:
        """A half as a manifest declares it. Raises `RecipeInvalid` with the place."""
        nodes = [self._node(node) for node in table["nodes"]]
        try:
            return msgspec.convert({**table, "nodes": nodes}, Pipeline)
        except msgspec.ValidationError as error:
            raise RecipeInvalid(f"{self._half}: {error}; correct the recipe") from error

    def _node(self, table: object) -> Table:
        """One node as a manifest declares it. Raises `RecipeInvalid`, `FileMissing`."""
        if not isinstance(table, dict):
            raise RecipeInvalid(f"{self._half}: a node is a table, not {table!r}")
        node: Table = dict(table)
        if "estimator" in node and "file" in node:
            raise RecipeInvalid(f"{self._half}: node {_id(node)} has a file and an estimator")
        if "estimator" in node:
            entry = self._exported(node.pop("estimator"))
            node["file"] = msgspec.to_builtins(self._put(entry))
        elif "file" in node:
            is_onnx = node.get("kind") == "model" and node.get("form", "onnx") == "onnx"
            node["file"] = msgspec.to_builtins(self.take(node["file"], is_onnx=is_onnx))
        if node.get("kind") != "model":
            return node
        if isinstance(node.get("after"), str):
            node["after"] = [node["after"]]
        if "gives" not in node and "file" in node:
            node["gives"] = self._outputs(node)
        return node

    def take(self, named: object, *, is_onnx: bool = False) -> FileRef:
        if not isinstance(named, str):
            raise RecipeInvalid(f"{self._half}: a file is named by its path, not {named!r}")
        path = self._folder / named
        data = content(path)
        return self._put(Entry(path.name, with_weights(path, data) if is_onnx else data))

    def _put(self, entry: Entry) -> FileRef:
        if not _FILE_NAME.fullmatch(entry.name):
            raise RecipeInvalid(
                f"{self._half}: a file of a package cannot be called {entry.name!r}; rename it to "
                "at most 90 letters, digits, dots, hyphens and underscores"
            )
        if self._entries.setdefault(entry.name, entry) != entry:
            raise RecipeInvalid(
                f"{self._half}: two different files are called {entry.name!r}; rename one, "
                "a package has no folders"
            )
        return file_ref(entry)

    def _outputs(self, node: Table) -> list[Table]:
        """What a model file says it gives."""
        with tempfile.TemporaryDirectory(prefix="longstop-build.") as folder:
            entry = self._entries[node["file"]["path"]]
            path = Path(folder) / entry.name
            path.write_bytes(entry.data)
            ports = open_model(path, node.get("form", "onnx")).outputs
        return [
            {"name": _node_id(port.name, at), "shape": list(port.shape[1:]), "dtype": port.dtype}
            for at, port in enumerate(ports)
        ]

    def _exported(self, named: object) -> Entry:
        """A scikit-learn estimator as an ONNX file. Raises `EstimatorUnsupported`."""
        from models.estimators import export_estimator

        if not isinstance(named, str):
            raise RecipeInvalid(f"{self._half}: an estimator is a path, not {named!r}")
        return Entry(f"{Path(named).stem}.onnx", export_estimator(self._folder / named))


def _id(node: Table) -> str:
    """As a message names it."""
    return repr(node.get("id", "without an id"))


def _node_id(name: str, at: int) -> str:
    """A port's name where it can be a node's output, else one by its place."""
    plain = re.sub(r"[^a-z0-9_]", "_", name.lower())[:32]
    return plain if re.fullmatch(r"[a-z][a-z0-9_]{0,31}", plain) else f"output{at}"
