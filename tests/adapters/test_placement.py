"""What a package runs on is measured once on a device, kept with its reason, and shown."""

import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec import structs
from msgspec.structs import replace

from edge_agent.engine import CHOICES, Engine, Measure, measure_apart
from edge_agent.workplace import RuntimeSettings, Workplace
from models import package
from models.calibrate.binding import binding_of, runs_of
from models.calibrate.certificate import Binding, Certificate
from models.manifest import Manifest, Role, decode, encode
from models.measuring import Order, measure
from models.placement import first_places, kept_places, ways
from models.runtimes.choice import FILE
from models.runtimes.choose import installed
from models.runtimes.wish import AS_DECLARED, RuntimeWish
from models.twins import build_twin
from sync.clock import SystemClock
from sync.runner import ThreadRunner
from tests.tiny_models import build_tiny

WISH = RuntimeWish()

pytestmark = pytest.mark.skipif("openvino" not in installed(), reason="openvino is not installed")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return build_tiny(tmp_path / "made")


@pytest.fixture
def loaded(folder: Path, tmp_path: Path) -> Iterator[Engine]:
    engine = load(folder, tmp_path / "data")
    yield engine
    engine.close()


def load(
    folder: Path, data: Path, wish: RuntimeWish = WISH, measure: Measure = measure_apart
) -> Engine:
    return Engine.load(
        folder,
        digest="cd" * 32,
        clock=SystemClock(),
        thread=lambda: ThreadRunner("engine"),
        place=Workplace(
            data=str(data), runtime=msgspec.convert(structs.asdict(wish), RuntimeSettings)
        ),
        measure=measure,
    )


def choice_in(data: Path) -> Path:
    (found,) = (data / CHOICES / "shades" / ("cd" * 6)).glob(f"*/{FILE}")
    return found


def certified(folder: Path, **changes: str) -> Path:
    """The same package, whose certificate is bound to a runtime."""
    manifest = read(folder)
    bound = replace(binding_of(manifest.edge, "onnx", "cpu", "f32"), **changes)
    return write(folder, replace(manifest, certificate=with_bound(manifest.certificate, bound)))


def with_bound(certificate: Certificate, bound: Binding) -> Certificate:
    return replace(certificate, bound=bound)


def read(folder: Path) -> Manifest:
    return decode((folder / package.MANIFEST).read_bytes())


def write(folder: Path, manifest: Manifest) -> Path:
    (folder / package.MANIFEST).write_bytes(encode(manifest))
    return folder


@pytest.mark.parametrize("precision", ["f32,bf16", "int4"])
def test_a_precision_nothing_can_be_asked_for_leaves_a_package_as_it_was_declared(
    folder: Path, precision: str
) -> None:
    """Several models in several precisions are bound so; an unsigned package may say anything."""
    manifest = read(certified(folder, precision=precision))
    assert runs_of(manifest.certificate) == AS_DECLARED


def test_the_first_start_measures_and_the_next_takes_what_was_kept(
    folder: Path, tmp_path: Path, loaded: Engine
) -> None:
    told = loaded.runs_on
    assert (told.runtime in ("onnx", "openvino"), told.provider, told.precision) == (
        True,
        "cpu",
        "f32",
    )
    assert "on onnx, 1 thread" in told.why
    assert "on openvino, 1 thread" in told.why
    assert choice_in(tmp_path / "data").exists()
    again = load(folder, tmp_path / "data", measure=never)
    assert again.runs_on == told
    again.close()


def never(order: Order) -> str | None:
    raise AssertionError("measured again")


@pytest.mark.parametrize("change", ["processor", "damaged", "gone", "wish"])
def test_what_no_longer_holds_is_measured_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loaded: Engine, change: str
) -> None:
    assert loaded.runs_on.why
    kept, wish = choice_in(tmp_path / "data"), WISH
    match change:
        case "processor":
            monkeypatch.setattr(platform, "machine", lambda: "another")
        case "damaged":
            kept.write_bytes(b'{"key"')
        case "gone":
            kept.unlink()
        case _:
            wish = replace(WISH, threads=2)
    asked: list[str] = []

    def note(order: Order) -> str | None:
        asked.append(order.kept)
        measure(order)  # here: the process apart would not see another processor
        return None

    for _ in range(2):
        load(folder, tmp_path / "data", wish, note).close()
    assert asked == [str(kept.parent.parent)]


def test_a_measurement_that_fails_costs_the_choice_and_is_not_tried_at_every_start(
    folder: Path, tmp_path: Path
) -> None:
    engine = load(folder, tmp_path, measure=lambda order: "measuring ended with -11")
    assert engine.runs_on.runtime == "onnx"
    assert engine.runs_on.why == (
        "edge.onnx on onnx, 1 thread: nothing was measured, measuring ended with -11"
    )
    assert engine.uncertified is None
    engine.close()
    load(folder, tmp_path, measure=never).close()


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (("/bin/false",), "measuring ended with 1"),
        (("/bin/sleep", "60"), "measuring took longer than 0.2 s"),
        (("/no/such/program",), "measuring did not start"),
    ],
)
def test_a_process_that_dies_hangs_or_is_not_there_says_so(
    tmp_path: Path, program: tuple[str, ...], said: str
) -> None:
    order = Order("", str(tmp_path), WISH, 1, allow_custom=False)
    assert said in str(measure_apart(order, limit_s=0.2, program=program))


def test_choices_of_packages_long_gone_are_forgotten_but_never_its_own(
    folder: Path, tmp_path: Path
) -> None:
    later = time.time() + 60  # a clock that was set back since
    for number in range(12):
        old = tmp_path / CHOICES / "shades" / f"old-{number}"
        old.mkdir(parents=True)
        os.utime(old, (later, later))
    load(folder, tmp_path, measure=lambda order: "not in this test").close()
    left = {one.name for one in (tmp_path / CHOICES / "shades").iterdir()}
    assert len(left) == 8
    assert "cd" * 6 in left


def test_who_asks_for_no_measuring_gets_the_first_candidate(folder: Path, tmp_path: Path) -> None:
    engine = load(folder, tmp_path / "data", replace(WISH, choose=False))
    assert engine.runs_on.runtime == "onnx"
    assert engine.runs_on.why.endswith("the first, nothing was measured")
    assert not (tmp_path / "data" / CHOICES).exists()
    engine.close()


def test_artefacts_lie_in_the_data_folder_and_a_damaged_one_is_made_again(
    folder: Path, tmp_path: Path
) -> None:
    wish = replace(WISH, choose=False)
    load(folder, tmp_path / "data", wish).close()
    (kept,) = (tmp_path / "data" / "artefacts").iterdir()
    kept.write_bytes(b"rubbish")
    engine = load(folder, tmp_path / "data", wish)
    assert engine.uncertified is None
    engine.close()
    (again,) = (tmp_path / "data" / "artefacts").iterdir()
    assert again.read_bytes() != b"rubbish"


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_a_certified_package_runs_on_what_its_certificate_is_bound_to(
    folder: Path, tmp_path: Path, runtime: str
) -> None:
    certified(folder, runtime=runtime)
    engine = load(folder, tmp_path)
    assert engine.runs_on.runtime == runtime
    assert engine.runs_on.why.startswith(f"edge.onnx on {runtime}, 1 thread")
    assert ("openvino" if runtime == "onnx" else "onnx,") not in engine.runs_on.why
    assert (engine.uncertified, engine.certified_risk) == (None, 0.0159)
    engine.close()


@pytest.mark.parametrize(
    ("bound", "wish", "said"),
    [
        ({"runtime": "onnx", "provider": "cuda"}, WISH, "onnx on cuda in f32"),
        ({"runtime": "onnx", "provider": "cuda"}, RuntimeWish(provider="cpu"), "cuda in f32"),
        ({"runtime": "tensorrt"}, WISH, "tensorrt on cpu in f32"),
        ({"precision": "bf16"}, WISH, "onnx on cpu in bf16"),
        ({"model_sha256": "0" * 64}, WISH, "made for another model file"),
        ({"preparation_sha256": "0" * 64}, WISH, "made for another preparation"),
    ],
)
def test_where_it_cannot_nothing_is_promised_and_the_reason_is_said(
    folder: Path, tmp_path: Path, bound: dict[str, str], wish: RuntimeWish, said: str
) -> None:
    certified(folder, **bound)
    engine = load(folder, tmp_path, wish)
    assert said in str(engine.uncertified)
    assert "; calibrate " in str(engine.uncertified)
    assert (engine.threshold, engine.certified_risk) == (None, None)
    engine.close()


def test_a_package_that_promises_nothing_is_bound_to_nothing(folder: Path, tmp_path: Path) -> None:
    manifest = read(certified(folder, runtime="tensorrt"))
    certificate = replace(manifest.certificate, feasible=False)
    write(folder, replace(manifest, certificate=certificate))
    engine = load(folder, tmp_path)
    assert (engine.uncertified, engine.threshold, engine.certified_risk) == (None, 0.7, None)
    engine.close()


def test_when_no_runtime_gives_the_golden_answers_it_runs_and_says_so(
    folder: Path, tmp_path: Path
) -> None:
    manifest = read(folder)
    turned = tuple(replace(said, label="another") for said in manifest.golden.edge)
    write(folder, replace(manifest, golden=replace(manifest.golden, edge=turned)))
    engine = load(folder, tmp_path)
    assert engine.runs_on.runtime == "onnx"
    assert "no candidate is fit here" in engine.runs_on.why
    assert "the package stores another" in str(engine.uncertified)
    engine.close()
    load(folder, tmp_path, measure=never).close()


def test_a_chosen_runtime_that_no_longer_opens_gives_way_to_the_files_own(
    folder: Path, tmp_path: Path
) -> None:
    engine = load(folder, tmp_path, RuntimeWish(choose=False, provider="npu"))
    assert (engine.runs_on.runtime, engine.runs_on.provider) == ("onnx", "cpu")
    assert "edge.onnx on onnx, 1 thread, npu did not open" in engine.runs_on.why
    engine.close()


def test_a_second_thread_is_tried_where_cores_are_left_for_others(folder: Path) -> None:
    whole = package.read(folder, Role.EDGE)
    (node,) = whole.pipeline.models
    for cores, threads in ((1, {1}), (2, {1}), (4, {1, 2})):
        assert {one.candidate.threads for one in ways(whole, node, WISH, cores)} == threads
    three = [one.candidate for one in ways(whole, node, RuntimeWish(threads=3), 8)]
    assert {one.threads for one in three} == {3}
    assert [one.runtime for one in three] == ["onnx", "openvino"]


def test_a_twin_runs_as_a_twin(tmp_path: Path) -> None:
    whole = package.read(build_twin("sides", "3", tmp_path / "p"), Role.EDGE)
    (place,) = first_places(whole, WISH, 8)
    assert (place.candidate.runtime, place.reason) == (
        "twin",
        "edge.json on twin, 1 thread: the only one there is",
    )


def test_measuring_keeps_a_choice_for_every_model(folder: Path, tmp_path: Path) -> None:
    whole = package.read(folder, Role.EDGE)
    assert kept_places(whole, WISH, 1, tmp_path) is None
    measure(Order(str(folder), str(tmp_path), WISH, 1, allow_custom=False))
    places = kept_places(whole, WISH, 1, tmp_path)
    assert places is not None
    assert [place.model for place in places] == ["model"]
