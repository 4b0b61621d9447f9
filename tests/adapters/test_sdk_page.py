"""The SDK's page: its examples run, and it names every error there is."""

import re
from pathlib import Path

import numpy as np
import pytest

from edge_agent.sdk import LongstopError, errors
from models.build import Drawn, Half, Parts, build, one_model
from models.manifest import Role, TensorSpec
from models.pipeline.declared import Gives
from models.pipeline.heads import Classify
from models.pipeline.ops.tensor import Cast, Reshape, Scale
from tests.local_device import LocalDevice
from tests.tiny_models import CERTIFICATE, write_matrix

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "sdk.md"
EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)


def apparel(folder: Path) -> Path:
    """A package that takes what the page's examples send."""
    weights = np.random.default_rng(5).normal(size=(784, 10)).astype(np.float32)
    file = write_matrix(folder / "model.onnx", weights, shape=(1, 28, 28))
    given = TensorSpec("image", "uint8", (28, 28), "HW")
    steps = (Cast("float32"), Scale((1 / 255,)), Reshape((1, 28, 28)))

    def half(role: Role) -> Half:
        return one_model(given, steps, file, gives=Gives("logits", (10,)), role=role)

    parts = Parts(
        name="page",
        task="apparel",
        given=given,
        answer=Classify(tuple("abcdefghij")),
        edge=half(Role.EDGE),
        cloud=half(Role.CLOUD),
        certificate=CERTIFICATE,
        golden=Drawn(0, 255, count=2),
    )
    return build(parts, "1", folder / "package")


def test_the_examples_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    examples = EXAMPLE.findall(PAGE.read_text())
    assert len(examples) >= 5
    with LocalDevice(tmp_path, package=apparel(tmp_path), task="apparel") as device:
        monkeypatch.setenv("LONGSTOP_RUN", str(device.folder))
        names: dict[str, object] = {}
        for example in examples:
            exec(compile(example, str(PAGE), "exec"), names)  # noqa: S102 - our own page
    assert "wrong_dtype" in capsys.readouterr().out


def test_every_error_is_on_the_page_with_its_code() -> None:
    page = PAGE.read_text()
    kinds = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, LongstopError) and kind is not LongstopError
    }
    missing = [
        kind.__name__ for kind in kinds if f"| `{kind.__name__}` | `{kind.code}` |" not in page
    ]
    assert missing == []


def test_every_error_of_the_sdk_is_exported_and_drawn_in_its_tree() -> None:
    drawn = re.findall(r"[|`]-- (\w+)", errors.__doc__ or "")
    there = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, LongstopError)
    }
    assert set(drawn) | {"LongstopError"} == there
    import edge_agent.sdk

    assert there <= set(edge_agent.sdk.__all__)
