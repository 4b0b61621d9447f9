"""`longstop-agent enroll`: tell a machine which device it is and where its gateway is."""

import http.client
import json
import os
import socket
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct, structs

from edge_agent import settings
from edge_agent.errors import AlreadyEnrolled, GatewayUnreachable
from edge_agent.settings import AgentSettings

ANSWER_S = 5.0


class Invitation(Struct, frozen=True):
    """What the gateway's `device add` gave out. The token goes into a file of its own."""

    device: str
    gateway: str
    link: str
    public_key: str
    mqtt: str = ""


def enroll(
    data: Path, invitation: Invitation, token: str, *, check: bool, replace: bool
) -> AgentSettings:
    """Write `agent.toml` and the token, and give back the settings.

    Raises `AlreadyEnrolled`, `GatewayUnreachable`, `BadKey`, `SettingsError`; nothing is written
    then.
    """
    from sync.trust.keys import load_public

    load_public(invitation.public_key)
    wanted = {key: value for key, value in structs.asdict(invitation).items() if value}
    file = data / settings.FILE
    if file.exists() and not replace and tomllib.loads(file.read_text()) != wanted:
        raise AlreadyEnrolled(
            f"{file} holds settings already; add --replace to begin anew with only these, or give"
            " this device a data folder of its own (--data)"
        )
    loaded = settings.load(
        data, environ={}, overrides=[f"{key}={value}" for key, value in wanted.items()]
    )
    if check:
        _check_gateway(loaded.gateway, token)
        if loaded.mqtt and loaded.link != "http":
            _check_broker(loaded.mqtt)
    data.mkdir(parents=True, exist_ok=True)
    _write(data / settings.TOKEN, f"{token}\n", 0o600)
    # What JSON writes for a text is a TOML text too.
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in wanted.items()]
    _write(file, "".join(lines), 0o644)
    return loaded


def _check_gateway(gateway: str, token: str) -> None:
    """Somebody answers there, and takes this token."""
    connection = http.client.HTTPConnection(urlsplit(gateway).netloc, timeout=ANSWER_S)
    try:
        # No such release: a gateway says so to its devices alone.
        connection.request(
            "GET", "/v1/packages/none/0/release", headers={"Authorization": f"Bearer {token}"}
        )
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException) as error:
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
