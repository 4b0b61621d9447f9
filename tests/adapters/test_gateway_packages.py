"""Publishing, desiring and fetching packages. The gateway stores; it vouches for nothing."""

import asyncio
import hashlib
from pathlib import Path

import pytest
from msgspec import structs

from cloud_gateway import admin
from cloud_gateway.errors import BadKeyPlace, BadRange
from cloud_gateway.packages.routes import byte_range
from cloud_gateway.shapes import PUBLISHER
from models import package, release
from models.errors import HashMismatch
from models.manifest import Role
from models.release import MAX_DOCUMENT, check_archive, open_signed
from models.twins import build_twin
from sync.trust import keys
from sync.wire import v1
from tests.asgi_gateway import PLAIN, TASK, AsgiDevice, asgi_gateway

RELEASE = f"/v1/packages/{TASK}/1/release"
ARCHIVE = f"/v1/packages/{TASK}/1/archive"


async def desired(device: AsgiDevice) -> tuple[v1.Desired, ...]:
    beat = v1.Beat(device.name, "i1", 1, 10.0, "http", (), (), 0, 0, 0, "0.1.0")
    reply = await device.up(beat)
    assert isinstance(reply, v1.BeatReply)
    return reply.desired


def test_a_device_gets_the_release_and_archive_its_publisher_signed(tmp_path: Path) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path / "data") as made:
            packed = await made.publish_twin("1", tmp_path)
            device = await made.add("d1")
            found = await device.get(RELEASE)
            opened = open_signed(found.content, keys.load_public(keys.public_text(made.key)))
            assert opened == packed.release
            archive = await device.get(ARCHIVE)
            check_archive(archive.content, opened, Role.EDGE)
            into = package.unpack(archive.content, tmp_path / "unpacked")
            assert package.read(into, Role.EDGE).manifest.version == "1"
            assert archive.headers["content-length"] == str(len(packed.edge))

    asyncio.run(check())


def test_an_interrupted_download_goes_on_where_it_ended(tmp_path: Path) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path / "data") as made:
            packed = await made.publish_twin("1", tmp_path)
            device = await made.add("d1")
            first = await device.get(ARCHIVE, Range="bytes=0-99")
            assert (first.status_code, len(first.content)) == (206, 100)
            assert first.headers["content-range"] == f"bytes 0-99/{len(packed.edge)}"
            rest = await device.get(
                ARCHIVE, Range="bytes=100-", **{"If-Range": first.headers["etag"]}
            )
            assert first.content + rest.content == packed.edge
            # The rest of something else would not fit: then all of it comes again.
            other = await device.get(ARCHIVE, Range="bytes=100-", **{"If-Range": '"other"'})
            assert (other.status_code, other.content) == (200, packed.edge)
            beyond = await device.get(ARCHIVE, Range=f"bytes={len(packed.edge)}-")
            assert (beyond.status_code, beyond.json()["code"]) == (416, "bad_range")

    asyncio.run(check())


def test_ranges_of_bytes() -> None:
    assert byte_range("bytes=0-", 10) == (0, 10)
    assert byte_range("bytes=3-5", 10) == (3, 6)
    assert byte_range("bytes=3-99", 10) == (3, 10)
    assert byte_range("bytes=-4", 10) == (6, 10)
    assert byte_range("bytes=-99", 10) == (0, 10)
    for bad in ("bytes=10-", "bytes=5-3", "bytes=-", "bytes=0-1,3-4", "lines=1-2", "bytes=-0", ""):
        with pytest.raises(BadRange):
            byte_range(bad, 10)


def test_an_archive_altered_on_disk_is_served_as_it_lies(tmp_path: Path) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path / "data") as made:
            packed = await made.publish_twin("1", tmp_path)
            device = await made.add("d1")
            sha256 = packed.release.edge.sha256
            path = tmp_path / "data" / "blobs" / sha256[:2] / sha256
            path.write_bytes(packed.edge[:-1] + bytes([packed.edge[-1] ^ 1]))
            archive = await device.get(ARCHIVE)
            assert archive.status_code == 200
            with pytest.raises(HashMismatch):
                check_archive(archive.content, packed.release, Role.EDGE)
            path.unlink()
            gone = await device.get(ARCHIVE)
            assert (gone.status_code, gone.json()["code"]) == (409, "blob_missing")

    asyncio.run(check())


def test_what_the_wrong_key_signed_is_refused_and_nothing_is_published(tmp_path: Path) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path / "data") as made:
            packed = release.prepare(build_twin(TASK, "1", tmp_path / "one"))
            await made.upload(packed)
            right = release.sign(packed.release, made.key)
            documents = {
                "signature_invalid": release.sign(packed.release, keys.generate()),
                "release_invalid": b'{"release": {"format": 1}}',
                "unknown_format": right.replace(b'"format": 1', b'"format": 2'),
            }
            documents["signature_invalid"] = right.replace(b'"version": "1"', b'"version": "9"')
            for code, document in documents.items():
                answer = await made.http.post(
                    "/v1/admin/releases", content=document, headers=made.admin
                )
                assert (answer.status_code, answer.json()["code"]) == (400, code)
            answer = await made.http.post(
                "/v1/admin/releases", content=bytes(MAX_DOCUMENT + 1), headers=made.admin
            )
            assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
            listed = await made.http.get("/v1/admin/releases", headers=made.admin)
            assert listed.json() == {"releases": []}

    asyncio.run(check())


def test_a_release_comes_after_its_archives_and_a_version_never_changes(tmp_path: Path) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path / "data") as made:
            packed = release.prepare(build_twin(TASK, "1", tmp_path / "one"))
            document = release.sign(packed.release, made.key)

            async def publish(body: bytes) -> tuple[int, str]:
                answer = await made.http.post(
                    "/v1/admin/releases", content=body, headers=made.admin
                )
                return answer.status_code, answer.json().get("code", "")

            assert await publish(document) == (409, "blob_missing")
            await made.upload(packed)
            assert await publish(document) == (201, "")
            assert await publish(document) == (200, "")
            other = release.prepare(build_twin(TASK, "1", tmp_path / "other", temperature=2.0))
            await made.upload(other)
            assert await publish(release.sign(other.release, made.key)) == (409, "version_exists")
            listed = (await made.http.get("/v1/admin/releases", headers=made.admin)).json()
            assert [(one["version"], one["served"]) for one in listed["releases"]] == [("1", True)]

    asyncio.run(check())


def test_an_archive_under_another_name_is_not_kept(tmp_path: Path) -> None:
    small = structs.replace(PLAIN, max_archive_bytes=1000)

    async def check() -> None:
        async with asgi_gateway(tmp_path / "data", small) as made:
            name = hashlib.sha256(b"one").hexdigest()

            async def put(sha256: str, content: bytes) -> tuple[int, str]:
                answer = await made.http.put(
                    f"/v1/admin/blobs/{sha256}", content=content, headers=made.admin
                )
                return answer.status_code, answer.json().get("code", "")

            assert await put(name, b"another") == (400, "blob_mismatch")
            assert await put(name, bytes(1001)) == (413, "body_too_large")
            assert await put("0" * 63, b"one") == (400, "bad_request")
            assert await put(name.upper(), b"one") == (400, "bad_request")
            assert [one for one in (tmp_path / "data/blobs").rglob("*") if one.is_file()] == []
            assert await put(name, b"one") == (201, "")
            assert await put(name, b"one") == (200, "")

    asyncio.run(check())


def test_without_a_publishers_key_nothing_is_published(tmp_path: Path) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path / "data") as made:
            packed = release.prepare(build_twin(TASK, "1", tmp_path / "one"))
            await made.upload(packed)
            (tmp_path / "data" / PUBLISHER).unlink()
            answer = await made.http.post(
                "/v1/admin/releases",
                content=release.sign(packed.release, made.key),
                headers=made.admin,
            )
            assert (answer.status_code, answer.json()["code"]) == (409, "no_publisher_key")

    asyncio.run(check())


def test_a_devices_own_version_wins_until_all_get_another(tmp_path: Path) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path / "data") as made:
            for version in ("1", "2", "3"):
                await made.publish_twin(version, tmp_path)
            first, second = await made.add("d1"), await made.add("d2")
            assert await desired(first) == ()
            assert (await made.desire("1")).status_code == 204
            assert await desired(first) == (v1.Desired(TASK, "1"),)
            await made.desire("2", "d1")
            assert await desired(first) == (v1.Desired(TASK, "2"),)
            assert await desired(second) == (v1.Desired(TASK, "1"),)
            await made.desire("3")
            assert await desired(first) == await desired(second) == (v1.Desired(TASK, "3"),)
            await made.desire("2", "d2")
        async with asgi_gateway(tmp_path / "data") as made:
            again = AsgiDevice("d2", second.token, made.http)
            assert await desired(again) == (v1.Desired(TASK, "2"),)
            assert await desired(AsgiDevice("d1", first.token, made.http)) == (
                v1.Desired(TASK, "3"),
            )

    asyncio.run(check())


def test_a_wish_for_what_there_is_not_changes_nothing(tmp_path: Path) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path / "data") as made:
            await made.publish_twin("1", tmp_path)
            device = await made.add("d1")
            table = [
                ({"task": "odd", "version": "1", "all": True}, 404, "unknown_task"),
                ({"task": TASK, "version": "9", "all": True}, 404, "unknown_release"),
                ({"task": TASK, "version": "1", "devices": ["d9"]}, 404, "unknown_device"),
                ({"task": TASK, "version": "1"}, 400, "bad_request"),
                (
                    {"task": TASK, "version": "1", "devices": ["d1"], "all": True},
                    400,
                    "bad_request",
                ),
                ({"task": TASK, "version": "1", "al": True}, 400, "bad_request"),
                ({"task": TASK}, 400, "bad_request"),
            ]
            for body, status, code in table:
                answer = await made.http.put("/v1/admin/desired", json=body, headers=made.admin)
                assert (answer.status_code, answer.json()["code"]) == (status, code), body
            assert await desired(device) == ()
            for path in (RELEASE, ARCHIVE):
                odd = await device.get(path.replace(TASK, "odd"))
                assert (odd.status_code, odd.json()["code"]) == (404, "unknown_task")
                odd = await device.get(path.replace("/1/", "/9/"))
                assert (odd.status_code, odd.json()["code"]) == (404, "unknown_release")

    asyncio.run(check())


def test_the_signing_key_is_made_once_outside_the_gateways_folder(tmp_path: Path) -> None:
    data, private = tmp_path / "data", tmp_path / "keys" / "publisher.key"
    public = admin.make_key(data, private)
    assert private.stat().st_mode & 0o777 == 0o600
    assert (data / PUBLISHER).read_text().strip() == public
    # The same key may be trusted by a second gateway; making it again changes nothing.
    assert admin.make_key(data, private) == public
    assert admin.make_key(tmp_path / "second", private) == public
    with pytest.raises(BadKeyPlace, match="another key"):
        admin.make_key(data, tmp_path / "keys" / "other.key")
    with pytest.raises(BadKeyPlace, match="own folder"):
        admin.make_key(data, data / "publisher.key")
