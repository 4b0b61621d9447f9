"""A private field is nowhere: every file of a device and every byte it sent or got are searched.

Each search also has to find a field that is not private, or it would prove nothing.
"""

import base64
import json
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
import zstandard

from edge_agent.sdk import InvalidInput
from tests import raw_packages
from tests.peculiar_packages import build_lookup
from tests.programs import Agent, Gateway, until
from tests.recording_proxy import RecordingProxy

pytestmark = pytest.mark.e2e

SECRET, OPEN = "Zq7canarySecretKx4vQw", "Yr8openControlLm5wPs"
ZSTD = b"\x28\xb5\x2f\xfd"


def hard(**more: str) -> dict[str, object]:
    return {"amount": 0.1, "risk": 5, "name": SECRET, "note": OPEN, **more}


def forms(text: str) -> tuple[bytes, ...]:
    """As a text might stand somewhere: plain, UTF-16, hexadecimal, base64 at each of its places."""
    plain = text.encode()
    coded = []
    for before in range(3):
        whole = base64.b64encode(bytes(before) + plain)
        # The first and last characters depend on what stands beside the text.
        coded.append(whole[4 if before else 0 : -4])
    return (
        plain,
        *(text.encode(form) for form in ("utf-16-le", "utf-16-be")),
        *(plain.hex().encode(), plain.hex().upper().encode()),
        *coded,
    )


def opened(data: bytes) -> Iterator[bytes]:
    """The bytes, and what every zstd frame in them unpacks to."""
    yield data
    at = data.find(ZSTD)
    while at >= 0:
        with suppress(zstandard.ZstdError):  # it only looked like one, or is cut off
            yield zstandard.ZstdDecompressor().decompressobj().decompress(data[at:])
        at = data.find(ZSTD, at + 1)


def cells(path: Path) -> Iterator[bytes]:
    """Every value of a database: in the file a long one is spread over pages."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            for row in database.execute(f"SELECT * FROM {table}"):  # noqa: S608 - its own names
                for value in row:
                    yield value if isinstance(value, bytes) else str(value).encode()


def on_disk(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below a folder, databases value by value as well."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path), path.read_bytes()
            if path.suffix == ".db":
                for cell in cells(path):
                    yield f"{path} (a value)", cell


def where(text: str, things: Iterator[tuple[str, bytes]]) -> set[str]:
    """Names of the things that hold this text in any form."""
    looked_for = forms(text)
    return {
        name
        for name, whole in things
        for data in opened(whole)
        if any(form in data for form in looked_for)
    }


@pytest.mark.parametrize("text", [SECRET, OPEN])
def test_the_search_sees_a_text_in_all_its_forms(text: str) -> None:
    plain = text.encode()
    for hidden in (
        plain,
        b"x" + plain + b"y",
        *(base64.b64encode(b"12345"[:before] + plain + b"678") for before in range(4)),
        plain.hex().encode(),
        text.encode("utf-16"),
        b"head" + zstandard.ZstdCompressor().compress(b"{" + plain + b"}") + b"tail",
    ):
        assert where(text, iter([("it", hidden)])) == {"it"}, hidden
    assert where(text, iter([("it", plain[:-1])])) == set()


@pytest.mark.parametrize("link", ["http", "mqtt"])
def test_a_private_field_is_nowhere_on_disk_or_wire(tmp_path: Path, link: str) -> None:
    broker = "auto" if link == "mqtt" else "none"
    folder = tmp_path / "in"
    folder.mkdir()
    with Gateway(tmp_path / "cloud", broker=broker) as gateway:
        gateway.publish_folder(raw_packages.orders(tmp_path / "orders"))
        gateway.publish_folder(build_lookup(tmp_path / "lookup"))
        gateway.desire("1", task="orders")
        gateway.desire("1", task="sides")
        words = gateway.invite("bench-1")
        with proxied(words, "--gateway") as http, proxied(words, "--mqtt") as mqtt:
            agent = Agent(
                tmp_path / "a",
                words,
                *("cloud.pace.beat_s=1", "outbox.linger_ms=50"),
                "audit.share=0.05",
                'privacy.fields=["name", "customer"]',
                f"sources.orders={folder}",
                'features={customers={kind="http", path="/v1/features/customers"}}',
            )
            with agent:
                until(lambda: agent.serves("1", task="orders"), what="served")
                until(lambda: agent.serves("1"), what="looked up")
                assert agent.status()["link"] == link
                live_private_bytes(agent, folder)
                gateway.process.send_signal(signal.SIGSTOP)
                try:
                    with agent.client("orders") as client:
                        late = client.infer(hard(), deadline_ms=300)
                    assert not late.final
                    until(lambda: agent.status()["escalations_waiting"] == 1, what="owed")
                    disk = where(OPEN, on_disk(agent.data))
                    assert any("outbox" in name for name in disk), "the question that is owed"
                    assert where(SECRET, on_disk(agent.data)) == set()
                    agent.stop(signal.SIGKILL)
                    assert where(SECRET, on_disk(agent.data)) == set()
                finally:
                    gateway.process.send_signal(signal.SIGCONT)
                with agent.again() as again:
                    until(lambda: again.status().get("revisions_waiting") == 1, what="revised")
                    until(lambda: again.status().get("pending") == 0, what="delivered")
                    assert where(SECRET, on_disk(agent.data)) == set()
            proxies = [proxy for proxy in (http, mqtt) if proxy is not None]
            streams = [stream for proxy in proxies for stream in proxy.streams]
            wire = [(f"stream {number}", stream) for number, stream in enumerate(streams)]
            assert where(OPEN, iter(wire)) != set()
            assert where(SECRET, iter(wire)) == set()
            told = [(str(path), path.read_bytes()) for path in folder.glob("*.json.json")]
            assert len(told) == 1
            assert where(SECRET, iter(told)) == set()
        assert where(SECRET, on_disk(gateway.data)) == set()


@contextmanager
def proxied(words: list[str], option: str) -> Iterator[RecordingProxy | None]:
    """Puts a proxy before the address of an option of `enroll`, where it is given."""
    if option not in words:
        yield None
        return
    at = words.index(option) + 1
    host, _, port = words[at].removeprefix("http://").rpartition(":")
    with RecordingProxy(host, int(port)) as proxy:
        words[at] = words[at].replace(f"{host}:{port}", proxy.address)
        yield proxy


def live_private_bytes(agent: Agent, folder: Path) -> None:
    """Every way a record comes in: right and wrong, by the SDK, by a folder, as a key."""
    with agent.client("orders") as client:
        answer = client.infer(hard(), deadline_ms=10_000)
        assert (answer.label, answer.source) == ("odd", "cloud")
        for wrong in ({"name": {"first": SECRET}}, {"amount": SECRET, "name": SECRET}):
            with pytest.raises(InvalidInput):
                client.infer(wrong, deadline_ms=2000)
        for _ in range(150):  # some seven of them are audited
            client.infer({"amount": 3, "name": SECRET, "note": OPEN}, deadline_ms=10_000)
    with agent.client("sides") as client:
        assert client.infer({"customer": SECRET}, deadline_ms=2000).label == "honest"
    part = folder / "order.part"
    part.write_text(json.dumps(hard()))
    part.rename(folder / "order.json")
    until(lambda: list(folder.glob("*.json.json")), what="the folder's answer")
