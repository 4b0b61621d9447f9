"""Small packages whose inputs are no arrays: a photo, a note, an order. Each input says what both
halves will answer, so that a test chooses easy, hard, edge and cloud at will.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

from models.archive import Entry
from models.build import Chosen, Half, Parts, build, file_ref
from models.calibrate.by_hand import by_hand
from models.manifest import Role, TensorSpec
from models.pipeline.declared import Gives, Model, Nms, Node, Pipeline, Steps, Tokenise
from models.pipeline.heads import Classify, Detect, Head
from models.pipeline.ops.image import DecodeImage, Resize
from models.pipeline.ops.table import Columns, Numeric
from models.pipeline.ops.tensor import Cast, Scale
from tests.contracts.model_files import In, Out, write_twin

BOXES = ((0, 0, 4, 4), (4, 4, 8, 8))
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SURE_FROM = 0.7
"""The threshold of every package here."""


def photo(edge: Sequence[int], cloud: Sequence[int]) -> bytes:
    """A PNG in which each half sees two boxes with these scores, in hundredths."""
    held = np.zeros((8, 8, 3), np.uint8)
    held.reshape(-1)[:12] = (*np.ravel(BOXES), *edge, *cloud)
    file = io.BytesIO()
    Image.fromarray(held).save(file, "PNG")
    return file.getvalue()


def photos(folder: Path) -> Path:
    """Finds boxes; `Answer.details` has their places."""
    halves = []
    for role, skip in zip(Role, (8, 10), strict=True):
        outputs = (Out("boxes", (2, 4)), Out("scores", (2, 1), skip))
        file = _file(folder, role, In("x", (8, 8, 3)), outputs)
        nodes: tuple[Node, ...] = (
            Steps("pixels", "photo", (DecodeImage(), Resize(8, 8, "nearest"), Cast("float32"))),
            _model("detector", "pixels", file, outputs),
            Steps("shares", "detector.scores", (Scale((0.01,)),)),
            Nms("found", "detector.boxes", "shares", floor=0.01),
        )
        halves.append(Half(Pipeline(nodes, "found"), (file,)))
    golden = (photo((90, 5), (90, 5)), photo((5, 5), (90, 95)))
    return _built(folder, "photos", "bytes", Detect(("box",), 0.5), halves, golden)


def notes(folder: Path, *, version: str = "1") -> Path:
    """Sorts notes of six numbers in words: three logits of the edge, three of the cloud."""
    words = Tokenizer(models.WordLevel(dict(zip(WORDS, range(10), strict=True)), "zero"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokens = Entry("words.json", words.to_str().encode())
    halves = []
    for role, skip in zip(Role, (0, 3), strict=True):
        outputs = (Out("logits", (3,), skip),)
        file = _file(folder, role, In("x", (6,)), outputs)
        nodes: tuple[Node, ...] = (
            Tokenise("words", "note", file_ref(tokens), 6),
            Steps("numbers", "words.ids", (Cast("float32"),)),
            _model("sorter", "numbers", file, outputs),
        )
        halves.append(Half(Pipeline(nodes, "sorter"), (tokens, file)))
    head = Classify(("sales", "support", "spam"), top=2)
    golden = (b"nine zero zero zero nine zero", b"zero nine two nine zero zero")
    return _built(folder, "notes", "text", head, halves, golden, version=version)


def orders(folder: Path) -> Path:
    """Sorts orders: `amount` and `haste` are what the edge goes by, the others the cloud."""
    fields = tuple(Numeric(name, impute=0.0) for name in ("amount", "haste", "calm", "risk"))
    halves = []
    for role, skip in zip(Role, (0, 2), strict=True):
        outputs = (Out("logits", (2,), skip),)
        file = _file(folder, role, In("x", (4,)), outputs)
        nodes: tuple[Node, ...] = (
            Steps("row", "order", (Columns(fields),)),
            _model("sorter", "row", file, outputs),
        )
        halves.append(Half(Pipeline(nodes, "sorter"), (file,)))
    golden = (b'{"amount": 3, "risk": 2}', b'{"haste": 3, "calm": 2}')
    return _built(folder, "orders", "record", Classify(("fine", "odd")), halves, golden)


def _file(folder: Path, role: Role, given: In, outputs: Sequence[Out]) -> Entry:
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{role.value}.json"
    return Entry(name, write_twin(folder / name, [given], outputs, None).read_bytes())


def _model(id: str, after: str, file: Entry, outputs: Sequence[Out]) -> Model:
    gives = tuple(Gives(out.name, out.shape) for out in outputs)
    return Model(id, (after,), file_ref(file), gives, "twin")


def _built(
    folder: Path,
    task: str,
    dtype: str,
    head: Head,
    halves: Sequence[Half],
    golden: tuple[bytes, ...],
    *,
    version: str = "1",
) -> Path:
    parts = Parts(
        name=f"raw-{task}",
        task=task,
        given=TensorSpec(task.removesuffix("s"), dtype),  # type: ignore[arg-type] # a raw one
        answer=head,
        edge=halves[0],
        cloud=halves[1],
        certificate=by_hand(note="for a test", threshold=SURE_FROM),
        golden=Chosen(golden),
    )
    return build(parts, version, folder / "package")
