"""TLS on a link: a good identity is carried, each bad one is refused under its own name."""

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path

import pytest

from sync.errors import LinkDown, LinkUntrusted, SettingsError
from sync.transport import tls
from sync.transport.http import HttpTransport
from sync.transport.tls import TlsFiles
from tests.authority import Authority, Identity
from tests.contracts.links import TOKEN, Gateway, HttpGateway, batch, beat, reply_to

Story = Callable[[HttpTransport, HttpGateway], Coroutine[None, None, None]]


def play(
    identity: Identity | None, files: TlsFiles, story: Story, *, asks_for: Path | None = None
) -> None:
    """A gateway with this identity, a device that believes these files."""

    async def told() -> None:
        secured = None if identity is None else identity.server(asks_for=asks_for)
        server = HttpGateway(Gateway(), secured)
        port = await server.start()
        link = HttpTransport(f"https://127.0.0.1:{port}", TOKEN, files=files)
        await link.open(lambda _: None)
        try:
            async with asyncio.timeout(30):
                await story(link, server)
        finally:
            await link.close()
            await server.stop()

    asyncio.run(told())


def refused(identity: Identity | None, files: TlsFiles, kind: type[LinkDown], **given: Path) -> str:
    """What the device says of it."""
    said: list[str] = []

    async def story(link: HttpTransport, _: HttpGateway) -> None:
        with pytest.raises(LinkDown) as raised:
            await link.exchange(beat(), timeout_s=10.0)
        assert type(raised.value) is kind, raised.value
        said.append(str(raised.value))

    play(identity, files, story, **given)
    return said[0]


def test_messages_are_carried_and_a_connection_is_kept(tmp_path: Path) -> None:
    authority = Authority(tmp_path)

    async def story(link: HttpTransport, server: HttpGateway) -> None:
        for lo in (1, 6, 11):
            sent = batch(lo, size=200_000)
            assert await link.exchange(sent, timeout_s=10.0) == reply_to(sent)
        assert server.connections == 1

    play(authority.identity(), TlsFiles(str(authority.file)), story)


@pytest.mark.parametrize(
    ("begins", "ends", "words"),
    [
        (timedelta(days=-9), timedelta(days=-1), "has expired"),
        (timedelta(days=1), timedelta(days=9), "not valid yet"),
    ],
)
def test_dates_are_looked_at(
    tmp_path: Path, begins: timedelta, ends: timedelta, words: str
) -> None:
    authority = Authority(tmp_path)
    identity = authority.identity(begins=begins, ends=ends)
    assert words in refused(identity, TlsFiles(str(authority.file)), LinkUntrusted)


@pytest.mark.parametrize("name", ["127.0.0.2", "gateway.example"])
def test_an_identity_made_out_for_another_address_is_anothers(tmp_path: Path, name: str) -> None:
    authority = Authority(tmp_path)
    said = refused(authority.identity(name), TlsFiles(str(authority.file)), LinkUntrusted)
    assert "is another's" in said


def test_an_authority_nobody_named_is_unknown_and_the_words_say_how_to_name_it(
    tmp_path: Path,
) -> None:
    known, other = tmp_path / "known", tmp_path / "other"
    known.mkdir()
    other.mkdir()
    identity = Authority(other, "somebody else").identity()
    for files in (TlsFiles(str(Authority(known).file)), TlsFiles()):
        said = refused(identity, files, LinkUntrusted)
        assert "authority unknown here" in said
        assert "enroll --ca" in said


def test_where_the_clock_cannot_be_right_it_is_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    identity = authority.identity(begins=timedelta(days=1), ends=timedelta(days=9))

    async def story(link: HttpTransport, _: HttpGateway) -> None:
        with pytest.raises(LinkUntrusted) as raised:
            await link.exchange(beat(), timeout_s=10.0)
        said = str(tls.trouble("gateway", raised.value, now=12_345.0))
        assert "clock says 1970-01-01" in said
        assert "set the clock" in said

    play(identity, TlsFiles(str(authority.file)), story)


def test_a_gateway_that_asks_for_an_identity_gets_the_devices(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    own = authority.identity("bench-1")

    async def story(link: HttpTransport, _: HttpGateway) -> None:
        assert await link.exchange(beat(), timeout_s=10.0) == reply_to(beat())

    files = TlsFiles(str(authority.file), str(own.certificate), str(own.key))
    play(authority.identity(), files, story, asks_for=authority.file)


def test_what_a_server_says_of_the_devices_identity_is_passed_on() -> None:
    error = ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert")
    error.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    said = tls.trouble("gateway:443", OSError("read")).__class__, tls.trouble("gateway:443", error)
    assert said[0] is LinkDown
    assert isinstance(said[1], LinkUntrusted)
    assert "tls.client_cert" in str(said[1])


@pytest.mark.parametrize(
    "files",
    [
        TlsFiles(ca_file="/nowhere/ca.pem"),
        TlsFiles(client_cert="/nowhere/device.pem"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(files: TlsFiles) -> None:
    with pytest.raises(SettingsError, match=r"tls\.(ca_file|client_cert): /nowhere"):
        tls.context(files)
