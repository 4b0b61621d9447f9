"""What a device makes of a model file so that it opens faster: on a real disk, good and bad."""

import logging
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from models.runtimes.artefacts import Artefacts, key_of
from models.runtimes.base import Runtime
from models.runtimes.choose import open_model
from tests.tiny_models import write_matrix

WEIGHTS = np.random.default_rng(2).normal(size=(6, 3)).astype(np.float32)
BATCHES = [np.random.default_rng(3).normal(size=(n, 1, 2, 3)).astype(np.float32) for n in (1, 4)]
LIBRARIES = pytest.mark.parametrize("library", ["onnx", "openvino"])


def write(content: bytes) -> Callable[[Path], None]:
    def put(path: Path) -> None:
        path.write_bytes(content)

    return put


def answers(runtime: Runtime) -> list[list[list[float]]]:
    return [runtime.run((batch,))[0].tolist() for batch in BATCHES]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_matrix(tmp_path / "model.onnx", WEIGHTS)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "cache"


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="models.runtimes")
    return caplog


@LIBRARIES
def test_the_second_opening_uses_what_the_first_made_and_answers_the_same(
    library: str, model: Path, cache: Path
) -> None:
    without = answers(open_model(model, library))
    assert answers(open_model(model, library, cache=cache)) == without
    made = {file: file.stat().st_ino for file in cache.iterdir()}
    assert made
    assert answers(open_model(model, library, cache=cache)) == without
    assert {file: file.stat().st_ino for file in cache.iterdir()} == made


@LIBRARIES
@pytest.mark.parametrize("damage", ["flipped", "short", "empty", "swapped"])
def test_a_damaged_artefact_is_removed_and_made_again(
    library: str, model: Path, cache: Path, damage: str, log: pytest.LogCaptureFixture
) -> None:
    wanted = answers(open_model(model, library, cache=cache))
    for file in cache.iterdir():
        data = bytearray(file.read_bytes())
        match damage:
            case "flipped":
                data[len(data) // 2] ^= 1
            case "short":
                del data[-9:]
            case "empty":
                data.clear()
            case _:
                data = bytearray(b"of somebody else" * 100)
        file.write_bytes(data)
    assert answers(open_model(model, library, cache=cache)) == wanted
    assert "artefacts.damaged" in log.text
    log.clear()
    assert answers(open_model(model, library, cache=cache)) == wanted
    assert log.text == ""


@LIBRARIES
def test_a_whole_file_that_the_library_refuses_is_made_again(
    library: str, model: Path, cache: Path
) -> None:
    """What another build of the same version wrote, say: its name fits, its content does not."""
    wanted = answers(open_model(model, library, cache=cache))
    (file, *_) = sorted(cache.iterdir(), key=lambda each: each.stat().st_size)
    key, ending = file.stem.partition("-")[0], file.suffix
    for each in cache.iterdir():
        each.unlink()
    Artefacts(cache).keep(key, ending, write(b"foreign" * 500))
    assert answers(open_model(model, library, cache=cache)) == wanted
    assert not any(b"foreign" in each.read_bytes() for each in cache.iterdir())


@LIBRARIES
def test_another_model_in_the_same_place_is_not_answered_from_the_cache(
    library: str, model: Path, cache: Path
) -> None:
    before = answers(open_model(model, library, cache=cache))
    write_matrix(model, -WEIGHTS)
    assert answers(open_model(model, library, cache=cache)) == [
        [[-value for value in row] for row in batch] for batch in before
    ]


@LIBRARIES
def test_other_weights_beside_the_same_model_are_not_answered_from_the_cache(
    library: str, tmp_path: Path, model: Path, cache: Path
) -> None:
    import onnx

    path, beside = tmp_path / "outside.onnx", tmp_path / "weights.bin"
    onnx.save(
        onnx.load(model), path, save_as_external_data=True, location=beside.name, size_threshold=0
    )
    before = answers(open_model(path, library, cache=cache))
    beside.write_bytes((2 * np.frombuffer(beside.read_bytes(), np.float32)).tobytes())
    after = answers(open_model(path, library, cache=cache))
    np.testing.assert_allclose(after[1], 2 * np.array(before[1]), rtol=1e-6)


@LIBRARIES
def test_a_cache_that_cannot_be_made_costs_only_time(
    library: str, model: Path, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    runtime = open_model(model, library, cache=tmp_path / "file")
    assert answers(runtime) == answers(open_model(model, library))
    assert "artefacts.not_kept" in log.text


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root writes into any folder, so for this long it is somebody else."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@LIBRARIES
def test_a_read_only_cache_is_read_and_left_alone(library: str) -> None:
    # Not pytest's folder, which only its owner may enter.
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        folder.chmod(0o755)
        model = write_matrix(folder / "model.onnx", WEIGHTS)
        cache = folder / "cache"
        wanted = answers(open_model(model, library, cache=cache))
        made = {file: file.stat().st_mtime_ns for file in cache.iterdir()}
        cache.chmod(0o555)
        try:
            with as_nobody():
                assert answers(open_model(model, library, cache=cache)) == wanted
                with pytest.raises(PermissionError):
                    (cache / "new").touch()
            assert {file: file.stat().st_mtime_ns for file in cache.iterdir()} == made
        finally:
            cache.chmod(0o700)


def test_an_artefact_of_another_processor_or_version_has_another_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = key_of("onnx", "1.2", "abc")
    assert here == key_of("onnx", "1.2", "abc")
    assert here != key_of("onnx", "1.3", "abc")
    monkeypatch.setattr(platform, "machine", lambda: "another")
    assert here != key_of("onnx", "1.2", "abc")


def test_what_was_unused_for_longest_makes_room(cache: Path) -> None:
    kept = Artefacts(cache, limit_bytes=250)
    old = [kept.keep(f"old{n}", ".x", write(b"%d" % n * 100)) for n in range(2)]
    for at, file in enumerate(old):
        assert file is not None
        os.utime(file, (at, at))
    assert kept.find("old0") == old[0]  # used just now, so the other is the older
    new = kept.keep("new", ".x", write(b"n" * 100))
    assert set(cache.iterdir()) == {old[0], new}


def test_what_is_larger_than_the_limit_is_not_kept(
    cache: Path, log: pytest.LogCaptureFixture
) -> None:
    kept = Artefacts(cache, limit_bytes=10)
    assert kept.keep("small", ".x", write(b"s")) is not None
    assert kept.keep("large", ".x", write(b"l" * 11)) is None
    assert kept.find("small") is not None
    assert len(list(cache.iterdir())) == 1
    assert "artefacts.too_large" in log.text


def test_a_writer_that_fails_leaves_nothing_behind(cache: Path) -> None:
    def fails(path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("the library gave up")

    with pytest.raises(RuntimeError):
        Artefacts(cache).keep("key", ".x", fails)
    assert list(cache.iterdir()) == []


def test_what_a_killed_process_left_half_written_is_never_taken(cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "key-123.part").write_bytes(b"half")
    assert Artefacts(cache).find("key") is None
