"""The fetching process against a gateway that serves what it should not: each has its own name."""

import contextlib
import hashlib
import http.server
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import zstandard

from edge_agent.update import fetch
from edge_agent.update.job import Failed, Fetched, FromFolder, FromGateway, Job, Outcome, Refused
from models.release import ArchiveRef, Packed, prepare, sign
from models.twins import build_twin
from sync.trust import keys

KEY = keys.generate()


class Shelf:
    """What the gateway serves under each path, and how."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.status = 200
        self.cut_short = 0
        self.asked: list[str] = []
        self.url = ""


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    it = Shelf()

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            it.asked.append(self.path)
            body = it.files.get(self.path.removeprefix("/v1/packages/sides/1.0.0/"), b"")
            if it.status != 200:
                body = b'{"code":"overloaded","detail":"too much to do"}'
            assert self.headers["Authorization"] == "Bearer secret"
            self.send_response(it.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # a device need not hear us out
                self.wfile.write(body[: len(body) - it.cut_short])

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
    it.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield it
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    return prepare(build_twin("sides", "1.0.0", tmp_path_factory.mktemp("built") / "package"))


def job(shelf: Shelf, folder: Path, *, max_bytes: int = 1 << 20) -> Job:
    token = folder / "token"
    token.write_text("secret\n")
    source = FromGateway(shelf.url, str(token), keys.public_text(KEY))
    return Job("sides", "1.0.0", source, str(folder / "sides"), max_bytes)


def put(shelf: Shelf, packed: Packed) -> None:
    shelf.files = {"release": sign(packed.release, KEY), "archive": packed.edge}


def refused(outcome: Outcome) -> str:
    assert isinstance(outcome, Refused), outcome
    assert len(outcome.reason) > 30, "says what happened, to what, and what to do"
    return outcome.code


def test_a_good_package_is_on_the_disk_whole(shelf: Shelf, tmp_path: Path, packed: Packed) -> None:
    put(shelf, packed)
    outcome = fetch.perform(job(shelf, tmp_path))
    digest = packed.release.edge.sha256
    assert outcome == Fetched("1.0.0", digest)
    assert (tmp_path / "sides" / digest / "manifest.json").exists()


def test_what_is_there_already_is_not_downloaded_again(
    shelf: Shelf, tmp_path: Path, packed: Packed
) -> None:
    put(shelf, packed)
    fetch.perform(job(shelf, tmp_path))
    shelf.asked.clear()
    assert isinstance(fetch.perform(job(shelf, tmp_path)), Fetched)
    assert [path.rpartition("/")[2] for path in shelf.asked] == ["release"]
    manifest = tmp_path / "sides" / packed.release.edge.sha256 / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b" ")
    assert isinstance(fetch.perform(job(shelf, tmp_path)), Fetched)
    assert [path.rpartition("/")[2] for path in shelf.asked][-1] == "archive"


def other_key(shelf: Shelf, packed: Packed) -> None:
    shelf.files["release"] = sign(packed.release, keys.generate())


def altered_release(shelf: Shelf, packed: Packed) -> None:
    shelf.files["release"] = shelf.files["release"].replace(b'"1.0.0"', b'"1.0.1"')


def no_release(shelf: Shelf, packed: Packed) -> None:
    shelf.files["release"] = b"<html>welcome to the hotel</html>"


def newer_release(shelf: Shelf, packed: Packed) -> None:
    shelf.files["release"] = shelf.files["release"].replace(b'"format": 1', b'"format": 2')


def another_release(shelf: Shelf, packed: Packed) -> None:
    release = msgspec.structs.replace(packed.release, version="0.9.0")
    shelf.files["release"] = sign(release, KEY)


def altered_archive(shelf: Shelf, packed: Packed) -> None:
    body = bytearray(packed.edge)
    body[len(body) // 2] ^= 1
    shelf.files["archive"] = bytes(body)


def truncated_archive(shelf: Shelf, packed: Packed) -> None:
    shelf.files["archive"] = packed.edge[:-10]


def endless_archive(shelf: Shelf, packed: Packed) -> None:
    shelf.files["archive"] = packed.edge + b"\0" * (8 << 20)


def large_archive(shelf: Shelf, packed: Packed) -> None:
    shelf.files["release"] = sign(
        msgspec.structs.replace(packed.release, edge=ArchiveRef("0" * 64, 1 << 40)), KEY
    )


def signed_bytes(shelf: Shelf, packed: Packed, archive: bytes) -> None:
    """Even who holds the key cannot make a device swallow these."""
    ref = ArchiveRef(hashlib.sha256(archive).hexdigest(), len(archive))
    shelf.files["release"] = sign(msgspec.structs.replace(packed.release, edge=ref), KEY)
    shelf.files["archive"] = archive


def signed_noise(shelf: Shelf, packed: Packed) -> None:
    signed_bytes(shelf, packed, b"not an archive at all")


def signed_bomb(shelf: Shelf, packed: Packed) -> None:
    signed_bytes(shelf, packed, zstandard.compress(b"\0" * (1 << 28), 1))


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (other_key, "signature_invalid"),
        (altered_release, "signature_invalid"),
        (no_release, "release_invalid"),
        (newer_release, "unknown_format"),
        (another_release, "wrong_release"),
        (altered_archive, "hash_mismatch"),
        (truncated_archive, "hash_mismatch"),
        (endless_archive, "hash_mismatch"),
        (large_archive, "archive_too_large"),
        (signed_noise, "archive_damaged"),
        (signed_bomb, "archive_too_large"),
    ],
)
def test_a_bad_package_is_refused_by_name_and_leaves_nothing(
    shelf: Shelf,
    tmp_path: Path,
    packed: Packed,
    harm: Callable[[Shelf, Packed], None],
    code: str,
) -> None:
    put(shelf, packed)
    harm(shelf, packed)
    assert refused(fetch.perform(job(shelf, tmp_path))) == code
    left = list((tmp_path / "sides").iterdir()) if (tmp_path / "sides").exists() else []
    assert left == []


def test_trouble_on_the_way_is_no_refusal(shelf: Shelf, tmp_path: Path, packed: Packed) -> None:
    put(shelf, packed)
    shelf.status = 503
    told = fetch.perform(job(shelf, tmp_path))
    assert told == Failed("overloaded", "the gateway said 503: too much to do")
    shelf.status = 200
    shelf.cut_short = 20
    cut = fetch.perform(job(shelf, tmp_path))
    assert isinstance(cut, Failed)
    assert cut.code == "link_down"
    shelf.url = "http://127.0.0.1:9"
    gone = fetch.perform(job(shelf, tmp_path))
    assert isinstance(gone, Failed)
    assert gone.code == "link_down"


def test_a_disk_that_cannot_be_written_is_no_refusal(
    shelf: Shelf, tmp_path: Path, packed: Packed
) -> None:
    put(shelf, packed)
    (tmp_path / "sides").write_text("a file where the folder should be")
    told = fetch.perform(job(shelf, tmp_path))
    assert isinstance(told, Failed)
    assert told.code == "disk"


def test_a_local_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    built = build_twin("sides", "1.0.0", tmp_path / "built")
    asked = Job("sides", "1.0.0", FromFolder(str(built)), str(tmp_path / "sides"), 0)
    outcome = fetch.perform(asked)
    assert isinstance(outcome, Fetched)
    assert (tmp_path / "sides" / outcome.digest / "manifest.json").exists()


def test_the_process_says_its_outcome_on_one_line_and_by_its_exit_code(
    shelf: Shelf, tmp_path: Path, packed: Packed
) -> None:
    put(shelf, packed)
    command = [sys.executable, "-P", "-m", "edge_agent.update.fetch"]
    asked = msgspec.json.encode(job(shelf, tmp_path))
    good = subprocess.run(command, input=asked, capture_output=True, check=False)
    assert good.returncode == 0
    assert msgspec.json.decode(good.stdout, type=Outcome) == Fetched(
        "1.0.0", packed.release.edge.sha256
    )
    other_key(shelf, packed)
    bad = subprocess.run(command, input=asked, capture_output=True, check=False)
    assert bad.returncode == 3
    assert good.stdout.count(b"\n") == bad.stdout.count(b"\n") == 1
