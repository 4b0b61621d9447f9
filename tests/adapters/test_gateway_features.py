"""Tables of features: fed by the operator, looked up by devices and by cloud pipelines."""

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from msgspec import structs

from cloud_gateway.database import Database
from cloud_gateway.errors import BadRequest
from cloud_gateway.features.file import PIECE, pieces
from cloud_gateway.shapes import FeatureRow
from sync.runner import InlineRunner
from tests.asgi_gateway import PLAIN, AsgiDevice, AsgiGateway, asgi_gateway
from tests.peculiar_packages import TASK, build_custom, build_lookup

ANN = {"key": "ann", "features": {"fine": 0.0, "odd": 5.0}}


class Wall:
    """A clock that stands at a day."""

    def monotonic(self) -> float:
        return 50.0

    def wall(self) -> float:
        return 1_800_000_000.0


async def put(made: AsgiGateway, *rows: dict[str, Any], table: str = "customers") -> httpx.Response:
    return await made.http.put(
        f"/v1/admin/features/{table}", json={"rows": rows}, headers=made.admin
    )


async def look_up(
    device: AsgiDevice, key: str | int, *names: str, table: str = "customers"
) -> httpx.Response:
    return await device.http.post(
        f"/v1/features/{table}", json={"key": key, "names": names}, headers=device.headers
    )


def test_a_device_finds_what_the_operator_put_there_and_how_old_it_is(tmp_path: Path) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path, clock=Wall()) as made:
            device = await made.add("d1")
            old = {"key": 7, "features": {"odd": None}, "at": Wall().wall() - 40}
            assert (await put(made, ANN, old)).status_code == 204
            found = await look_up(device, "ann", "odd", "fine", "never heard of")
            assert found.json() == {"values": [5.0, 0.0, None], "age_s": 0.0}
            for key in (7, "7"):
                found = await look_up(device, key, "odd")
                assert found.json() == {"values": [None], "age_s": 40.0}
            for stranger in ("bob", "ann\0"):
                assert (await look_up(device, stranger, "odd")).json()["values"] is None
            assert (await put(made, {"key": "ann", "features": {"odd": 1.0}})).status_code == 204
            found = await look_up(device, "ann", "odd", "fine")
            assert found.json()["values"] == [1.0, None], "a row is replaced as a whole"

    asyncio.run(check())


def test_tables_are_listed_removed_and_outlive_the_gateway(tmp_path: Path) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path, clock=Wall()) as made:
            device = await made.add("d1")
            await put(made, ANN)
            await put(made, {**ANN, "at": 1000.0}, table="machines")
        async with asgi_gateway(tmp_path, clock=Wall(), key=made.key) as made:
            listed = await made.http.get("/v1/admin/features", headers=made.admin)
            assert listed.json()["tables"] == [
                {"table": "customers", "rows": 1, "newest_at": Wall().wall()},
                {"table": "machines", "rows": 1, "newest_at": 1000.0},
            ]
            device = AsgiDevice(device.name, device.token, made.http)
            assert (await look_up(device, "ann", "odd")).json()["values"] == [5.0]
            for status in (204, 404):
                gone = await made.http.delete("/v1/admin/features/customers", headers=made.admin)
                assert gone.status_code == status
            lost = await look_up(device, "ann", "odd")
            assert (lost.status_code, lost.json()["code"]) == (404, "unknown_table")

    asyncio.run(check())


def test_only_devices_look_up_and_only_the_operator_feeds(tmp_path: Path) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path) as made:
            device = await made.add("d1")
            asked = {"key": "ann", "names": ["odd"]}
            for headers, status in ((None, 401), (made.admin, 403)):
                answer = await made.http.post("/v1/features/customers", json=asked, headers=headers)
                assert answer.status_code == status
            for method in ("PUT", "DELETE"):
                answer = await made.http.request(
                    method, "/v1/admin/features/customers", json={}, headers=device.headers
                )
                assert answer.status_code == 403

    asyncio.run(check())


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"rows": [{"key": "", "features": {}}]}',
        b'{"rows": [{"key": "a", "features": {"odd": "x"}}]}',
        b'{"rows": [{"key": "a", "features": {"odd": NaN}}]}',
        b'{"rows": [{"key": "a", "features": {"odd": 1e999}}]}',
        b'{"rows": [{"key": "a", "features": {}, "at": -1}]}',
        b'{"rows": [{"key": true, "features": {}}]}',
        b'{"rows": [{"key": "a", "features": {}, "when": 1}]}',
        b'{"rows": [{"key": "a\\u0000", "features": {}}]}',
        msgspec.json.encode({"rows": [{"key": "a" * 257, "features": {}}]}),
        msgspec.json.encode(
            {"rows": [{"key": "a", "features": dict.fromkeys(map(str, range(257)), 0)}]}
        ),
    ],
)
def test_a_body_that_holds_no_rows_changes_nothing(tmp_path: Path, body: bytes) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path) as made:
            answer = await made.http.put(
                "/v1/admin/features/customers", content=body, headers=made.admin
            )
            assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
            listed = await made.http.get("/v1/admin/features", headers=made.admin)
            assert listed.json() == {"tables": []}

    asyncio.run(check())


@pytest.mark.parametrize("table", ["Customers", "7up", "a-b", "a" * 33, "a%00"])
def test_a_table_is_named_as_a_package_may_name_it(tmp_path: Path, table: str) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path) as made:
            assert (await put(made, ANN, table=table)).status_code in (400, 404)

    asyncio.run(check())


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_cloud_pipeline_reads_the_same_table(tmp_path: Path, *, in_memory: bool) -> None:
    async def check() -> None:
        async with asgi_gateway(tmp_path / "g", in_memory=in_memory) as made:
            device = await made.add("d1")
            await made.publish(build_lookup(tmp_path / "p", ttl_s=0.0))

            async def ask(customer: str) -> str:
                record = msgspec.json.encode({"customer": customer}).decode()
                answer = await made.http.post(
                    f"/v2/models/{TASK}/infer",
                    json={
                        "inputs": [
                            {"name": "who", "datatype": "BYTES", "shape": [1], "data": [record]}
                        ]
                    },
                    headers=device.headers,
                )
                assert answer.status_code == 200, answer.text
                label: str = answer.json()["outputs"][0]["data"][0]
                return label

            assert await ask("ann") == "honest", "no table yet: the default"
            await put(made, ANN)
            await asyncio.sleep(1.1)  # a source that was out rests for a second
            assert [await ask(name) for name in ("ann", "bob")] == ["fraud", "honest"]

    asyncio.run(check())


def test_the_gateway_runs_code_of_a_package_only_where_settings_allow_it(tmp_path: Path) -> None:
    async def problem(data: Path, *, allowed: bool) -> str | None:
        settings = structs.replace(PLAIN, custom_steps=allowed)
        async with asgi_gateway(data, settings) as made:
            await made.publish(build_custom(tmp_path / f"p-{allowed}"))
            return made.gateway.models.problems().get(TASK)

    assert "swap.py" in str(asyncio.run(problem(tmp_path / "a", allowed=False)))
    assert asyncio.run(problem(tmp_path / "b", allowed=True)) is None


def test_a_database_in_memory_is_read_at_once_from_any_thread() -> None:
    async def check() -> None:
        runner = InlineRunner()
        database = await Database.open(None, write_runner=runner, read_runner=runner)

        def one(connection: Any) -> int:
            time.sleep(0.002)  # so that they would meet inside
            return int(connection.exec_driver_sql("SELECT 1").scalar_one())

        found = await asyncio.gather(
            *(asyncio.to_thread(database.read_now, one) for _ in range(20)),
            *(database.write(one) for _ in range(20)),
        )
        assert found == [1] * 40
        await database.close()

    asyncio.run(check())


CSV = "\ufeffid,spent,visits,at\nann,12.5,3,1000\n\nbob,,4,\n"


def written(folder: Path, text: str) -> Path:
    (folder / "rows.csv").write_text(text, encoding="utf-8")
    return folder / "rows.csv"


def test_a_csv_file_is_rows_by_its_first_column(tmp_path: Path) -> None:
    (rows,) = pieces(written(tmp_path, CSV), key=None, updated="at")
    assert rows == (
        FeatureRow("ann", {"spent": 12.5, "visits": 3.0}, 1000.0),
        FeatureRow("bob", {"spent": None, "visits": 4.0}),
    )
    (rows,) = pieces(written(tmp_path, "x,id\n1,ann\n"), key="id", updated=None)
    assert rows == (FeatureRow("ann", {"x": 1.0}),)


def test_a_large_file_goes_in_pieces_below_the_limit_of_a_body(tmp_path: Path) -> None:
    lines = "\n".join(f"customer-{number},{number}" for number in range(PIECE * 2 + 1))
    sizes = [
        len(one) for one in pieces(written(tmp_path, f"id,x\n{lines}"), key=None, updated=None)
    ]
    assert sizes == [PIECE, PIECE, 1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must name a key and features"),
        ("id\nann\n", "must name a key and features"),
        ("id,x,x\n", "each once"),
        ("id,x\nann,many\n", r"row 2, column 'x' holds 'many', which is no number"),
        ("id,x\nann,inf\n", "leave the cell empty"),
        ("id,x\n,1\n", "row 2 has no key"),
        ("id,x\nann,1,2\n", "3 cells for 2 columns"),
        ('id,x\n"ann,1\n', "cannot be read as CSV"),
    ],
)
def test_what_is_no_such_file_is_said_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        list(pieces(written(tmp_path, text), key=None, updated=None))


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"no column 'when', only id, spent, visits, at"):
        list(pieces(written(tmp_path, CSV), key="id", updated="when"))
    with pytest.raises(BadRequest, match="No such file"):
        list(pieces(tmp_path / "absent.csv", key=None, updated=None))
