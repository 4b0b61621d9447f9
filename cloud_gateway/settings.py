"""Every setting of the gateway. `serve` reads them once, everything else is handed them."""

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from models.archive import MAX_PACKED
from sync.wire.codec import MAX_MESSAGE

PREFIX = "LONGSTOP_GATEWAY_"
"""Of settings in the environment."""
Port = Annotated[int, Meta(ge=0, le=65535)]
Size = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]
BrokerKind = Literal["auto", "mosquitto", "amqtt", "none"]


class BrokerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The MQTT broker this gateway starts and owns."""

    kind: BrokerKind = "auto"
    """`auto`: mosquitto where it is installed, else amqtt."""
    port: Port = 1883
    """0: any free port."""
    restart_base_s: Seconds = 0.5
    restart_cap_s: Seconds = 30.0
    """A broker that dies is started again after a full-jitter wait between these."""
    max_in_flight: Size = 256
    """Messages from devices being worked on; further ones are dropped, and their devices repeat."""


class InferenceSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The cloud models."""

    provider: Annotated[str, Meta(pattern=r"^ *[a-z]+ *(, *[a-z]+ *)*\Z")] = "auto"
    """A name, several in order of preference (`cuda,cpu`), or `auto`: the best there is."""
    inline_below_us: Annotated[int, Meta(ge=0)] = 500
    """A model whose warm-up run is shorter runs in the event loop: a thread would cost more."""
    max_waiting: Size = 64
    """Requests waiting for one model; further ones are refused as `overloaded`."""


class TlsSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The gateway's own identity; both files in PEM, both or none."""

    certificate: str = ""
    """Its identity, with the chain below it: then HTTP is HTTPS."""
    key: str = ""
    """Its private key."""


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """What `longstop-gateway serve` takes."""

    data: Path = Path("longstop-gateway")
    """Folder of the database, archives, keys and the broker's files; nothing is kept elsewhere."""
    host: str = "127.0.0.1"
    port: Port = 8080
    """0: any free port."""
    max_body_bytes: Size = MAX_MESSAGE
    max_archive_bytes: Size = MAX_PACKED
    dead_letter_bytes: Size = 64 << 20
    """Kept per device of what could not be read."""
    beat_flush_s: Seconds = 1.0
    """Heartbeats and escalation counts reach the database at most this late."""
    page: Literal["loopback", "open"] = "loopback"
    """Who may look at the fleet without the admin token: this machine, or everybody."""
    custom_steps: bool = False
    """Whether packages may bring Python code, which then runs with all rights of the gateway."""
    tls: TlsSettings = TlsSettings()
    broker: BrokerSettings = BrokerSettings()
    inference: InferenceSettings = InferenceSettings()
