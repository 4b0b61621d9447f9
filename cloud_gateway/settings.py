"""Every setting of the gateway. `cli.py` reads them once, everything else is handed them."""

from pathlib import Path
from typing import Literal

from msgspec import Struct

from models.archive import MAX_PACKED
from sync.wire.codec import MAX_MESSAGE

BrokerKind = Literal["auto", "mosquitto", "amqtt", "none"]


class BrokerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The MQTT broker this gateway starts and owns."""

    kind: BrokerKind = "auto"
    """`auto`: mosquitto where it is installed, else amqtt."""
    port: int = 1883
    """0: any free port."""
    restart_base_s: float = 0.5
    restart_cap_s: float = 30.0
    """A broker that dies is started again after a full-jitter wait between these."""
    max_in_flight: int = 256
    """Messages from devices being worked on; further ones are dropped, and their devices repeat."""


class InferenceSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The cloud models."""

    provider: Literal["auto", "cpu"] = "auto"
    """`auto`: CUDA where there is one."""
    inline_below_us: int = 500
    """A model whose warm-up run is shorter runs in the event loop: a thread would cost more."""
    max_waiting: int = 64
    """Requests waiting for one model; further ones are refused as `overloaded`."""


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """What `longstop-gateway serve` takes."""

    data: Path = Path("longstop-gateway")
    """Folder of the database, archives, keys and the broker's files; nothing is kept elsewhere."""
    host: str = "127.0.0.1"
    port: int = 8080
    """0: any free port."""
    max_body_bytes: int = MAX_MESSAGE
    max_archive_bytes: int = MAX_PACKED
    dead_letter_bytes: int = 64 << 20
    """Kept per device of what could not be read."""
    beat_flush_s: float = 1.0
    """Heartbeats and escalation counts reach the database at most this late."""
    page: Literal["loopback", "open"] = "loopback"
    """Who may look at the fleet without the admin token: this machine, or everybody."""
    broker: BrokerSettings = BrokerSettings()
    inference: InferenceSettings = InferenceSettings()
