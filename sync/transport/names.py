"""Addresses of a host by its name, from a resolver that may hang for minutes.

1. Nobody waits longer than asked. The lookup goes on in a thread of its own, one at a time for each
   name, which nothing waits for at the end; whoever asks next shares it.
2. Where it hangs or fails, the addresses found last are used: a gateway seldom moves, a resolver on
   a bad link often fails.
3. An address needs no lookup and no thread.
"""

import ipaddress
import socket
import threading
from collections.abc import Callable, Sequence

from sync.errors import LinkDown

Lookup = Callable[[str], Sequence[str]]


class Names:
    """What one host's name stands for. Called from sender threads."""

    def __init__(self, host: str, lookup: Lookup | None = None) -> None:
        self._host = host
        self._lookup = lookup or _look_up
        self._lock = threading.Lock()
        self._found: Sequence[str] = ()
        self._trouble = ""
        self._looking: threading.Event | None = None

    def addresses(self, timeout_s: float) -> Sequence[str]:
        """At least one. Raises `LinkDown`."""
        if _is_address(self._host):
            return (self._host,)
        with self._lock:
            if self._looking is None:
                self._looking = threading.Event()
                threading.Thread(target=self._look, args=(self._looking,), daemon=True).start()
            looking = self._looking
        in_time = looking.wait(timeout_s)
        with self._lock:
            if self._found:
                return self._found
            why = self._trouble if in_time else f"its resolver is silent for {timeout_s:.1f} s"
        raise LinkDown(f"no address is known for {self._host}: {why}; check the name and the DNS")

    def _look(self, done: threading.Event) -> None:
        found: Sequence[str] = ()
        trouble = "there is none"
        try:
            found = self._lookup(self._host)
        except (OSError, UnicodeError) as error:
            trouble = str(error)
        with self._lock:
            self._found, self._trouble, self._looking = found or self._found, trouble, None
        done.set()


def _look_up(host: str) -> Sequence[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
