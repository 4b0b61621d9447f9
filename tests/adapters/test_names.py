"""Names of hosts, from resolvers that fail, hang, and come back."""

import threading
import time
from collections.abc import Sequence

import pytest

from sync.errors import LinkDown, LinkTimeout
from sync.transport.kept import KeptConnections, Request
from sync.transport.names import Names


def test_an_address_is_not_looked_up() -> None:
    def never(_: str) -> Sequence[str]:
        raise AssertionError("looked up")

    assert Names("127.0.0.1", never).addresses(1) == ("127.0.0.1",)
    assert Names("::1", never).addresses(1) == ("::1",)


def test_a_resolver_that_hangs_holds_nobody_and_is_asked_once() -> None:
    answer = threading.Event()
    asked: list[str] = []

    def hang(host: str) -> Sequence[str]:
        asked.append(host)
        answer.wait(60)
        return ("192.0.2.1",)

    names = Names("gateway.example", hang)
    for _ in range(3):
        began = time.monotonic()
        with pytest.raises(LinkDown, match="resolver is silent"):
            names.addresses(0.05)
        assert time.monotonic() - began < 20
    assert asked == ["gateway.example"]
    answer.set()
    assert names.addresses(20) == ("192.0.2.1",)


def test_what_was_found_last_is_used_while_the_resolver_fails() -> None:
    def fail(_: str) -> Sequence[str]:
        raise OSError("Temporary failure in name resolution")

    with pytest.raises(LinkDown, match="Temporary failure"):
        Names("gateway.example", fail).addresses(20)
    replies: list[Sequence[str]] = [("192.0.2.1",)]
    names = Names("gateway.example", lambda host: replies.pop() if replies else fail(host))
    assert names.addresses(20) == names.addresses(20) == ("192.0.2.1",)


def test_a_connection_is_made_to_a_name_and_one_nobody_knows_is_down() -> None:
    unknown = KeptConnections("gateway.invalid", 80, max_reply=1000)
    with pytest.raises((LinkDown, LinkTimeout)):
        unknown.ask(Request("/", {}, b""), time.monotonic() + 2)
    unknown.close()
