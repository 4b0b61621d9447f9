"""Several certified ways to run one package: what a device takes, and why."""

from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from edge_agent.engine import CHOICES, Engine, Measure, measure_apart
from edge_agent.workplace import RuntimeSettings, Workplace
from models import package
from models.calibrate.binding import binding_of
from models.calibrate.certificate import Certificate
from models.calibrate.certify import named
from models.errors import UnknownEdition
from models.manifest import Manifest, Role, encode
from models.measuring import Order, measure
from models.pipeline.declared import Model
from models.pipeline.files import FileRef
from models.placement import kept_places, ways
from models.runtimes.choice import FILE
from models.runtimes.choose import installed
from models.runtimes.wish import RuntimeWish
from sync.clock import SystemClock
from sync.runner import ThreadRunner
from tests.editions import EDITION_RISK, EDITION_THRESHOLD, build_editions, turned
from tests.tiny_models import CERTIFICATE

WISH = RuntimeWish()

pytestmark = pytest.mark.skipif("openvino" not in installed(), reason="openvino is not installed")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """On onnx, and the same file on OpenVINO with another promise."""
    return build_editions(tmp_path / "made")


def load(
    folder: Path,
    data: Path,
    *,
    choose: bool = True,
    avoid: tuple[str, ...] = (),
    measure: Measure = measure_apart,
) -> Engine:
    return Engine.load(
        folder,
        digest="cd" * 32,
        clock=SystemClock(),
        thread=lambda: ThreadRunner("engine"),
        place=Workplace(data=str(data), runtime=RuntimeSettings(choose=choose, avoid=avoid)),
        measure=measure,
    )


def never(order: Order) -> str | None:
    raise AssertionError("measured again")


def read(folder: Path) -> Manifest:
    return package.read(folder, Role.EDGE).manifest


def write(folder: Path, manifest: Manifest) -> None:
    (folder / package.MANIFEST).write_bytes(encode(manifest))


def test_all_certified_editions_are_measured_and_the_choice_is_kept(
    folder: Path, tmp_path: Path
) -> None:
    first = load(folder, tmp_path / "data")
    told = first.runs_on
    assert "on onnx, 1 thread" in told.why
    assert "on openvino, 1 thread" in told.why
    of_main = (told.runtime, first.threshold) == ("onnx", CERTIFICATE.threshold)
    of_other = (told.runtime, first.threshold) == ("openvino", EDITION_THRESHOLD)
    assert told.edition == ("main" if of_main else "openvino")
    assert of_main or of_other
    assert first.uncertified is None
    first.close()
    again = load(folder, tmp_path / "data", measure=never)
    assert again.runs_on == told
    again.close()


def chose(folder: Path, kept: Path, edition: str) -> Engine:
    """As if that edition's candidate had been the quickest."""
    whole = package.read(folder, Role.EDGE)
    order = Order(str(folder), str(kept), WISH, 1, allow_custom=False)
    measure(order)
    (file,) = kept.glob(f"*/{FILE}")
    choice = msgspec.json.decode(file.read_bytes())
    (node,) = whole.pipeline.models
    choice["at"] = [one.edition for one in ways(whole, node, WISH, 1)].index(edition)
    file.write_bytes(msgspec.json.encode(choice))
    return load(folder, kept.parent.parent.parent, measure=never)


@pytest.mark.parametrize(
    ("edition", "threshold", "risk"),
    [
        ("main", CERTIFICATE.threshold, CERTIFICATE.upper_bound),
        ("openvino", EDITION_THRESHOLD, EDITION_RISK),
    ],
)
def test_it_serves_with_the_certificate_of_the_edition_it_took(
    folder: Path, tmp_path: Path, edition: str, threshold: float, risk: float
) -> None:
    kept = tmp_path / "data" / CHOICES / "shades" / ("cd" * 6)
    engine = chose(folder, kept, edition)
    assert engine.runs_on.edition == edition
    assert (engine.threshold, engine.certified_risk, engine.uncertified) == (threshold, risk, None)
    engine.close()


def test_another_file_is_another_edition_with_its_own_golden_answers(tmp_path: Path) -> None:
    folder = build_editions(tmp_path / "made", other_file=True)
    whole = package.read(folder, Role.EDGE)
    assert [ref.path for ref in whole.manifest.files(Role.EDGE)][:2] == ["edge.onnx", "wide.onnx"]
    assert "wide.onnx" not in [ref.path for ref in whole.manifest.files(Role.CLOUD)]
    unpacked = package.unpack(package.pack(folder, Role.EDGE), tmp_path / "unpacked")
    kept = tmp_path / "data" / CHOICES / "shades" / ("cd" * 6)
    engine = chose(unpacked, kept, "openvino")
    assert (engine.runs_on.edition, engine.uncertified) == ("openvino", None)
    engine.close()


@pytest.mark.parametrize("choose", [True, False])
def test_where_the_main_edition_cannot_run_another_serves_certified(
    folder: Path, tmp_path: Path, choose: bool
) -> None:
    manifest = read(folder)
    bound = manifest.certificate.bound
    assert bound is not None
    elsewhere = replace(manifest.certificate, bound=replace(bound, runtime="tensorrt"))
    write(folder, replace(manifest, certificate=elsewhere))
    engine = load(folder, tmp_path / "data", choose=choose)
    assert (engine.runs_on.runtime, engine.runs_on.edition) == ("openvino", "openvino")
    assert (engine.threshold, engine.uncertified) == (EDITION_THRESHOLD, None)
    engine.close()


@pytest.mark.parametrize(("avoid", "edition"), [("onnx", "openvino"), ("openvino", "main")])
def test_a_runtime_to_be_avoided_leaves_the_editions_of_the_others_certified(
    folder: Path, tmp_path: Path, avoid: str, edition: str
) -> None:
    engine = load(folder, tmp_path / "data", avoid=(avoid,), measure=never)
    assert (engine.runs_on.edition, engine.uncertified) == (edition, None)
    engine.close()


@pytest.mark.parametrize("choose", [True, False])
def test_where_the_main_edition_computes_otherwise_another_serves_certified(
    folder: Path, tmp_path: Path, choose: bool
) -> None:
    manifest = read(folder)
    write(folder, replace(manifest, golden=turned(manifest.golden)))
    engine = load(folder, tmp_path / "data", choose=choose)
    assert (engine.runs_on.edition, engine.threshold) == ("openvino", EDITION_THRESHOLD)
    assert engine.uncertified is None
    assert not choose or "edge.onnx on onnx, 1 thread is unfit" in engine.runs_on.why
    engine.close()


@pytest.mark.parametrize("choose", [True, False])
def test_where_the_main_edition_s_file_does_not_open_another_serves_certified(
    tmp_path: Path, choose: bool
) -> None:
    folder = build_editions(tmp_path / "made", other_file=True)
    manifest = read(folder)
    (folder / "edge.onnx").write_bytes(b"no model")
    ref = FileRef("edge.onnx", package.digest(b"no model"), 8)
    nodes = tuple(
        replace(node, file=ref) if isinstance(node, Model) else node for node in manifest.edge.nodes
    )
    edge = replace(manifest.edge, nodes=nodes)
    bound = binding_of(edge, "onnx", "cpu", "f32")
    certificate = named(replace(manifest.certificate, bound=bound))
    write(folder, replace(manifest, edge=edge, certificate=certificate))
    engine = load(folder, tmp_path / "data", choose=choose)
    assert (engine.runs_on.edition, engine.threshold) == ("openvino", EDITION_THRESHOLD)
    assert engine.uncertified is None
    engine.close()


def test_where_no_edition_fits_the_main_one_serves_uncertified(
    folder: Path, tmp_path: Path
) -> None:
    manifest = read(folder)
    golden = turned(manifest.golden)
    editions = tuple(replace(one, golden=golden.edge) for one in manifest.editions)
    write(folder, replace(manifest, golden=golden, editions=editions))
    engine = load(folder, tmp_path / "data")
    assert engine.runs_on.edition == "main"
    assert "the package stores another" in str(engine.uncertified)
    assert (engine.threshold, engine.certified_risk) == (None, None)
    engine.close()


@pytest.mark.parametrize(
    "spoilt",
    [
        {"feasible": False},
        {"bound": None},
        {"runtime": "tensorrt"},
        {"precision": "bf16"},
        {"provider": "gpu"},
        {"model_sha256": "0" * 64},
    ],
)
def test_an_edition_whose_certificate_does_not_hold_here_does_not_count(
    folder: Path, tmp_path: Path, spoilt: dict[str, object]
) -> None:
    manifest = read(folder)
    (edition,) = manifest.editions
    spoilt_one = replace(edition, certificate=spoil(edition.certificate, spoilt))
    write(folder, replace(manifest, editions=(spoilt_one,)))
    # Whether there is a GPU only opening it can tell; all else needs no measuring.
    looks = measure_apart if "provider" in spoilt else never
    engine = load(folder, tmp_path / "data", measure=looks)
    assert (engine.runs_on.edition, engine.uncertified) == ("main", None)
    engine.close()


def spoil(certificate: Certificate, changes: dict[str, object]) -> Certificate:
    if changes.keys() <= set(certificate.__struct_fields__):
        return named(replace(certificate, **changes))
    assert certificate.bound is not None
    return named(replace(certificate, bound=replace(certificate.bound, **changes)))


def test_all_models_of_a_package_are_of_the_edition_that_takes_least_together(
    tmp_path: Path,
) -> None:
    folder = build_editions(tmp_path / "made", models=2)
    whole, kept = package.read(folder, Role.EDGE), tmp_path / "kept"
    measure(Order(str(folder), str(kept), WISH, 1, allow_custom=False))
    for node, took in (("model", (10.0, 20.0)), ("second", (100.0, 30.0))):
        file = kept / node / FILE
        choice = msgspec.json.decode(file.read_bytes())
        assert len(choice["measured"]) == 2
        for one, run_us in zip(choice["measured"], took, strict=True):
            one["run_us"] = run_us
        choice["at"] = took.index(min(took))
        file.write_bytes(msgspec.json.encode(choice))
    places = kept_places(whole, WISH, 1, kept)
    assert places is not None
    assert [one.edition for one in places] == ["openvino", "openvino"]
    assert {one.candidate.runtime for one in places} == {"openvino"}
    assert "edge.onnx on openvino, 1 thread: 20.0 us" in places[0].reason
    assert "all models are of one edition" in places[0].reason


def test_an_edition_nobody_made_is_named_with_those_there_are(folder: Path) -> None:
    with pytest.raises(UnknownEdition, match="choose one of main, openvino"):
        package.read(folder, Role.EDGE).in_edition("tensorrt")
