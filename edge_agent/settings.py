"""Settings of one agent: defaults, then `<data>/agent.toml`, the environment, `--set`.

In the environment `LONGSTOP_AGENT_GATEWAY` is `gateway` and `LONGSTOP_AGENT_CLOUD__REPLY_TIMEOUT_S`
is `cloud.reply_timeout_s`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from edge_agent.cloud.budget import BudgetSettings, tariff
from edge_agent.cloud.link import LinkSettings
from edge_agent.errors import DataFolderUnusable, NotEnrolled
from edge_agent.governor.limits import LimitSettings
from edge_agent.risk.run import AuditSettings
from edge_agent.upkeep.restart import RestartPolicy
from edge_agent.upkeep.shares import SwapWay, TaskSettings
from edge_agent.upkeep.watchdog import WatchdogPolicy
from edge_agent.workplace import (
    CacheSettings,
    FeatureTable,
    HttpTable,
    LocalMqttSettings,
    PrivacySettings,
    RuntimeSettings,
    SourceSettings,
    Workplace,
)
from sync import settings
from sync.errors import SettingsError
from sync.outbox.run import OutboxSettings
from sync.transport.failover import Policy
from sync.transport.tls import TlsFiles

PREFIX = "LONGSTOP_AGENT_"
FILE = "agent.toml"
TOKEN = "token"  # noqa: S105 - the name of a file
LEAST_OUTBOX_BYTES = 256 << 10
DEFAULT_DATA = Path("~/.local/share/longstop")


class HttpSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The local HTTP listener."""

    listen: Annotated[str, Meta(pattern=r"^((127\.0\.0\.1|localhost|\[::1\]):[0-9]{1,5})?\Z")] = ""
    """Where programs of this machine may ask by the Open Inference Protocol, as in
    127.0.0.1:8008; empty for nowhere. Another machine's programs may not."""


class AgentSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a person may set. `enroll` writes the first six."""

    device: Annotated[str, Meta(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,62})?\Z")] = ""
    """The name the gateway knows this device by."""
    gateway: Annotated[str, Meta(pattern=r"^(https?://[^\s/]+)?\Z")] = ""
    """Address of the gateway, as in http://192.0.2.7:8080; empty for a device without one."""
    mqtt: Annotated[str, Meta(pattern=r"^([^\s/]+:\d+)?\Z")] = ""
    """Host and port of the broker; needed unless `link = "http"`."""
    link: Literal["auto", "http", "mqtt"] = "http"
    """How questions, records and heartbeats travel. Packages always come over HTTP.

    auto: the preferred way while it works, else the other.
    """
    tls: TlsFiles = TlsFiles()
    """Whom this device believes and who it is, where an address begins with https or `mqtt_tls`."""
    mqtt_tls: bool = False
    """Whether the broker speaks TLS."""
    prefer: Literal["mqtt", "http"] = "mqtt"
    """The way `link = "auto"` uses while it works."""
    failover: Policy = Policy()
    token_file: str = ""
    """File with the device's token; empty for `<data>/token`."""
    public_key: str = ""
    """The key that signs packages, as `ed25519:<64 hexadecimal digits>`."""
    http: HttpSettings = HttpSettings()
    local_mqtt: LocalMqttSettings = LocalMqttSettings()
    run: str = ""
    """Folder of the sockets; empty for `<data>/run`."""
    max_package_bytes: Annotated[int, Meta(ge=1)] = 256 << 20
    sources: dict[str, str | SourceSettings] = {}
    """Task to where its inputs come from, beside what programs ask for; a mere path is a folder."""
    factory: dict[str, str] = {}
    """Task to a package folder of this machine that serves when nothing else does."""
    features: dict[str, FeatureTable] = {}
    """Where packages look numbers up by a key, by the name they use for it."""
    custom_steps: bool = False
    """Whether packages may bring Python code, which then runs with all rights of the worker."""
    runtime: RuntimeSettings = RuntimeSettings()
    cache: CacheSettings = CacheSettings()
    privacy: PrivacySettings = PrivacySettings()
    stop_s: Annotated[float, Meta(ge=0)] = 5.0
    """How long workers may take to finish when the agent ends."""
    cloud: LinkSettings = LinkSettings()
    budget: BudgetSettings = BudgetSettings()
    outbox: OutboxSettings = OutboxSettings()
    audit: AuditSettings = AuditSettings()
    limits: LimitSettings = LimitSettings()
    restart: RestartPolicy = RestartPolicy()
    watchdog: WatchdogPolicy = WatchdogPolicy()
    swap: SwapWay = "auto"
    """Whether the old worker and the new one run at once: where there is memory for both, always,
    or never."""
    tasks: dict[str, TaskSettings] = {}
    """Task to its share of the device; none is as good as equal shares."""


def load(data: Path, *, environ: Mapping[str, str], overrides: Sequence[str] = ()) -> AgentSettings:
    """The settings in this data folder. Raises `SettingsError`, `DataFolderUnusable`."""
    file = data / FILE
    try:
        written = file.exists()
    except PermissionError as error:
        raise DataFolderUnusable(
            f"{data} cannot be entered: {error.strerror}; run the agent as the folder's owner, or"
            " choose another data folder (--data)"
        ) from error
    loaded = settings.load(
        AgentSettings,
        toml=file if written else None,
        environ=environ,
        prefix=PREFIX,
        overrides=overrides,
    )
    try:
        tariff(loaded.budget)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    for name, table in loaded.features.items():
        if isinstance(table, HttpTable) and not loaded.gateway:
            raise SettingsError(
                f"features.{name} are the gateway's, and this device has none; enrol it at one, or "
                'name a file (kind = "sqlite")'
            )
    return loaded


def workplace(loaded: AgentSettings, data: Path) -> Workplace:
    """What every worker of this device is given."""
    return Workplace(
        data=str(data.absolute()),
        run=str(run_folder(loaded, data)),
        gateway=loaded.gateway,
        token_file=str(token_file(loaded, data).absolute()),
        tls=loaded.tls,
        custom_steps=loaded.custom_steps,
        features=loaded.features,
        runtime=loaded.runtime,
        cache=loaded.cache,
        privacy=loaded.privacy,
        audit_share=loaded.audit.share if loaded.gateway else 0.0,
    )


def outbox_within(loaded: AgentSettings) -> OutboxSettings:
    """The outbox's settings, in at most half of what the disk's budget leaves it."""
    if loaded.limits.disk_mb is None:
        return loaded.outbox
    # Beside the budget there is an eighth for the transaction that drops what is over it; a WAL.
    most = max(LEAST_OUTBOX_BYTES, (loaded.limits.disk_mb << 20) // 3)
    given = loaded.outbox.limits
    budget = min(given.budget_bytes, most)
    within = replace(
        given, budget_bytes=budget, escalation_bytes=min(given.escalation_bytes, budget // 2)
    )
    return replace(loaded.outbox, limits=within)


def most_package_bytes(loaded: AgentSettings) -> int:
    """The largest archive that fits: two packages lie on the disk while one replaces the other."""
    if loaded.limits.disk_mb is None:
        return loaded.max_package_bytes
    return min(loaded.max_package_bytes, (loaded.limits.disk_mb << 20) // 4)


def run_folder(loaded: AgentSettings, data: Path) -> Path:
    """Where the sockets lie."""
    return Path(loaded.run).expanduser() if loaded.run else data / "run"


def token_file(loaded: AgentSettings, data: Path) -> Path:
    """Where the token lies."""
    return Path(loaded.token_file).expanduser() if loaded.token_file else data / TOKEN


def token(loaded: AgentSettings, data: Path) -> str:
    """The device's token. Raises `NotEnrolled`."""
    path = token_file(loaded, data)
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise NotEnrolled(f"the token in {path} cannot be read: {error}; enrol again") from error


def local_mqtt_password(loaded: AgentSettings, data: Path) -> str | None:
    """What this device says to the local broker; None for nothing. Raises `SettingsError`."""
    if not loaded.local_mqtt.password_file:
        return None
    path = data / Path(loaded.local_mqtt.password_file).expanduser()
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"local_mqtt.password_file: {path} cannot be read: {error}; name a file with the"
            " password alone"
        ) from error


def check_enrolled(loaded: AgentSettings, data: Path) -> None:
    """Return if this device knows its gateway. Raises `NotEnrolled`."""
    missing = [name for name in ("device", "gateway", "public_key") if not getattr(loaded, name)]
    if loaded.link != "http" and not loaded.mqtt:
        missing.append("mqtt")
    if not token_file(loaded, data).exists():
        missing.append("token")
    if missing:
        raise NotEnrolled(
            f"the agent in {data} does not know its {', '.join(missing)}; run the line that"
            " `longstop-gateway device add NAME` prints on the gateway"
        )
