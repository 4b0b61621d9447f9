"""What the page is made of: other people's files are what they say, ours ask nobody outside."""

import hashlib
import re
from pathlib import Path

import msgspec
import pytest
from msgspec import Struct

from cloud_gateway.dashboard.assets import FOLDER, addresses, read_assets

VENDOR = FOLDER / "vendor"
TEMPLATES = FOLDER.parent / "templates"
OURS = sorted(
    [
        path
        for folder in (FOLDER, TEMPLATES)
        for path in folder.rglob("*")
        if path.is_file() and VENDOR not in path.parents
    ]
)


class Vendored(Struct, forbid_unknown_fields=True):
    """One package somebody else wrote, as VENDOR.json lists it."""

    name: str
    version: str
    licence: str
    source: str = msgspec.field(name="from")
    files: dict[str, str] = {}


def vendored() -> list[Vendored]:
    return msgspec.json.decode((VENDOR / "VENDOR.json").read_bytes(), type=list[Vendored])


def test_vendored_files_are_the_ones_that_were_taken() -> None:
    listed = {name: digest for one in vendored() for name, digest in one.files.items()}
    there = {
        path.relative_to(VENDOR).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDOR.rglob("*")
        if path.is_file() and path.name != "VENDOR.json"
    }
    assert there == listed


def test_vendored_packages_bring_their_licence() -> None:
    for one in vendored():
        licences = [name for name in one.files if "LICENSE" in name]
        assert licences, one.name
        for name in licences:
            assert one.licence in (VENDOR / name).read_text()


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_our_files_name_no_place_outside(path: Path) -> None:
    found = re.findall(r"\w+://[^\s\"')]+", path.read_text())
    assert found in ([], ["http://www.w3.org/2000/svg"]), "the page must not need the internet"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.js")), ids=lambda path: path.name)
def test_our_modules_import_each_other_and_put_no_html_into_the_page(path: Path) -> None:
    source = path.read_text()
    for target in re.findall(r'from "([^"]+)"', source):
        assert (FOLDER / target).is_file(), target
    assert not re.search(
        r"\.(inner|outer)HTML\s*=|insertAdjacentHTML|document\.write|eval\(", source
    )


def test_an_address_names_its_content() -> None:
    assets = read_assets()
    assert {"page.js", "page.css", "mark.svg", "vendor/uPlot.iife.min.js"} <= assets.keys()
    for name, address in addresses(assets).items():
        digest = hashlib.sha256((FOLDER / name).read_bytes()).hexdigest()
        assert address == f"/static/{name}?v={digest[:12]}"
