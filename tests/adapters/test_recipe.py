"""Recipes: those of the page are built, and each wrong one is refused with its place."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import joblib  # type: ignore[import-untyped] # no types are shipped with it
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from models import package
from models.build import Parts, build
from models.errors import (
    EstimatorUnreadable,
    EstimatorUnsupported,
    ExternalDataMissing,
    FileMissing,
    ManifestInvalid,
    ModelsError,
    OperatorUnsupported,
    OpsetUnsupported,
    RecipeInvalid,
    RuntimeFailed,
    UndecodableInput,
)
from models.manifest import Role
from models.pipeline.answers import Classified, Detected
from models.predict import Predictor
from models.recipe import read_recipe
from tests.contracts.model_files import In, Out, save, write_onnx
from tests.tiny_models import CLOUD_WEIGHTS, EDGE_WEIGHTS, write_matrix

EDGE, LARGE = ((one / 50).astype(np.float32) for one in (EDGE_WEIGHTS, CLOUD_WEIGHTS))
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "build-a-package.md"


def examples() -> list[str]:
    return re.findall(r"^```toml\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def built(folder: Path, recipe: str, version: str = "") -> Path:
    """The package of a recipe in `folder`, where its files are."""
    path = folder / "recipe.toml"
    path.write_text(recipe)
    read = read_recipe(path)
    return build(read.parts, version or read.version, folder / "package")


def predictor(folder: Path, role: Role) -> Predictor:
    found = Predictor.load(package.read(folder, role))
    found.check_golden()
    return found


def picture(seed: int, kind: str = "JPEG", *, high: int = 40, wide: int = 60) -> bytes:
    held = np.random.default_rng(seed).integers(0, 256, (high, wide, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(held).save(file, kind)
    return file.getvalue()


# The page.


def test_the_page_holds_two_recipes() -> None:
    assert len(examples()) == 2


def test_the_first_recipe_of_the_page_builds_a_package(tmp_path: Path) -> None:
    (tmp_path / "golden").mkdir()
    for seed, name in enumerate(("box", "tube")):
        (tmp_path / "golden" / f"{name}.jpg").write_bytes(picture(seed))
    for name, skip in (("small", 0), ("large", 100)):
        inputs = [In("x", (3, 96, 96))]
        write_onnx(tmp_path / f"{name}.onnx", inputs, [Out("logits", (3,), skip)], None)
    folder = built(tmp_path, examples()[0])
    edge, cloud = (predictor(folder, role) for role in Role)
    assert len(edge.golden_samples()) == 2
    found = edge.predict(picture(7))
    assert isinstance(found.answer, Classified)
    assert found.label in ("box", "tube", "bag")
    assert found.confidence is not None
    assert not np.array_equal(found.output, cloud.predict(picture(7)).output)
    assert edge.package.manifest.certificate.threshold is None, "not calibrated yet"


REST = """
task = "parcels"
answer = {kind = "detect", labels = ["box", "tube"], threshold = 0.5}
input = {name = "image", dtype = "bytes"}
golden = {samples = ["one.png"]}
"""


def test_the_second_recipe_of_the_page_builds_a_package(tmp_path: Path) -> None:
    graph = examples()[1]
    (tmp_path / "one.png").write_bytes(picture(1, "PNG"))
    detector = [Out("boxes", (5, 4)), Out("scores", (5, 1), 40)]
    write_onnx(tmp_path / "detector.onnx", [In("x", (3, 320, 320))], detector, None)
    namer = [Out("logits", (2,))]
    write_onnx(tmp_path / "classifier.onnx", [In("x", (3, 64, 64))], namer, None)
    # A half the page does not show: the same in the cloud.
    folder = built(tmp_path, REST + graph + graph.replace("edge", "cloud"))
    names = ["picture", "small", "detector", "found", "placed", "crops", "ready", "namer", "named"]
    found = package.read(folder, Role.EDGE).manifest
    assert [node.id for node in found.edge.nodes] == names
    assert [one.name for one in found.edge.models[0].gives] == ["boxes", "scores"]
    assert found.edge == found.cloud
    answer = predictor(folder, Role.EDGE).predict(picture(3, "PNG")).answer
    assert isinstance(answer, Detected)


# What is put right.

BASE = """
task = "shades"

[input]
name = "image"
dtype = "uint8"
shape = [2, 3]
layout = "HW"

[answer]
kind = "classify"
labels = ["low", "middle", "high"]

[edge]
model = "small.onnx"
steps = [{op = "cast", dtype = "float32"}, {op = "reshape", shape = [1, 2, 3]}]

[cloud]
model = "large.onnx"

[golden]
high = 255.0
count = 2
"""
GRAPH = """
[edge]
output = "model"

[[edge.nodes]]
kind = "steps"
id = "ready"
after = "image"
steps = [{op = "cast", dtype = "float32"}, {op = "reshape", shape = [1, 2, 3]}]

[[edge.nodes]]
kind = "model"
id = "model"
after = "ready"
file = "small.onnx"
"""
CLOUD = """
[cloud]
model = "large.onnx"
steps = [{op = "cast", dtype = "float32"}, {op = "reshape", shape = [1, 2, 3]}]
"""


def half(graph: str) -> str:
    """The base with its edge written as a graph."""
    head, _, rest = BASE.partition("[edge]")
    return head + graph + CLOUD + rest[rest.index("\n[golden]") :]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two small models whose weights are a thing apart."""
    write_matrix(tmp_path / "small.onnx", EDGE)
    write_matrix(tmp_path / "large.onnx", LARGE)
    return tmp_path


SAMPLE = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40


def test_a_half_written_as_a_graph_answers_like_the_short_form(folder: Path) -> None:
    short = predictor(built(folder, BASE), Role.EDGE).predict(SAMPLE)
    (folder / "other").mkdir()
    for name in ("small.onnx", "large.onnx"):
        (folder / "other" / name).write_bytes((folder / name).read_bytes())
    long = predictor(built(folder / "other", half(GRAPH)), Role.EDGE).predict(SAMPLE)
    np.testing.assert_array_equal(short.output, long.output)


def test_outputs_are_named_as_the_file_names_them_or_as_the_recipe_does(folder: Path) -> None:
    write_matrix(folder / "small.onnx", EDGE, outputs=2)
    found = read(folder, half(GRAPH.replace('output = "model"', 'output = "model.other1"')))
    assert [one.name for one in found.edge.pipeline.models[0].gives] == ["logits", "other1"]
    named = GRAPH.replace('output = "model"', 'output = "model.second"')
    named += 'gives = [{name = "first", shape = [3]}, {name = "second", shape = [3]}]\n'
    found = read(folder, half(named))
    assert [one.name for one in found.edge.pipeline.models[0].gives] == ["first", "second"]


def read(folder: Path, recipe: str) -> Parts:
    (folder / "recipe.toml").write_text(recipe)
    return read_recipe(folder / "recipe.toml").parts


def test_files_of_one_name_and_other_bytes_are_told_apart(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "large.onnx").rename(folder / "deep" / "small.onnx")
    made = built(folder, BASE.replace('"large.onnx"', '"deep/small.onnx"'))
    assert {path.name for path in made.glob("*.onnx")} == {"small.onnx", "cloud-small.onnx"}
    edge, cloud = (predictor(made, role).predict(SAMPLE) for role in Role)
    assert not np.array_equal(edge.output, cloud.output)
    edge_files = package.read(made, Role.EDGE).manifest.files(Role.EDGE)
    assert [one.path for one in edge_files] == ["small.onnx"]


def test_one_file_in_both_halves_is_held_once(folder: Path) -> None:
    made = built(folder, BASE.replace('"large.onnx"', '"small.onnx"'))
    assert [path.name for path in made.glob("*.onnx")] == ["small.onnx"]


@pytest.mark.parametrize("recipe", [BASE, half(GRAPH)], ids=["short", "graph"])
def test_weights_in_a_file_beside_the_model_are_put_inside(folder: Path, recipe: str) -> None:
    before = predictor(built(folder, recipe), Role.EDGE).predict(SAMPLE).output
    outside(folder / "small.onnx")
    (folder / "again").mkdir()
    for name in ("small.onnx", "small.weights", "large.onnx"):
        (folder / name).rename(folder / "again" / name)
    made = built(folder / "again", recipe)
    assert {path.name for path in made.iterdir()} == {"manifest.json", "small.onnx", "large.onnx"}
    (folder / "again" / "small.weights").unlink()
    np.testing.assert_array_equal(predictor(made, Role.EDGE).predict(SAMPLE).output, before)


def outside(path: Path) -> None:
    """Move every weight of a model into a file beside it."""
    model = onnx.load(str(path))
    onnx.save_model(
        model,
        str(path),
        save_as_external_data=True,
        location=path.with_suffix(".weights").name,
        size_threshold=0,
    )


def test_weights_that_are_not_there_or_lie_elsewhere_are_named(folder: Path) -> None:
    outside(folder / "small.onnx")
    (folder / "small.weights").rename(folder / "moved")
    with pytest.raises(ExternalDataMissing, match=r"small\.onnx keeps weights in 'small\.weights'"):
        read(folder, BASE)
    model = onnx.load(str(folder / "small.onnx"), load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = "../elsewhere"
    (folder / "small.onnx").write_bytes(model.SerializeToString())
    (folder.parent / "elsewhere").write_bytes(bytes(100))
    with pytest.raises(RuntimeFailed, match=r"from '\.\./elsewhere', outside its own folder"):
        read(folder, BASE)


# What is refused.

Wrong = tuple[str, str, type[ModelsError], str]
"""What is replaced, by what; the error and what it says."""
WRONG: dict[str, Wrong] = {
    "no TOML": ('"shades"', '"shades', RecipeInvalid, r"recipe\.toml: .*at line 2.*correct the"),
    "unknown key": ("[golden]", "[goldn]", RecipeInvalid, r"recipe\.toml: .*unknown field `goldn`"),
    "unknown key of golden": ("count = 2", "size = 2", RecipeInvalid, r"`size` - at `\$\.golden`"),
    "unknown key of a half": (
        'model = "large.onnx"',
        'model = "large.onnx"\nfile = "x"',
        RecipeInvalid,
        "cloud has file, which a half is not made of; write steps and model",
    ),
    "no task": ('task = "shades"', "", RecipeInvalid, "missing required field `task`"),
    "no cloud": ('[cloud]\nmodel = "large.onnx"', "", RecipeInvalid, "required field `cloud`"),
    "a task of capitals": ('"shades"', '"Shades"', RecipeInvalid, r"at `\$\.task`"),
    "unknown op": (
        'op = "cast"',
        'op = "cats"',
        RecipeInvalid,
        r"edge: Invalid value 'cats' - at `\$\.nodes\[0\]\.steps\[0\]\.op`; correct the recipe",
    ),
    "unknown key of a step": (
        'dtype = "float32"}',
        'type = "float32"}',
        RecipeInvalid,
        r"edge: Object .* at `\$\.nodes\[0\]\.steps\[0\]`",
    ),
    "unknown head": ('"classify"', '"guess"', RecipeInvalid, "answer: Invalid value 'guess'"),
    "unknown key of the head": (
        "labels =",
        "names =",
        RecipeInvalid,
        "answer: Object .*; correct the recipe",
    ),
    "one label": (
        '["low", "middle", "high"]',
        '["low"]',
        RecipeInvalid,
        r"answer: .*`array` of length >= 2 - at `\$\.labels`",
    ),
    "unknown dtype": ('"uint8"', '"uint9"', RecipeInvalid, r"'uint9' - at `\$\.input\.dtype`"),
    "no model": ('model = "small.onnx"', "", RecipeInvalid, "edge names neither model nor estim"),
    "a model and an estimator": (
        'model = "small.onnx"',
        'model = "small.onnx"\nestimator = "a.joblib"',
        RecipeInvalid,
        "edge names a model and an estimator; write one",
    ),
    "a model that is no path": (
        '"small.onnx"',
        "7",
        RecipeInvalid,
        "edge: a file is named by its path, not 7",
    ),
    "an estimator that is no path": (
        'model = "small.onnx"',
        "estimator = 7",
        RecipeInvalid,
        "edge: an estimator is a path, not 7",
    ),
    "a name no package holds": (
        '"small.onnx"',
        '"my small.onnx"',
        RecipeInvalid,
        "edge: a file of a package cannot be called 'my small.onnx'; rename it",
    ),
    "missing file": (
        '"small.onnx"',
        '"smal.onnx"',
        FileMissing,
        r"smal\.onnx cannot be read: No such file or directory; check the path",
    ),
    "missing figures": (
        'task = "shades"',
        'task = "shades"\nfigures = "f.json"',
        FileMissing,
        r"f\.json cannot be read",
    ),
    "missing estimator": (
        'model = "small.onnx"',
        'estimator = "none.joblib"',
        FileMissing,
        r"none\.joblib is not there; save the estimator there with joblib\.dump",
    ),
    "no ONNX file": ('"small.onnx"', '"recipe.toml"', RuntimeFailed, r"recipe\.toml is no ONNX"),
    "bytes without golden samples": (
        'dtype = "uint8"\nshape = [2, 3]\nlayout = "HW"',
        'dtype = "bytes"',
        RecipeInvalid,
        "golden.samples is missing: golden inputs of bytes cannot be drawn; name a few files",
    ),
    "bytes with a shape": (
        'dtype = "uint8"',
        'dtype = "text"',
        RecipeInvalid,
        "golden.samples is missing: golden inputs of text",
    ),
    "a golden file that is not there": (
        "count = 2",
        'samples = ["none.jpg"]',
        FileMissing,
        r"none\.jpg cannot be read",
    ),
    "golden samples of another size": (
        "count = 2",
        'samples = ["small.onnx"]',
        ManifestInvalid,
        r"golden inputs cannot be read: input 'image' has \d+ bytes",
    ),
    "golden values upside down": ("high = 255.0", "high = -1.0", ManifestInvalid, "above low"),
    "too many golden inputs": ("count = 2", "count = 65", ManifestInvalid, r"\$\.golden\.count"),
    "labels the model does not give": (
        '["low", "middle", "high"]',
        '["low", "high"]',
        ManifestInvalid,
        r"pipeline edge: node 'model': 2 labels need logits \[2\], not float32 \[3\]",
    ),
    "steps that do not fit": (
        "shape = [1, 2, 3]}",
        "shape = [1, 2, 4]}",
        ManifestInvalid,
        r"pipeline edge: node 'prepare': step 1: shape \[1, 2, 4\] does not hold \[2, 3\]",
    ),
    "another layout than the model's": (
        "shape = [1, 2, 3]}",
        "shape = [2, 3, 1]}",
        RuntimeFailed,
        r"model 'model' takes float32 \[1, 2, 3\] as 'x', 'prepare' is float32 \[2, 3, 1\]",
    ),
}


@pytest.mark.parametrize(("old", "new", "error", "says"), WRONG.values(), ids=WRONG.keys())
def test_a_recipe_that_is_wrong_is_refused_with_the_place(
    folder: Path, old: str, new: str, error: type[ModelsError], says: str
) -> None:
    (folder / "my small.onnx").write_bytes((folder / "small.onnx").read_bytes())
    assert old in BASE
    with pytest.raises(error, match=says):
        built(folder, BASE.replace(old, new))
    assert not (folder / "package").exists()


WRONG_GRAPHS: dict[str, Wrong] = {
    "no list": (
        GRAPH,
        '[edge]\noutput = "model"\nnodes = {kind = "steps"}\n',
        RecipeInvalid,
        r"edge.nodes is a list of tables, \[\[edge\.nodes\]\]",
    ),
    "no table": (
        GRAPH,
        '[edge]\noutput = "model"\nnodes = ["steps"]\n',
        RecipeInvalid,
        "edge: a node is a table, not 'steps'",
    ),
    "no output": ('output = "model"\n', "", RecipeInvalid, "edge: .*required field `output`"),
    "unknown key": ("[edge]", "[edge]\nextra = 1", RecipeInvalid, "edge: .*unknown field `extra`"),
    "unknown kind": ('kind = "model"', 'kind = "modle"', RecipeInvalid, r"'modle' - at `\$\.nodes"),
    "unknown key of a node": (
        'after = "ready"',
        'after = "ready"\nfiles = 1',
        RecipeInvalid,
        r"unknown field `files` - at `\$\.nodes\[1\]`",
    ),
    "unknown form": (
        'file = "small.onnx"',
        'file = "small.onnx"\nform = "torch"',
        ModelsError,
        "torch",
    ),
    "a file and an estimator": (
        'file = "small.onnx"',
        'file = "small.onnx"\nestimator = "a.joblib"',
        RecipeInvalid,
        "edge: node 'model' has a file and an estimator",
    ),
    "two files of one name": (
        GRAPH,
        GRAPH.replace('output = "model"', 'output = "both"')
        + """
[[edge.nodes]]
kind = "model"
id = "other"
after = "ready"
file = "deep/small.onnx"

[[edge.nodes]]
kind = "ensemble"
id = "both"
after = ["model", "other"]
""",
        RecipeInvalid,
        "edge: two different files are called 'small.onnx'; rename one",
    ),
    "a cycle": (
        'after = "image"',
        'after = "model"',
        ManifestInvalid,
        "pipeline edge: node 'model': a cycle, model -> ready -> model",
    ),
    "gives of another shape": (
        'file = "small.onnx"',
        'file = "small.onnx"\ngives = [{name = "logits", shape = [4]}]',
        ManifestInvalid,
        "3 labels need logits",
    ),
    "gives of another type": (
        'file = "small.onnx"',
        'file = "small.onnx"\ngives = [{name = "logits", shape = [3], dtype = "float64"}]',
        RuntimeFailed,
        r"model 'model' gives float32 \[3\] as 'logits', the pipeline declares float64 \[3\]",
    ),
    "gives of nothing": (
        'file = "small.onnx"',
        'file = "small.onnx"\ngives = []',
        RecipeInvalid,
        r"length >= 1 - at `\$\.nodes\[1\]\.gives`",
    ),
}


@pytest.mark.parametrize(
    ("old", "new", "error", "says"), WRONG_GRAPHS.values(), ids=WRONG_GRAPHS.keys()
)
def test_a_graph_that_is_wrong_is_refused_with_the_place(
    folder: Path, old: str, new: str, error: type[ModelsError], says: str
) -> None:
    (folder / "deep").mkdir()
    write_matrix(folder / "deep" / "small.onnx", LARGE)
    assert old in GRAPH
    with pytest.raises(error, match=says):
        built(folder, half(GRAPH.replace(old, new)))
    assert not (folder / "package").exists()


def test_a_recipe_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match=r"recipe\.toml cannot be read: No such file"):
        read_recipe(tmp_path / "recipe.toml")


def test_a_recipe_of_other_bytes_than_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeInvalid, match=r"recipe\.toml: .*correct the recipe"):
        read_recipe(tmp_path / "recipe.toml")


def test_a_golden_picture_that_is_none_is_refused(folder: Path) -> None:
    (folder / "one.png").write_bytes(b"no picture")
    recipe = BASE.replace('dtype = "uint8"\nshape = [2, 3]\nlayout = "HW"', 'dtype = "bytes"')
    recipe = recipe.replace("count = 2", 'samples = ["one.png"]').replace(
        "steps = [",
        'steps = [{op = "decode_image", mode = "gray"}, {op = "resize", height = 2, width = 3}, ',
    )
    with pytest.raises(UndecodableInput):
        built(folder, recipe)
    (folder / "one.png").write_bytes(picture(1, "PNG"))
    assert predictor(built(folder, recipe), Role.CLOUD).predict(picture(2)).confidence


def test_an_estimator_that_is_not_one_is_named(folder: Path) -> None:
    recipe = BASE.replace('model = "small.onnx"', 'estimator = "odd.joblib"')
    (folder / "odd.joblib").write_bytes(b"no joblib")
    with pytest.raises(EstimatorUnreadable, match=r"odd\.joblib"):
        read(folder, recipe)
    joblib.dump({"not": "fitted"}, folder / "odd.joblib")
    with pytest.raises(EstimatorUnsupported, match="dict"):
        read(folder, recipe)


def too_new(path: Path) -> None:
    model = onnx.load(str(path))
    model.opset_import[0].version = 99
    path.write_bytes(model.SerializeToString())


def custom_operator(path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Sharpen", ["x"], ["logits"], domain="com.example")],
        "custom",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 2, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])],
    )
    save(graph, path, domain="com.example")


@pytest.mark.parametrize(
    ("spoil", "error", "says"),
    [
        (too_new, OpsetUnsupported, r"small\.onnx does not load in onnxruntime .*older opset"),
        (custom_operator, OperatorUnsupported, r"small\.onnx .*Sharpen.*standard ONNX only"),
    ],
)
@pytest.mark.parametrize("given", [False, True], ids=["gives left out", "gives given"])
def test_what_the_runtime_does_not_know_is_refused_at_build_by_name(
    folder: Path, spoil: Callable[[Path], None], error: type[ModelsError], says: str, given: bool
) -> None:
    spoil(folder / "small.onnx")
    gives = 'gives = [{name = "logits", shape = [3]}]\n' if given else ""
    with pytest.raises(error, match=says):
        built(folder, half(GRAPH + gives))


# Texts and records, written in the recipe itself.

SPOKEN = """
task = "orders"
input = {name = "order", dtype = "record"}
answer = {kind = "classify", labels = ["low", "middle", "high"]}

[edge]
model = "small.onnx"
steps = [
  {op = "columns", columns = [
    {kind = "numeric", name = "amount", mean = 10.0, std = 5.0},
    {kind = "category", name = "way", values = ["air", "sea", "rail", "road"]},
    {kind = "flag", name = "urgent", impute = false},
  ]},
  {op = "reshape", shape = [1, 2, 3]},
]

[cloud]
model = "large.onnx"

[golden]
samples = ['{"amount": 12, "way": "sea"}', '{"amount": 3.5, "way": "road", "urgent": true}']
"""


def test_records_are_written_in_the_recipe(folder: Path) -> None:
    made = built(folder, SPOKEN)
    assert predictor(made, Role.CLOUD).golden_samples() == (
        {"amount": 12, "way": "sea"},
        {"amount": 3.5, "way": "road", "urgent": True},
    )


@pytest.mark.parametrize(
    ("sample", "says"),
    [
        ("{'amount': 12}", "golden inputs cannot be read: input 'order' is no record"),
        ("[1, 2]", "golden inputs cannot be read: input 'order' is no record"),
        ("", "golden inputs cannot be read: input 'order' .*holds no values"),
    ],
)
def test_a_golden_record_that_is_none_is_refused(folder: Path, sample: str, says: str) -> None:
    recipe = SPOKEN[: SPOKEN.index("samples =")] + f'samples = ["{sample}"]\n'
    with pytest.raises(ManifestInvalid, match=says):
        built(folder, recipe)
