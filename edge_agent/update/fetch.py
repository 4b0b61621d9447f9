"""A short process that brings one package onto the disk, verified, and ends.

It holds what the supervisor must not: HTTP client, signature library, decompressor. One job comes
in as JSON on standard input, one outcome goes out as JSON on standard output; the exit code is 0
for `Fetched` and 3 for the two others.

1. The release document is believed only if the enrolled key has signed it, and only for the task
   and version that were asked for.
2. No more is read than the release says the archive has; its SHA-256 is checked before anything in
   it is looked at.
3. A package that is on the disk already, whole, is not downloaded again.
"""

import logging
import signal
import sys
from pathlib import Path

import httpx
import msgspec
from msgspec import Struct

from edge_agent.update.job import (
    Failed,
    Fetched,
    FromFolder,
    FromGateway,
    Job,
    Outcome,
    Refused,
)
from models import package
from models.errors import ModelsError, PackageError
from models.manifest import Role
from models.release import MAX_DOCUMENT, Release, check_archive, check_manifest, open_signed
from sync.errors import LinkUntrusted, SettingsError, TrustError
from sync.transport import tls
from sync.trust.keys import load_public

FETCHED, NOT_FETCHED = 0, 3
CONNECT_S, SILENCE_S = 10.0, 30.0
PROGRESS_BYTES = 1 << 20

log = logging.getLogger(__name__)


class _Problem(Struct):
    """What the gateway says of an error (RFC 9457)."""

    code: str = "http_error"
    detail: str = "no reason given"


def main() -> int:
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s fetch %(levelname)s %(name)s %(message)s"
    )
    # Ctrl-C reaches every process of the terminal; when this one ends is the supervisor's to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A line for each of its requests would say less than ours.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    outcome = perform(msgspec.json.decode(sys.stdin.buffer.read(), type=Job))
    sys.stdout.buffer.write(msgspec.json.encode(outcome) + b"\n")
    return FETCHED if isinstance(outcome, Fetched) else NOT_FETCHED


def perform(job: Job) -> Outcome:
    """Bring the package; every trouble that was foreseen becomes an outcome."""
    try:
        match job.source:
            case FromGateway() as source:
                return _download(job, source)
            case FromFolder(path):
                return _copy(job, Path(path))
    except (ModelsError, TrustError) as error:
        return Refused(error.code, str(error))
    except httpx.HTTPStatusError as error:
        told = _problem(error.response)
        return Failed(told.code, f"the gateway said {error.response.status_code}: {told.detail}")
    except SettingsError as error:
        return Failed(error.code, str(error))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        found = tls.trouble("the gateway", error)
        if isinstance(found, LinkUntrusted):
            return Failed(found.code, str(found))
        return Failed("link_down", f"the gateway could not be read: {error!r}")
    except OSError as error:
        return Failed("disk", f"{error.filename or job.home} cannot be used: {error.strerror}")


def _copy(job: Job, folder: Path) -> Outcome:
    packed = package.pack(folder, Role.EDGE)
    digest = package.digest(packed)
    package.unpack(packed, Path(job.home) / digest)
    return Fetched(job.version, digest)


def _download(job: Job, source: FromGateway) -> Outcome:
    key = load_public(source.public_key)
    token = Path(source.token_file).read_text(encoding="utf-8").strip()
    with httpx.Client(
        base_url=f"{source.url}/v1/packages/{job.task}/{job.version}",
        headers={"Authorization": f"Bearer {token}", "Accept-Encoding": "identity"},
        timeout=httpx.Timeout(SILENCE_S, connect=CONNECT_S),
        trust_env=False,
        verify=tls.context(source.tls) if source.url.startswith("https:") else False,
    ) as client:
        release = open_signed(_read(client, "release", MAX_DOCUMENT), key)
        size = release.edge.size
        if (release.task, release.version) != (job.task, job.version):
            return Refused(
                "wrong_release",
                f"asked for {job.task} {job.version}, the gateway gave a signed release of"
                f" {release.task} {release.version}; it is not installed in its place",
            )
        if size > job.max_bytes:
            return Refused(
                "archive_too_large",
                f"the archive of {job.task} {job.version} has {size} bytes, this device takes"
                f" {job.max_bytes}; raise max_package_bytes if it has the room",
            )
        folder = Path(job.home) / release.edge.sha256
        if not _is_whole(folder, release):
            archive = _read(client, "archive", size)
            check_archive(archive, release, Role.EDGE)
            package.unpack(archive, folder)
            check_manifest((folder / package.MANIFEST).read_bytes(), release)
            log.info("fetch.unpacked task=%s version=%s bytes=%d", job.task, job.version, size)
    return Fetched(job.version, release.edge.sha256)


def _read(client: httpx.Client, what: str, most: int) -> bytes:
    """The body, or a little more than `most` of it: its hash then says that it is wrong."""
    data = bytearray()
    with client.stream("GET", what) as answer:
        if answer.is_error:
            answer.read()
            answer.raise_for_status()
        for piece in answer.iter_bytes():
            if (len(data) + len(piece)) // PROGRESS_BYTES > len(data) // PROGRESS_BYTES:
                log.info("fetch.progress what=%s bytes=%d of=%d", what, len(data), most)
            data += piece
            if len(data) > most:
                break
    return bytes(data)


def _is_whole(folder: Path, release: Release) -> bool:
    try:
        check_manifest((folder / package.MANIFEST).read_bytes(), release)
        package.read(folder, Role.EDGE)
    except (OSError, PackageError):
        return False
    return True


def _problem(response: httpx.Response) -> _Problem:
    try:
        return msgspec.json.decode(response.content, type=_Problem)
    except (msgspec.DecodeError, RecursionError):
        return _Problem()


if __name__ == "__main__":
    sys.exit(main())
