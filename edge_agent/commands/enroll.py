"""`longstop-agent enroll`: tell a machine which device it is and where its gateway is."""

import http.client
import json
import os
import socket
import ssl
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct

from edge_agent import settings
from edge_agent.errors import AlreadyEnrolled, GatewayUnreachable
from edge_agent.settings import AgentSettings
from sync.errors import LinkUntrusted
from sync.transport import tls
from sync.transport.tls import TlsFiles

ANSWER_S = 5.0
AUTHORITY = "ca.pem"


class Invitation(Struct, frozen=True):
    """What the gateway's `device add` gave out. The token goes into a file of its own."""

    device: str
    gateway: str
    link: str
    public_key: str
    mqtt: str = ""
    mqtt_tls: bool = False
    ca: Path | None = None
    """File of the authority that the gateway's identity comes from; copied into the data folder."""


def enroll(
    data: Path, invitation: Invitation, token: str, *, check: bool, replace: bool
) -> AgentSettings:
    """Write `agent.toml` and the token, and give back the settings.

    Raises `AlreadyEnrolled`, `GatewayUnreachable`, `LinkUntrusted`, `BadKey`, `SettingsError`;
    nothing is written then.
    """
    from sync.trust.keys import load_public

    load_public(invitation.public_key)
    wanted = _settings_of(invitation, data)
    # What JSON writes for a text or a truth is TOML too.
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in wanted.items())
    file = data / settings.FILE
    if file.exists() and not replace and tomllib.loads(file.read_text()) != tomllib.loads(text):
        raise AlreadyEnrolled(
            f"{file} holds settings already; add --replace to begin anew with only these, or give"
            " this device a data folder of its own (--data)"
        )
    loaded = settings.load(
        data,
        environ={},
        overrides=[
            f"{key}={value if isinstance(value, str) else json.dumps(value)}"
            for key, value in wanted.items()
        ],
    )
    believed = TlsFiles("" if invitation.ca is None else str(invitation.ca))
    secured = tls.context(believed) if loaded.gateway.startswith("https:") else None
    authority = None if invitation.ca is None else invitation.ca.read_text(encoding="ascii")
    if check:
        _check_gateway(loaded.gateway, token, secured)
        if loaded.mqtt and loaded.link != "http":
            _check_broker(loaded.mqtt)
    data.mkdir(parents=True, exist_ok=True)
    _write(data / settings.TOKEN, f"{token}\n", 0o600)
    if authority is not None:
        _write(data / AUTHORITY, authority, 0o644)
    _write(file, text, 0o644)
    return loaded


def _settings_of(invitation: Invitation, data: Path) -> dict[str, str | bool]:
    """Settings by their dotted names."""
    wanted: dict[str, str | bool] = {
        "device": invitation.device,
        "gateway": invitation.gateway,
        "link": invitation.link,
        "public_key": invitation.public_key,
        "mqtt": invitation.mqtt,
        "mqtt_tls": invitation.mqtt_tls,
        "tls.ca_file": "" if invitation.ca is None else str(data.absolute() / AUTHORITY),
    }
    return {key: value for key, value in wanted.items() if value}


def _check_gateway(gateway: str, token: str, secured: ssl.SSLContext | None) -> None:
    """Somebody answers there, and takes this token."""
    place = urlsplit(gateway).netloc
    connection = http.client.HTTPConnection(place, timeout=ANSWER_S)
    if secured is not None:
        connection = http.client.HTTPSConnection(place, timeout=ANSWER_S, context=secured)
    try:
        # No such release: a gateway says so to its devices alone.
        connection.request(
            "GET", "/v1/packages/none/0/release", headers={"Authorization": f"Bearer {token}"}
        )
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException) as error:
        found = tls.trouble(place, error)
        if isinstance(found, LinkUntrusted):
            raise found from error
        raise GatewayUnreachable(
            f"nobody answers at {gateway}: {error!r}; start the gateway, correct the address, or"
            " add --offline to enrol without asking"
        ) from error
    finally:
        connection.close()
    if answer.status in (401, 403):
        raise GatewayUnreachable(
            f"the gateway at {gateway} does not take this token; ask for a new line with"
            " `longstop-gateway device add NAME`"
        )
    if answer.status != 404:
        raise GatewayUnreachable(
            f"what answers at {gateway} is no Longstop gateway (status {answer.status});"
            " correct the address"
        )


def _check_broker(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()
    except OSError as error:
        raise GatewayUnreachable(
            f"no broker answers at {address}: {error}; correct --mqtt, choose --link http, or add"
            " --offline to enrol without asking; over --link auto the device then goes on by HTTP"
        ) from error


def _write(path: Path, text: str, mode: int) -> None:
    """A whole file or none, never readable by others than `mode` says."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(handle)
    new.replace(path)
