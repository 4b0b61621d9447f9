"""Nothing tracked is somebody else's: no shared data, no index host, no path of this machine."""

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.house.tree import ROOT, tracked_files

# The shared sets, whole and by array, so that no copy passes where the data is absent.
SHARED = {
    "5b6d2c4c694a91887af8ab7d039c04f80af3c29378d731c93a538d2e831aa469": "fashion_mnist.npz",
    "fa55843a054d8d313e1599d2541666e5febd6f186948f84db90dd89f854fa02e": "fashion_mnist x_train",
    "efa44c2e191352e6f338f69c404dcc5c8c636ff9c237875b7fbf289f568c064c": "fashion_mnist y_train",
    "fa687ea6e35cd511e68bc9cd5049edbadf6eb7dfde574e880a3325309e5aadfd": "fashion_mnist x_test",
    "dc8f8f1192c27394f85487043710db3a9b18d51be2c3bca478bf94dfff9dd146": "fashion_mnist y_test",
    "1347fc041e69d1346e9ea260f05dd566df7b8b4e9fd46672cd74c8054d206f5d": "har_phone_watch.npz",
    "7dbb65f5c662aeae6082f665f6da5d64809cab1102bfcd763477d835aeb03c9d": "har_phone_watch x",
    "8d13e4e92903ab3360e795ad613d71953953b6519a5c1e33ed739d62bc3289ad": "har_phone_watch y",
    "d1ef65f63709b5ef0295df1d2a47fd1b23a7822f8c3915585bfb0f071593a082": "har_phone_watch subject",
}

pytestmark = pytest.mark.skipif(
    not (ROOT / ".git").exists(), reason="not a git checkout, so nobody knows what is tracked"
)


@cache
def contents() -> dict[Path, bytes]:
    return {file.relative_to(ROOT): file.read_bytes() for file in tracked_files()}


def parts(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    """A file and, when it is an archive, what is in it."""
    yield name, content
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.namelist():
                yield from parts(f"{name}!{member}", archive.read(member))


def every_part() -> Iterator[tuple[str, bytes]]:
    for path, content in contents().items():
        yield from parts(str(path), content)


def settings_of(*command: str) -> str:
    """What a tool says of its own configuration; nothing when it is not here."""
    if shutil.which(command[0]) is None:
        return ""
    # npm run inside a project adds the project's own .npmrc; outside it tells the machine's.
    return subprocess.run(command, capture_output=True, text=True, cwd="/").stdout


def index_hosts() -> set[str]:
    """The hosts, or folders, from which this machine installs: pip's, uv's and npm's."""
    told = [
        settings_of(sys.executable, "-m", "pip", "config", "list"),
        settings_of("npm", "config", "get", "registry"),
        *(value for name, value in os.environ.items() if name.startswith(("UV_", "PIP_", "NPM_"))),
    ]
    config = Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config"))
    files = (Path("/etc/uv/uv.toml"), config / "uv" / "uv.toml")
    told += [file.read_text() for file in files if file.exists()]
    places = [urlsplit(url) for url in re.findall(r"\w+://[^\s'\"]+", "\n".join(told))]
    return {place.hostname or place.path for place in places}


def machine_paths() -> list[re.Pattern[bytes]]:
    """Absolute folders that mean something on one machine only."""
    folders = {"/" + "work", "/" + "root"}
    # One short component is too common a word to search for.
    folders |= {str(own) for own in (ROOT, Path.home()) if len(own.parts) > 2}
    return [
        re.compile(rb"(?<![\w.-])" + re.escape(folder.encode()) + rb"/")
        for folder in sorted(folders)
    ]


def test_no_tracked_file_is_a_copy_of_shared_data() -> None:
    copies = {
        f"{name} is {SHARED[digest]}"
        for name, content in every_part()
        if (digest := hashlib.sha256(content).hexdigest()) in SHARED
    }
    assert copies == set()


def test_no_tracked_file_names_the_index_of_this_machine() -> None:
    hosts = [host.encode() for host in sorted(index_hosts())]
    found = {
        f"{name} names {host.decode()}"
        for name, content in every_part()
        for host in hosts
        if host in content
    }
    assert found == set()


def test_no_tracked_file_names_a_folder_of_this_machine() -> None:
    found = {
        f"{name}: {match[0].decode()}"
        for folder in machine_paths()
        for name, content in every_part()
        for match in folder.finditer(content)
    }
    assert found == set()
