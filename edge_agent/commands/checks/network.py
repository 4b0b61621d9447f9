"""Gateway and broker: do they answer, and do they take this device? Two seconds for each."""

import http.client
import socket
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from msgspec import Struct

from edge_agent import settings
from edge_agent.commands.checks.finding import Finding, Patient, broken, ok, warning
from edge_agent.errors import NotEnrolled
from sync.transport import tls

ANSWER_S = 2.0
FIREWALL = "check its address, whether it runs, and the firewall between"


class GatewaySaid(Struct, frozen=True):
    """What came of asking it."""

    findings: tuple[Finding, ...]
    at: float | None = None
    """The gateway's clock, where it told."""


def ask_gateway(patient: Patient) -> GatewaySaid:
    """One request with this device's token."""
    loaded = patient.settings
    if not loaded.gateway:
        return GatewaySaid(())
    try:
        token = settings.token(loaded, patient.data)
    except NotEnrolled:
        token = ""
    address = urlsplit(loaded.gateway)
    connection = http.client.HTTPConnection(address.netloc, timeout=ANSWER_S)
    if address.scheme == "https":
        secured = tls.context(loaded.tls)
        connection = http.client.HTTPSConnection(address.netloc, timeout=ANSWER_S, context=secured)
    try:
        # No such release: a gateway says so to its devices alone.
        connection.request(
            "GET", "/v1/packages/none/0/release", headers={"Authorization": f"Bearer {token}"}
        )
        answer = connection.getresponse()
        answer.read(1 << 16)
    except (OSError, http.client.HTTPException) as error:
        saw = f"nobody answers at {loaded.gateway} within {ANSWER_S:.0f} s: {_why(error)}"
        return GatewaySaid((broken("gateway", saw, FIREWALL),))
    finally:
        connection.close()
    return GatewaySaid((_judged(loaded.gateway, answer.status),), _date(answer.getheader("Date")))


def broker(patient: Patient) -> Iterator[Finding]:
    """Whether its port can be reached; what it thinks of this device is in the agent's status."""
    loaded, status = patient.settings, patient.status
    if not loaded.mqtt:
        return
    host, _, port = loaded.mqtt.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()
    except (OSError, ValueError) as error:
        saw = f"nobody answers at {loaded.mqtt} within {ANSWER_S:.0f} s: {_why(error)}"
        yield broken("broker", saw, FIREWALL)
        return
    if status is not None and status.turned_away is not None:
        yield broken(
            "broker",
            f"the agent is turned away: {status.turned_away}",
            "ask for a new token: longstop-gateway device add NAME",
        )
    elif status is not None and not status.connected:
        yield warning(
            "broker", f"{loaded.mqtt} answers, the agent is not connected", "wait a minute"
        )
    else:
        yield ok("broker", f"{loaded.mqtt} answers")


def local_broker(patient: Patient) -> Iterator[Finding]:
    """Whether its port can be reached, and what the agent says of it."""
    local, status = patient.settings.local_mqtt, patient.status
    if not local.host:
        return
    place = f"{local.host}:{local.port}"
    try:
        socket.create_connection((local.host.strip("[]"), local.port), ANSWER_S).close()
    except OSError as error:
        saw = f"nobody answers at {place} within {ANSWER_S:.0f} s: {_why(error)}"
        yield broken("local broker", saw, "start it, or correct local_mqtt.host and .port")
        return
    if status is not None and status.local_mqtt:
        yield broken(
            "local broker",
            f"{place} answers, and the agent is not connected: {status.local_mqtt}",
            "check local_mqtt.user and .password_file, and what the broker lets this user do",
        )
    else:
        yield ok("local broker", f"{place} answers")


def _judged(gateway: str, status: int) -> Finding:
    match status:
        case 404:
            return ok("gateway", f"{gateway} answers and takes this device's token")
        case 401 | 403:
            return broken(
                "gateway",
                f"{gateway} does not take this device's token",
                "enrol again with a new line of `longstop-gateway device add NAME`",
            )
        case 429 | 503:
            return warning(
                "gateway", f"{gateway} says that it is busy ({status})", "wait; look at its load"
            )
        case _:
            return broken(
                "gateway",
                f"what answers at {gateway} is no Longstop gateway (status {status})",
                "correct `gateway` in agent.toml, or the proxy in between",
            )


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__


def _date(text: str | None) -> float | None:
    try:
        return None if text is None else parsedate_to_datetime(text).timestamp()
    except ValueError:
        return None
