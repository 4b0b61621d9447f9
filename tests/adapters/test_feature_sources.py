"""Features out of real files and over real sockets; Feast by a stand-in of the calls it offers."""

import http.server
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from edge_agent.lookups import open_sources
from edge_agent.workplace import FeastView, FeatureTable, Workplace
from models.errors import ExtraMissing, FeatureSourceOut
from models.pipeline.features import CachedFeatures, Row
from models.pipeline.features_feast import FeastFeatures
from models.pipeline.features_http import MAX_ANSWER, HttpFeatures, Reply, over_connections
from models.pipeline.features_sqlite import SqliteFeatures
from sync.clock import SystemClock
from sync.errors import LinkDown

CLOCK = SystemClock()
NAMES = ("spent", "visits")


# SQLite.


def write(file: Path, *rows: tuple[object, ...], table: str = "customers") -> Path:
    with closing(sqlite3.connect(file)) as there, there:
        named = '"' + table.replace('"', '""') + '"'
        there.execute(f'CREATE TABLE {named} (id, spent, visits, "said ""so""")')
        there.executemany(f"INSERT INTO {named} VALUES (?, ?, ?, ?)", rows)  # noqa: S608 - ours
    return file


def over(file: Path, *, table: str = "customers", updated: str | None = None) -> SqliteFeatures:
    return SqliteFeatures(file, CLOCK, table=table, key="id", updated=updated)


def test_a_row_is_found_by_its_key(tmp_path: Path) -> None:
    file = write(tmp_path / "f.db", ("ann", 12.5, 3, None), (7, None, 1, None))
    with closing(over(file)) as source:
        assert source.read("ann", NAMES, 1.0) == Row((12.5, 3))
        assert source.read("ann", ("visits",), 1.0) == Row((3,))
        assert source.read(7, NAMES, 1.0) == Row((None, 1))
        for unknown in ("zoe", 2**70, "\ud800"):
            assert source.read(unknown, NAMES, 1.0) is None


def test_the_newest_row_of_a_key_is_taken_and_its_age_told(tmp_path: Path) -> None:
    now = CLOCK.wall()
    file = write(tmp_path / "f.db", ("ann", 1, 1, now - 50), ("ann", 2, 2, now - 20))
    with closing(over(file, updated='said "so"')) as source:
        row = source.read("ann", NAMES, 1.0)
        assert row is not None
        assert row.values == (2, 2)
        assert row.age_s == pytest.approx(20, abs=5)


def test_a_file_that_takes_the_place_of_another_is_read(tmp_path: Path) -> None:
    file = write(tmp_path / "f.db", ("ann", 1, 1, None))
    with closing(over(file)) as source:
        source.read("ann", NAMES, 1.0)
        write(tmp_path / "new.db", ("ann", 2, 2, None)).replace(file)
        assert source.read("ann", NAMES, 1.0) == Row((2, 2))


def test_trouble_with_a_file_is_a_source_that_is_out_and_heals(tmp_path: Path) -> None:
    file = tmp_path / "f.db"
    with closing(over(file)) as source:
        with pytest.raises(FeatureSourceOut, match="No such file"):
            source.read("ann", NAMES, 1.0)
        file.write_bytes(b"no database at all" * 100)
        with pytest.raises(FeatureSourceOut, match="not a database"):
            source.read("ann", NAMES, 1.0)
        file.unlink()
        write(file, ("ann", 1, "three", None))
        with pytest.raises(FeatureSourceOut, match="'visits' holds no number"):
            source.read("ann", NAMES, 1.0)
        with pytest.raises(FeatureSourceOut, match="no column 'age'"):
            source.read("ann", ("spent", "age"), 1.0)
        assert source.read("ann", ("spent",), 1.0) == Row((1,))
    with (
        closing(over(file, table="orders")) as source,
        pytest.raises(FeatureSourceOut, match="not"),
    ):
        source.read("ann", NAMES, 1.0)


def test_no_name_becomes_sql(tmp_path: Path) -> None:
    file = write(tmp_path / "f.db", ("ann", 1, 1, 5), table='a" b')
    with closing(over(file, table='a" b')) as source:
        assert source.read("ann", ('said "so"',), 1.0) == Row((5,))
        with pytest.raises(FeatureSourceOut, match="no column"):
            source.read("ann", ("1; DROP TABLE x",), 1.0)
        assert source.read("' OR 1=1 --", NAMES, 1.0) is None


def test_a_file_left_by_a_power_cut_is_not_repaired_by_who_only_reads(tmp_path: Path) -> None:
    file = write(tmp_path / "f.db", *((at, "x" * 500, 1, None) for at in range(2000)))
    with closing(sqlite3.connect(file, isolation_level=None)) as writer:
        writer.execute("PRAGMA cache_size = 10")  # so that a change reaches the file early
        writer.execute("BEGIN")
        writer.execute("UPDATE customers SET spent = 1")
        cut = tmp_path / "cut"
        cut.mkdir()
        for each in ("f.db", "f.db-journal"):
            (cut / each).write_bytes((tmp_path / each).read_bytes())
        writer.execute("ROLLBACK")
    before = [each.read_bytes() for each in sorted(cut.iterdir())]
    with closing(over(cut / "f.db")) as source, pytest.raises(FeatureSourceOut, match="readonly"):
        source.read(1, NAMES, 1.0)
    assert [each.read_bytes() for each in sorted(cut.iterdir())] == before


def test_a_long_search_ends_at_its_timeout(tmp_path: Path) -> None:
    file = write(tmp_path / "f.db", *((str(at), 1, 1, None) for at in range(300_000)))
    with closing(over(file)) as source:
        source.read("0", NAMES, 1.0)
        with pytest.raises(FeatureSourceOut, match="interrupted"):
            source.read("none", NAMES, 0.001)


def test_a_writer_that_does_not_end_is_waited_for_no_longer_than_the_timeout(
    tmp_path: Path,
) -> None:
    file = write(tmp_path / "f.db", ("ann", 1, 1, None))
    with (
        closing(sqlite3.connect(file, isolation_level=None)) as writer,
        closing(over(file)) as source,
    ):
        writer.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        with pytest.raises(FeatureSourceOut, match="locked"):
            source.read("ann", NAMES, 0.05)
        assert time.monotonic() - began < 2
        writer.execute("ROLLBACK")
        assert source.read("ann", NAMES, 1.0) == Row((1, 1))


def test_threads_may_share_a_source_through_the_cache(tmp_path: Path) -> None:
    file = write(tmp_path / "f.db", *((at, at, at, None) for at in range(50)))
    with closing(over(file)) as source:
        features = CachedFeatures(
            source, CLOCK, names=NAMES, default=(-1.0, -1.0), ttl_s=60, timeout_s=5
        )
        wrong: list[int] = []

        def look() -> None:
            wrong.extend(at for at in range(50) if features.get(at).values.tolist() != [at, at])

        threads = [threading.Thread(target=look) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert features.counts.hits + features.counts.misses == 200


# HTTP.


def answering(status: int, body: bytes) -> HttpFeatures:
    return HttpFeatures(lambda path, question, timeout_s: Reply(status, body), "/v1/features/c")


def test_a_question_is_posted_as_declared_and_its_answer_read() -> None:
    posted: list[tuple[str, bytes, float]] = []

    def post(path: str, body: bytes, timeout_s: float) -> Reply:
        posted.append((path, body, timeout_s))
        return Reply(200, b'{"values": [1, null], "age_s": 4.5, "new_in_v2": true}')

    assert HttpFeatures(post, "/v1/features/c").read("ann", NAMES, 0.2) == Row((1, None), 4.5)
    assert posted == [("/v1/features/c", b'{"key":"ann","names":["spent","visits"]}', 0.2)]


def test_null_is_a_key_that_is_not_there() -> None:
    assert answering(200, b'{"values": null}').read("ann", NAMES, 0.2) is None
    assert answering(500, b"").read("\ud800", NAMES, 0.2) is None


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (404, b"{}", "answered with 404"),
        (503, b"", "answered with 503"),
        (200, b"<html>", "malformed"),
        (200, b'{"values": ["12"]}', "Expected"),
        (200, b"{}", "missing required field"),
        (200, b" " * (MAX_ANSWER + 1), "answer of 65537 bytes"),
    ],
)
def test_an_answer_that_is_none_is_a_source_that_is_out(
    status: int, body: bytes, says: str
) -> None:
    with pytest.raises(FeatureSourceOut, match=says):
        answering(status, body).read("ann", NAMES, 0.2)


def test_a_link_that_is_down_is_a_source_that_is_out() -> None:
    def post(path: str, body: bytes, timeout_s: float) -> Reply:
        raise LinkDown("cable cut")

    with pytest.raises(FeatureSourceOut, match="cable cut"):
        HttpFeatures(post, "/f").read("ann", NAMES, 0.2)


class _Table(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = msgspec.json.decode(self.rfile.read(int(self.headers["Content-Length"])))
        if asked["key"] == "slow":
            time.sleep(1.0)
        known = asked["key"] == "ann" and self.headers["Authorization"] == "Bearer t"
        size = 1 << 20 if asked["key"] == "endless" else 1
        body = msgspec.json.encode({"values": [2.0] * size if known or size > 1 else None})
        self.send_response(200 if self.path == "/base/f" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def served() -> Iterator[str]:
    class Quiet(http.server.ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A client that went is no news."""

    with Quiet(("127.0.0.1", 0), _Table) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/base/"
        finally:
            server.shutdown()
            thread.join()


def test_features_come_over_a_real_connection_under_their_timeout_and_bound() -> None:
    with served() as address:
        post = over_connections(address, "t")
        source = HttpFeatures(post, "/f")
        assert source.read("ann", ("x",), 2.0) == Row((2.0,))
        assert source.read("zoe", ("x",), 2.0) is None
        with pytest.raises(FeatureSourceOut, match="404"):
            HttpFeatures(post, "/g").read("ann", ("x",), 2.0)
        with pytest.raises(FeatureSourceOut, match="over 65536 bytes"):
            source.read("endless", ("x",), 2.0)
        began = time.monotonic()
        with pytest.raises(FeatureSourceOut, match="silent"):
            source.read("slow", ("x",), 0.1)
        assert time.monotonic() - began < 0.9


def test_nobody_listening_is_a_source_that_is_out() -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        source = HttpFeatures(
            over_connections(f"http://127.0.0.1:{taken.getsockname()[1]}", "t"), "/f"
        )
        with pytest.raises(FeatureSourceOut, match="refused"):
            source.read("ann", ("x",), 0.5)


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="http://host:port"):
        over_connections("gateway:8080", "t")


# Feast is not installed here: this module has the two calls the adapter makes, as its documentation
# and its `online_response.py` have them. It shows that the adapter asks and reads as they say.


class _Response:
    def __init__(self, answer: dict[str, list[Any]], times: dict[str, list[Any]]) -> None:
        self._answer, self._times = answer, times

    def to_dict(self, include_event_timestamps: bool = False) -> dict[str, list[Any]]:
        return self._answer | (self._times if include_event_timestamps else {})


FEAST_ROWS = {"ann": (12.5, 3), "ben": (None, 1)}


class _Store:
    def __init__(self, repo_path: str) -> None:
        if repo_path.endswith("broken"):
            raise RuntimeError("no feature_store.yaml")

    def get_online_features(
        self, features: list[str], entity_rows: list[dict[str, Any]]
    ) -> _Response:
        (entity,) = entity_rows
        if entity == {"customer": "down"}:
            raise ConnectionError("no Redis")
        assert features == ["customers:spent", "customers:visits"]
        spent, visits = FEAST_ROWS.get(entity["customer"], (None, None))
        known = entity["customer"] in FEAST_ROWS
        seen = int(CLOCK.wall()) - 100 if known else 0
        return _Response(
            {"customer": [entity["customer"]], "spent": [spent], "visits": [visits]},
            {"spent__ts": [seen if spent else 0], "visits__ts": [seen + 60 if known else 0]},
        )


@pytest.fixture
def feast(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("feast")
    module.FeatureStore = _Store  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "feast", module)


@pytest.mark.usefixtures("feast")
def test_features_come_from_a_feast_view_with_the_age_of_the_oldest() -> None:
    source = FeastFeatures(Path("repo"), CLOCK, view="customers", entity="customer")
    row = source.read("ann", NAMES, 0.1)
    assert row is not None
    assert row.values == (12.5, 3)
    assert row.age_s == pytest.approx(100, abs=5)
    ben = source.read("ben", NAMES, 0.1)
    assert ben is not None
    assert ben.values == (None, 1)
    assert ben.age_s == pytest.approx(40, abs=5)
    assert source.read("zoe", NAMES, 0.1) is None
    with pytest.raises(FeatureSourceOut, match="no Redis"):
        source.read("down", NAMES, 0.1)


@pytest.mark.usefixtures("feast")
def test_a_feast_repository_that_does_not_open_is_a_source_that_is_out() -> None:
    with pytest.raises(FeatureSourceOut, match="feature_store"):
        FeastFeatures(Path("broken"), CLOCK, view="customers", entity="customer")


def test_without_feast_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "feast", None)
    with pytest.raises(ExtraMissing, match=r"pip install longstop\[feast\]"):
        FeastFeatures(Path("repo"), CLOCK, view="customers", entity="customer")


# Sources as a device's settings name them.


def place(data: Path, **sources: FeatureTable) -> Workplace:
    return Workplace(data=str(data), features=sources)


@pytest.mark.usefixtures("feast")
def test_settings_open_a_feast_view(tmp_path: Path) -> None:
    shops = FeastView(repository="repo", view="customers", entity="customer")
    sources = open_sources(place(tmp_path, shops=shops), CLOCK, tmp_path)
    row = sources["shops"].read("ann", NAMES, 1.0)
    assert row is not None
    assert row.values == (12.5, 3)


def test_a_feast_view_without_the_library_is_a_source_that_is_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "feast", None)
    shops = FeastView(repository="feast", view="customers", entity="customer_id")
    assert open_sources(place(tmp_path, shops=shops), CLOCK, tmp_path) == {}
