"""Who may do what: device tokens, the admin token, and the data folder itself."""

import asyncio
import stat
from pathlib import Path

import httpx
import pytest
from msgspec import structs

from cloud_gateway.broker.passwords import hash_password, matches, may
from cloud_gateway.errors import DataInUse
from sync.wire import v1
from tests.asgi_gateway import PLAIN, AsgiDevice, asgi_gateway


def beat(device: str) -> v1.Beat:
    return v1.Beat(device, "i1", 1, 10.0, "http", (), (), 0, 0, 0, "0.1.0")


def code_of(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    told = answer.json()
    assert told["status"] == answer.status_code
    # Every problem says what to do next, or at least what happened, in a sentence.
    assert len(told["detail"]) > 20
    return answer.status_code, told["code"]


def test_a_token_is_shown_once_and_the_admin_token_to_its_owner_alone(tmp_path: Path) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path) as made:
            device = await made.add("d1")
            listed = await made.http.get("/v1/admin/devices", headers=made.admin)
            assert [one["device"] for one in listed.json()["devices"]] == ["d1"]
            assert device.token not in listed.text

    asyncio.run(check())
    assert stat.S_IMODE((tmp_path / "admin.token").stat().st_mode) == 0o600


def test_no_file_of_the_gateway_holds_a_device_token(tmp_path: Path) -> None:
    async def check() -> str:
        async with asgi_gateway(tmp_path) as made:
            return (await made.add("d1")).token

    token = asyncio.run(check())
    assert not [
        one for one in tmp_path.rglob("*") if one.is_file() and token.encode() in one.read_bytes()
    ]


def test_a_removed_device_is_shut_out_at_its_next_request(tmp_path: Path) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path) as made:
            device, other = await made.add("d1"), await made.add("d2")
            assert isinstance(await device.up(beat("d1")), v1.BeatReply)
            gone = await made.http.delete("/v1/admin/devices/d1", headers=made.admin)
            assert gone.status_code == 204
            for path in ("/v1/packages/sides/1/release", "/v1/packages/sides/1/archive"):
                assert code_of(await device.get(path)) == (401, "token_revoked")
            answer = await made.http.post("/v1/up", content=b"x", headers=device.headers)
            assert code_of(answer) == (401, "token_revoked")
            assert isinstance(await other.up(beat("d2")), v1.BeatReply)
            # Back again, under a token of its own; the old one stays out.
            again = await made.add("d1")
            assert isinstance(await again.up(beat("d1")), v1.BeatReply)
            answer = await made.http.post("/v1/up", content=b"x", headers=device.headers)
            assert code_of(answer) == (401, "token_revoked")

    asyncio.run(check())


def test_doors_stay_as_they_were_over_a_restart(tmp_path: Path) -> None:
    async def first() -> tuple[AsgiDevice, AsgiDevice, dict[str, str]]:
        async with asgi_gateway(tmp_path) as made:
            kept, gone = await made.add("d1"), await made.add("d2")
            await made.http.delete("/v1/admin/devices/d2", headers=made.admin)
            return kept, gone, made.admin

    async def second(kept: AsgiDevice, gone: AsgiDevice, admin: dict[str, str]) -> None:
        async with asgi_gateway(tmp_path) as made:
            assert made.admin == admin
            answer = await made.http.post("/v1/up", content=b"x", headers=kept.headers)
            assert answer.status_code == 200
            answer = await made.http.post("/v1/up", content=b"x", headers=gone.headers)
            assert code_of(answer) == (401, "token_revoked")

    asyncio.run(second(*asyncio.run(first())))


@pytest.mark.parametrize(
    ("method", "path", "who", "status", "code"),
    [
        ("POST", "/v1/up", "nobody", 401, "unauthorised"),
        ("POST", "/v1/up", "stranger", 401, "unauthorised"),
        ("POST", "/v1/up", "basic", 401, "unauthorised"),
        ("POST", "/v1/up", "admin", 403, "forbidden"),
        ("POST", "/v2/models/sides/infer", "nobody", 401, "unauthorised"),
        ("GET", "/v1/packages/sides/1/release", "nobody", 401, "unauthorised"),
        ("GET", "/v1/packages/sides/1/archive", "nobody", 401, "unauthorised"),
        ("GET", "/v1/admin/devices", "nobody", 401, "unauthorised"),
        ("GET", "/v1/admin/devices", "device", 403, "forbidden"),
        ("POST", "/v1/admin/devices", "device", 403, "forbidden"),
        ("DELETE", "/v1/admin/devices/d1", "device", 403, "forbidden"),
        ("PUT", f"/v1/admin/blobs/{'0' * 64}", "device", 403, "forbidden"),
        ("POST", "/v1/admin/releases", "device", 403, "forbidden"),
        ("GET", "/v1/admin/releases", "stranger", 401, "unauthorised"),
        ("PUT", "/v1/admin/desired", "device", 403, "forbidden"),
    ],
)
def test_every_door_opens_to_its_own_key_only(
    tmp_path: Path, method: str, path: str, who: str, status: int, code: str
) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path) as made:
            headers = {
                "nobody": {},
                "stranger": {"Authorization": "Bearer guessed"},
                "basic": {"Authorization": "Basic ZDE6eA=="},
                "admin": made.admin,
                "device": (await made.add("d1")).headers,
            }[who]
            answer = await made.http.request(method, path, headers=headers, content=b"{}")
            assert code_of(answer) == (status, code)
            assert ("www-authenticate" in answer.headers) == (status == 401)

    asyncio.run(check())


@pytest.mark.parametrize("name", ["", "_gateway", "a/b", "a b", "+", "#", "é", "x" * 64, "../x"])
def test_names_that_would_mean_something_in_a_topic_or_a_path_name_no_device(
    tmp_path: Path, name: str
) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path) as made:
            answer = await made.http.post(
                "/v1/admin/devices", json={"name": name}, headers=made.admin
            )
            assert code_of(answer) == (400, "bad_device_name")

    asyncio.run(check())


def test_a_name_belongs_to_one_device(tmp_path: Path) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path) as made:
            await made.add("d1")
            body = {"name": "d1"}
            answer = await made.http.post("/v1/admin/devices", json=body, headers=made.admin)
            assert code_of(answer) == (409, "device_exists")
            answer = await made.http.delete("/v1/admin/devices/d9", headers=made.admin)
            assert code_of(answer) == (404, "unknown_device")

    asyncio.run(check())


def test_the_fleet_is_shown_to_this_machine_and_to_the_admin(tmp_path: Path) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path) as made:
            assert (await made.http.get("/v1/fleet")).status_code == 200
            app = made.http._transport.app  # type: ignore[attr-defined]  # the same application
            far = httpx.ASGITransport(app=app, client=("192.0.2.7", 4321))
            async with httpx.AsyncClient(transport=far, base_url="http://gateway") as http:
                for path in ("/v1/fleet", "/v1/fleet/summary", "/"):
                    assert code_of(await http.get(path)) == (403, "forbidden")
                assert (await http.get("/v1/fleet", headers=made.admin)).status_code == 200
                assert (await http.get("/health/live")).status_code == 200
        opened = structs.replace(PLAIN, page="open")
        async with asgi_gateway(tmp_path, opened) as made:
            app = made.http._transport.app  # type: ignore[attr-defined]  # the same application
            far = httpx.ASGITransport(app=app, client=("192.0.2.7", 4321))
            async with httpx.AsyncClient(transport=far, base_url="http://gateway") as http:
                assert (await http.get("/v1/fleet")).status_code == 200

    asyncio.run(check())


def test_a_second_gateway_on_the_same_folder_refuses_to_start(tmp_path: Path) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path):
            with pytest.raises(DataInUse, match="another gateway"):
                async with asgi_gateway(tmp_path):
                    pytest.fail("two gateways on one folder")
        async with asgi_gateway(tmp_path) as made:
            assert (await made.http.get("/health/ready")).json()["ready"]

    asyncio.run(check())


def test_a_hashed_password_matches_itself_alone() -> None:
    hashed = hash_password("a token")
    assert hashed.startswith("$7$101$")
    assert hash_password("a token") != hashed
    assert matches("a token", hashed)
    assert not matches("another", hashed)
    for broken in ("", "$6$101$x$y", "$7$many$x$y", "$7$101$!$!", hashed[:-9]):
        assert not matches("a token", broken)


def test_the_rules_of_topics_keep_devices_apart() -> None:
    assert may("d1", "publish", "v1/default/up/d1/rec")
    assert may("d1", "subscribe", "v1/default/dn/d1/+")
    assert may("d1", "receive", "v1/default/dn/d1/all")
    for action, topic in (
        ("publish", "v1/default/up/d2/rec"),
        ("publish", "v1/default/dn/d1/all"),
        ("publish", "v1/other/up/d1/rec"),
        ("publish", "v1/default/up/d1"),
        ("subscribe", "v1/default/dn/d2/all"),
        ("subscribe", "v1/default/dn/+/all"),
        ("subscribe", "#"),
        ("subscribe", "v1/default/up/d1/rec"),
        ("subscribe", "+/default/dn/d1/all"),
        ("subscribe", "$SYS/broker/clients"),
        ("receive", "v1/default/dn/d2/all"),
    ):
        assert not may("d1", action, topic), (action, topic)  # type: ignore[arg-type]
    assert may("_gateway", "subscribe", "v1/+/up/+/+")
    assert may("_gateway", "publish", "v1/default/dn/d1/all")
    assert not may("_gateway", "publish", "v1/default/up/d1/rec")


def test_an_empty_token_is_nobodys_even_beside_an_empty_token_file(tmp_path: Path) -> None:
    (tmp_path / "admin.token").touch()

    async def check() -> None:
        async with asgi_gateway(tmp_path) as made:
            for header in ("Bearer ", "Bearer", ""):
                answer = await made.http.get("/v1/admin/devices", headers={"Authorization": header})
                assert code_of(answer) == (401, "unauthorised")
            assert len(made.admin["Authorization"]) > 40
            answer = await made.http.get("/v1/admin/devices", headers=made.admin)
            assert answer.status_code == 200

    asyncio.run(check())


def test_of_two_who_add_the_same_device_at_once_one_gets_it(tmp_path: Path) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path) as made:
            body = {"name": "d1"}
            answers = await asyncio.gather(
                *(
                    made.http.post("/v1/admin/devices", json=body, headers=made.admin)
                    for _ in range(3)
                )
            )
            assert sorted(one.status_code for one in answers) == [201, 409, 409]
            (added,) = [one for one in answers if one.status_code == 201]
            headers = {"Authorization": f"Bearer {added.json()['token']}"}
            answer = await made.http.post("/v1/up", content=b"x", headers=headers)
            assert answer.status_code == 200

    asyncio.run(check())
