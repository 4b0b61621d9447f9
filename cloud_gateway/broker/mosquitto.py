"""mosquitto: its files and its command."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from cloud_gateway.broker.passwords import access_file

ACCESS = "access"
PASSWORDS = "passwords"
_CONFIG = "mosquitto.conf"


def find() -> str | None:
    """The program, None when it is not installed. Debian keeps it where only root looks."""
    path = os.environ.get("PATH", os.defpath)
    return shutil.which("mosquitto", path=f"{path}:/usr/sbin:/usr/local/sbin")


def command(program: str, folder: Path, host: str, port: int, max_bytes: int) -> Sequence[str]:
    """Write the configuration and return how to start it."""
    (folder / ACCESS).write_text(access_file(), encoding="utf-8")
    (folder / ACCESS).chmod(0o600)
    (folder / _CONFIG).write_text(_config(folder, host, port, max_bytes), encoding="utf-8")
    return [program, "-c", str(folder / _CONFIG)]


def _config(folder: Path, host: str, port: int, max_bytes: int) -> str:
    lines = [
        f"listener {port} {host}",
        "allow_anonymous false",
        f"password_file {folder / PASSWORDS}",
        f"acl_file {folder / ACCESS}",
        # One connection per device: a client id of its choice could push out another's.
        "use_username_as_clientid true",
        # Without it every reply waits for the peer's delayed acknowledgement, 40 ms.
        "set_tcp_nodelay true",
        f"message_size_limit {max_bytes}",
        # A larger packet ends its connection before it is read into memory.
        f"max_packet_size {max_bytes}",
        "max_queued_messages 1000",
        # Nothing to keep: devices repeat what the gateway has not answered.
        "persistence false",
        "log_dest stderr",
        "log_type error",
        "log_type warning",
    ]
    if os.geteuid() == 0:
        # It would drop to a user of its own, who cannot read our files.
        lines.append("user root")
    return "\n".join(lines) + "\n"
