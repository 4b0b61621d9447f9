"""Bad packages, one table per surface: archives, folders, manifests.

Each gets an error of its own that names the thing and the next step, and leaves nothing behind.
"""

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from msgspec import msgpack

from models import archive, package
from models.archive import Entry
from models.errors import (
    ArchiveDamaged,
    ArchiveTooLarge,
    FileMissing,
    HashMismatch,
    ManifestInvalid,
    PackageError,
    UnknownFormat,
)
from models.golden import read_samples
from models.manifest import MAX_BYTES, Golden, Role, TensorSpec, decode
from tests.tiny_models import build_tiny

Json = dict[str, object]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def edge(folder: Path) -> bytes:
    return package.pack(folder, Role.EDGE)


def names_in(path: Path) -> list[str]:
    return sorted(found.name for found in path.iterdir())


def wrapped(plain: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(plain)


def plain_of(packed: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(packed)


# Archives.


def test_every_truncation_is_refused_and_leaves_nothing(edge: bytes, tmp_path: Path) -> None:
    for length in range(len(edge)):
        with pytest.raises((ArchiveDamaged, ArchiveTooLarge)) as caught:
            package.unpack(edge[:length], tmp_path / "p")
        assert "fetch it again" in str(caught.value) or "do not use it" in str(caught.value)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("bit", [0x01, 0x20, 0x80])
def test_an_altered_byte_is_refused_or_changes_nothing(edge: bytes, bit: int) -> None:
    whole = archive.unpack(edge)
    survived = 0
    for at in range(len(edge)):
        altered = bytearray(edge)
        altered[at] ^= bit
        try:
            assert archive.unpack(bytes(altered)) == whole
            survived += 1
        except PackageError:
            pass
    assert survived <= 10  # zstd has a few bits nobody reads


def test_under_an_honest_frame_only_the_manifests_own_words_can_change(
    edge: bytes, tmp_path: Path
) -> None:
    plain = plain_of(edge)
    manifest = archive.unpack(edge)[-1].data  # its hash is in the release, not in itself
    begin = plain.index(manifest)
    for at in (*range(begin), *range(begin + len(manifest), len(plain))):
        altered = bytearray(plain)
        altered[at] ^= 0x01
        with pytest.raises(PackageError):
            package.unpack(wrapped(bytes(altered)), tmp_path / "p")
    assert names_in(tmp_path) == []


@given(st.binary(max_size=4000))
def test_no_bytes_at_all_escape_as_another_exception(data: bytes) -> None:
    for packed in (data, wrapped(data)):
        with pytest.raises(PackageError):
            archive.unpack(packed)


def tar_of(*members: tarfile.TarInfo, form: int = tarfile.USTAR_FORMAT) -> bytes:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=form) as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    return wrapped(plain.getvalue())


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.size, found.linkname = kind, size, "/etc/passwd"
    return found


def plain_bomb() -> bytes:
    """64 MiB and a byte of zeros, and a frame that says so."""
    return zstandard.ZstdCompressor().compress(bytes(archive.MAX_UNPACKED + 1))


def silent_bomb() -> bytes:
    """The same, in a frame that does not say how much it holds."""
    squeeze = zstandard.ZstdCompressor().compressobj()
    return squeeze.compress(bytes(archive.MAX_UNPACKED + 1)) + squeeze.flush()


def lying_bomb() -> bytes:
    """The same, in a frame that says it holds a hundred bytes."""
    params = zstandard.ZstdCompressionParameters(write_content_size=True, window_log=17)
    honest = zstandard.ZstdCompressor(compression_params=params).compress(bytes(20 << 20))
    size = zstandard.frame_content_size(honest)
    at = honest.index(size.to_bytes(4, "little"))
    return honest[:at] + (100).to_bytes(4, "little") + honest[at + 4 :]


BAD_ARCHIVES: dict[str, tuple[Callable[[], bytes], type[PackageError], str, str]] = {
    "nothing": (lambda: b"", ArchiveDamaged, "archive_damaged", "archive of 0 bytes"),
    "not zstd": (lambda: b"PK\3\4" * 50, ArchiveDamaged, "archive_damaged", "no whole zstd frame"),
    "not a tar": (lambda: wrapped(b"hello" * 300), ArchiveDamaged, "archive_damaged", "not ustar"),
    "half a header": (lambda: wrapped(b"a" * 99), ArchiveDamaged, "archive_damaged", "inside a he"),
    "empty": (tar_of, ArchiveDamaged, "archive_damaged", "holds no manifest.json"),
    "two frames": (
        lambda: tar_of() + tar_of(),
        ArchiveDamaged,
        "archive_damaged",
        "no whole zstd frame",
    ),
    "bomb": (plain_bomb, ArchiveTooLarge, "archive_too_large", "unpacks to 67108865 bytes, over"),
    "silent bomb": (silent_bomb, ArchiveDamaged, "archive_damaged", "does not say how much"),
    "lying bomb": (lying_bomb, ArchiveDamaged, "archive_damaged", "no whole zstd frame"),
    "too large": (
        lambda: bytes(archive.MAX_PACKED + 1),
        ArchiveTooLarge,
        "archive_too_large",
        "archive has 67108865 bytes",
    ),
    "too many files": (
        lambda: tar_of(*(member(f"f{at:03}") for at in range(257))),
        ArchiveTooLarge,
        "archive_too_large",
        "more than 256 files",
    ),
    "a way up": (
        lambda: tar_of(member("../evil")),
        ArchiveDamaged,
        "archive_damaged",
        "'../evil' is no plain file name",
    ),
    "a way inside and up": (
        lambda: tar_of(member("a/../../evil")),
        ArchiveDamaged,
        "archive_damaged",
        "one flat folder",
    ),
    "an absolute name": (
        lambda: tar_of(member("/etc/evil")),
        ArchiveDamaged,
        "archive_damaged",
        "'/etc/evil'",
    ),
    "a sub-folder": (
        lambda: tar_of(member("a/b")),
        ArchiveDamaged,
        "archive_damaged",
        "'a/b' is no plain file name",
    ),
    "a hidden name": (
        lambda: tar_of(member(".part")),
        ArchiveDamaged,
        "archive_damaged",
        "'.part'",
    ),
    "a split name": (
        lambda: tar_of(member("d" * 90 + "/" + "f" * 90)),
        ArchiveDamaged,
        "archive_damaged",
        "no plain file name",
    ),
    "a name that is no text": (
        lambda: tar_of(member("\udcff\udcfe")),
        ArchiveDamaged,
        "archive_damaged",
        r"'\\xff\\xfe'",
    ),
    "a symbolic link": (
        lambda: tar_of(member("edge.onnx", tarfile.SYMTYPE)),
        ArchiveDamaged,
        "archive_damaged",
        "'edge.onnx' is a symbolic link",
    ),
    "a hard link": (
        lambda: tar_of(member("edge.onnx", tarfile.LNKTYPE)),
        ArchiveDamaged,
        "archive_damaged",
        "a hard link",
    ),
    "a folder": (
        lambda: tar_of(member("d", tarfile.DIRTYPE)),
        ArchiveDamaged,
        "archive_damaged",
        "a folder",
    ),
    "a device": (
        lambda: tar_of(member("null", tarfile.CHRTYPE)),
        ArchiveDamaged,
        "archive_damaged",
        "a device",
    ),
    "a pipe": (
        lambda: tar_of(member("p", tarfile.FIFOTYPE)),
        ArchiveDamaged,
        "archive_damaged",
        "a pipe",
    ),
    "a sparse file": (
        lambda: tar_of(member("big", b"S", 512)),
        ArchiveDamaged,
        "archive_damaged",
        "no plain file",
    ),
    "an extended header": (
        lambda: tar_of(member("ä" * 60), form=tarfile.PAX_FORMAT),
        ArchiveDamaged,
        "archive_damaged",
        "holds plain files only",
    ),
    "a name twice": (
        lambda: tar_of(member("a"), member("a")),
        ArchiveDamaged,
        "archive_damaged",
        "'a' is there twice or out of order",
    ),
    "names out of order": (
        lambda: tar_of(member("b"), member("a")),
        ArchiveDamaged,
        "archive_damaged",
        "out of order",
    ),
}


@pytest.mark.parametrize("name", BAD_ARCHIVES)
def test_a_bad_archive_gets_its_own_error_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    make, error, code, says = BAD_ARCHIVES[name]
    with pytest.raises(error) as caught:
        package.unpack(make(), tmp_path / "p")
    assert caught.value.code == code
    assert says in str(caught.value)
    assert any(step in str(caught.value) for step in ("fetch it again", "do not use it", "is no p"))
    assert names_in(tmp_path) == []


def repacked(edge: bytes, change: Callable[[dict[str, bytes]], object]) -> bytes:
    files = {entry.name: entry.data for entry in archive.unpack(edge)}
    change(files)
    return archive.pack([Entry(name, data) for name, data in files.items()])


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda files: files.pop("edge.onnx"), ArchiveDamaged, "the files of neither half"),
        (
            lambda files: files.pop("figures.json"),
            ArchiveDamaged,
            "of neither half; fetch it again",
        ),
        (lambda files: files.pop("manifest.json"), ArchiveDamaged, "holds no manifest.json"),
        (lambda files: files.update(extra=b""), ArchiveDamaged, "'extra', which its manifest"),
        (
            lambda files: files.update({"edge.onnx": b"other"}),
            HashMismatch,
            "edge.onnx in the arch",
        ),
    ],
)
def test_an_archive_whose_files_are_not_its_manifests_is_refused(
    edge: bytes,
    tmp_path: Path,
    change: Callable[[dict[str, bytes]], object],
    error: type[PackageError],
    says: str,
) -> None:
    with pytest.raises(error, match=says):
        package.unpack(repacked(edge, change), tmp_path / "p")
    assert names_in(tmp_path) == []


def test_more_than_fits_an_archive_is_not_packed() -> None:
    with pytest.raises(ArchiveTooLarge, match="ship smaller models"):
        archive.pack([Entry(f"f{at}", b"") for at in range(257)])


# Folders and manifests.


@pytest.mark.parametrize(
    ("spoil", "error", "code", "says"),
    [
        (
            lambda target: (target / "edge.onnx").write_bytes(b"x"),
            HashMismatch,
            "hash_mismatch",
            "edge.onnx in",
        ),
        (
            lambda target: (target / "figures.json").write_bytes(b"{}"),
            HashMismatch,
            "hash_mismatch",
            "figures.json in",
        ),
        (
            lambda target: (target / "edge.onnx").unlink(),
            FileMissing,
            "file_missing",
            "edge.onnx is not there",
        ),
        (
            lambda target: (target / "manifest.json").unlink(),
            FileMissing,
            "file_missing",
            "manifest.json is not there",
        ),
        (
            lambda target: (target / "manifest.json").write_bytes(b"\xff\xfe"),
            ManifestInvalid,
            "manifest_invalid",
            "is not a manifest",
        ),
        (
            lambda target: (target / "edge.onnx").unlink() or (target / "edge.onnx").mkdir(),
            PackageError,
            "package_error",
            "cannot be read",
        ),
    ],
)
def test_a_damaged_folder_is_not_read(
    folder: Path,
    tmp_path: Path,
    spoil: Callable[[Path], object],
    error: type[PackageError],
    code: str,
    says: str,
) -> None:
    target = tmp_path / "p"
    shutil.copytree(folder, target)
    spoil(target)
    with pytest.raises(error) as caught:
        package.read(target, Role.EDGE)
    assert caught.value.code == code
    assert says in str(caught.value)


def put(manifest: Json, path: str, value: object) -> None:
    """Set `value` at a dotted path of keys and positions."""
    *way, last = path.split(".")
    at: object = manifest
    for key in way:
        match at:
            case dict():
                at = at[key]
            case list():
                at = at[int(key)]
    match at:
        case dict():
            at[last] = value
        case list():
            at[int(last)] = value


BAD_MANIFESTS: list[tuple[str, object, type[PackageError], str]] = [
    (
        "format",
        3,
        UnknownFormat,
        "has format 3, this Longstop reads format 2; install the Longstop",
    ),
    ("format", 0, UnknownFormat, "format 0"),
    ("format", "1", ManifestInvalid, "Expected `int`, got `str` - at `$.format`"),
    ("colour", "red", ManifestInvalid, "unknown field `colour`"),
    ("certificate.bugdet", 1, ManifestInvalid, "unknown field `bugdet` - at `$.certificate`"),
    ("input.units", "m", ManifestInvalid, "unknown field `units` - at `$.input`"),
    (
        "edge.nodes.0.steps.1.with",
        1,
        ManifestInvalid,
        "unknown field `with` - at `$.edge.nodes[0].steps[1]`",
    ),
    ("edge.nodes.0.steps.1.op", "blur", ManifestInvalid, "`$.edge.nodes[0].steps[1].op`"),
    ("edge.nodes.0.kind", "branch", ManifestInvalid, "`$.edge.nodes[0].kind`"),
    ("edge.nodes.0.after", "model", ManifestInvalid, "pipeline edge: node 'model': a cycle"),
    ("cloud.nodes.0.steps.3.shape", [7], ManifestInvalid, "node 'prepare': step 3: shape [7]"),
    ("cloud.output", "prepare", ManifestInvalid, "node 'model': the output does not need it"),
    ("cloud.output", "nobody", ManifestInvalid, "'nobody' is neither the input nor a node"),
    ("edge.nodes.1.file.path", "../edge.onnx", ManifestInvalid, "`$.edge.nodes[1].file.path`"),
    ("edge.nodes.1.file.path", "/etc/passwd", ManifestInvalid, "`$.edge.nodes[1].file.path`"),
    ("edge.nodes.1.file.path", "a\n", ManifestInvalid, "`$.edge.nodes[1].file.path`"),
    ("edge.nodes.1.file.path", "cloud.onnx", ManifestInvalid, "two files share a name"),
    ("edge.nodes.1.file.path", "manifest.json", ManifestInvalid, "two files share a name"),
    ("edge.nodes.1.file.sha256", "0" * 63, ManifestInvalid, "`$.edge.nodes[1].file.sha256`"),
    ("edge.nodes.1.form", "pickle", ManifestInvalid, "`$.edge.nodes[1].form`"),
    ("version", "../1", ManifestInvalid, "`$.version`"),
    ("task", "", ManifestInvalid, "`$.task`"),
    ("input", [], ManifestInvalid, "`$.input`"),
    ("input.shape", [], ManifestInvalid, "`$.input.shape`"),
    ("input.shape", [2, 0], ManifestInvalid, "`$.input.shape[1]`"),
    ("input.shape", [1 << 13, 1 << 13], ManifestInvalid, "more than 16777216 values"),
    ("input.dtype", "complex64", ManifestInvalid, "`$.input.dtype`"),
    ("input.dtype", "text", ManifestInvalid, "text has neither shape nor layout"),
    ("input.layout", "HWC", ManifestInvalid, "'HWC' names not each axis of [2, 3]"),
    ("edge.nodes.1.gives.0.shape", [4], ManifestInvalid, "node 'model': 3 labels need logits [3]"),
    ("answer.labels", ["a", "b"], ManifestInvalid, "2 labels need logits [2]"),
    ("answer.labels", ["a", "b", "a"], ManifestInvalid, "'a' is there more than once"),
    ("answer.kind", "guess", ManifestInvalid, "`$.answer.kind`"),
    ("certificate.threshold", 1.5, ManifestInvalid, "`$.certificate.threshold`"),
    ("certificate.threshold", None, ManifestInvalid, "keeps its promise has a threshold"),
    ("certificate.temperature", 0, ManifestInvalid, "`$.certificate.temperature`"),
    ("certificate.promise", "never wrong", ManifestInvalid, "`$.certificate.promise`"),
    ("golden.count", 3, ManifestInvalid, "2 answers for 3 golden inputs"),
    ("golden.high", -1, ManifestInvalid, "high must be above low"),
    ("golden.high", 1e300, ManifestInvalid, "`$.golden.high`"),
    ("certificate.curve", {"thresholds": [0.5], "bounds": [2]}, ManifestInvalid, "lie in [0, 1]"),
    (
        "certificate.curve",
        {"thresholds": [at / 2048 for at in range(1025)], "bounds": [0] * 1025},
        ManifestInvalid,
        "length <= 1024 - at `$.certificate.curve.thresholds`",
    ),
    (
        "certificate.gain",
        {"scores": [0], "gains": [0] * 1025, "weights": [1]},
        ManifestInvalid,
        "length <= 1024 - at `$.certificate.gain.gains`",
    ),
    (
        "answer.labels",
        [*(str(at) for at in range(100_000)), "last", "last"],
        ManifestInvalid,
        "'last' is there more than once",
    ),
    ("golden.edge.1", {}, ManifestInvalid, "`$.golden.edge[1]`"),
    ("golden.cloud.0.confidence", "sure", ManifestInvalid, "`$.golden.cloud[0].confidence`"),
]


@pytest.mark.parametrize(("path", "value", "error", "says"), BAD_MANIFESTS)
def test_a_bad_manifest_is_refused_with_the_place(
    folder: Path, path: str, value: object, error: type[PackageError], says: str
) -> None:
    manifest: Json = json.loads((folder / "manifest.json").read_bytes())
    put(manifest, path, value)
    with pytest.raises(error) as caught:
        decode(json.dumps(manifest).encode())
    assert caught.value.code in ("manifest_invalid", "unknown_format")
    assert says in str(caught.value)
    assert "manifest.json" in str(caught.value)
    assert any(step in str(caught.value) for step in ("again", "correct the declaration"))


def test_a_manifest_of_more_than_four_mebibytes_is_not_read(folder: Path) -> None:
    manifest: Json = json.loads((folder / "manifest.json").read_bytes())
    put(manifest, "certificate.note", "n" * MAX_BYTES)
    with pytest.raises(ManifestInvalid, match="the limit is 4194304; do not use the package"):
        decode(json.dumps(manifest).encode())


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"null", b"{", b"\xff", b'{"format": 2}', b'{"a":' + b"[" * 100_000],
)
def test_what_is_no_manifest_at_all_is_refused(data: bytes) -> None:
    with pytest.raises(ManifestInvalid, match="is not a manifest"):
        decode(data)


def test_golden_inputs_together_have_a_bound(folder: Path) -> None:
    manifest: Json = json.loads((folder / "manifest.json").read_bytes())
    side = 1 << 11
    put(manifest, "input.shape", [side, side])
    put(manifest, "edge.nodes.0.steps", [{"op": "cast", "dtype": "float32"}])
    put(manifest, "edge.nodes.1.gives.0.shape", [3])
    put(manifest, "cloud", manifest["edge"])
    put(manifest, "golden.count", 17)
    with pytest.raises(ManifestInvalid, match="golden inputs hold more than 67108864 values"):
        decode(json.dumps(manifest).encode())


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (msgpack.encode([b"a", b"b", b"c"]), "3 where the manifest says 2"),
        (b"\xdd\x00\xff\xff\xff" + b"\xc4\x01x" * 100, "length <= 64"),
        (b"\xdd\x00\x00\x00\x02\xc6\xff\xff\xff\xffx", "truncated"),
        (b"no msgpack", "Expected `array`"),
    ],
)
def test_a_file_of_golden_inputs_is_what_the_manifest_says(data: bytes, why: str) -> None:
    spec = TensorSpec("photo", "bytes")
    golden = Golden(0, 2, 0, 1, (), (), 0.01)
    with pytest.raises(ManifestInvalid, match=why):
        read_samples(spec, golden, data)


@pytest.mark.parametrize("key", ["name", "input", "edge", "answer", "certificate", "golden"])
def test_a_manifest_without_one_of_its_keys_is_refused(folder: Path, key: str) -> None:
    manifest: Json = json.loads((folder / "manifest.json").read_bytes())
    del manifest[key]
    with pytest.raises(ManifestInvalid, match=f"missing required field `{key}`"):
        decode(json.dumps(manifest).encode())


def test_a_newer_format_is_named_before_its_unknown_keys(folder: Path) -> None:
    manifest: Json = json.loads((folder / "manifest.json").read_bytes())
    manifest.update(format=7, novelty=True)
    with pytest.raises(UnknownFormat):
        decode(json.dumps(manifest).encode())
