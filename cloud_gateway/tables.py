"""Every table of the gateway's database. SQLAlchemy Core; SQLite now, PostgreSQL by the same SQL.

Rules of this file:
1. Every table carries a tenant, "default" until there are several.
2. Times are seconds since 1970. `at` is the sender's clock; `heard_at` and `received_at` are ours.
3. Counts in the `*_answers` tables only ever grow, in the transaction that takes a batch in.
4. A change here goes with a migration; a test compares the two.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

LATENCY_BUCKETS = 24
"""Columns `l00`..`l23`: how many answers took up to each bound of `telemetry.rollup.BOUNDS_US`."""

DEVICE_STEP_S = 60
FLEET_STEP_S = 5
"""Width of a bucket of `device_answers` and of `fleet_answers`; `start` is a multiple of it."""

EVERY_DEVICE = "*"
"""Stands in `desired.device` for every device that has no row of its own for the task."""

metadata = MetaData()


def _tenant() -> Column[str]:
    return Column("tenant", Text, primary_key=True)


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default="0")


def _answers() -> tuple[Column[str] | Column[int], ...]:
    """Counts of one bucket. A route is edge, cloud or provisional (an edge answer given while the
    cloud's was owed); the fourth, revised, counts late cloud answers and has no latency."""
    return (
        Column("task", Text, primary_key=True),
        Column("route", Text, primary_key=True),
        # Seconds since 1970 by the record's own clock.
        Column("start", BigInteger, primary_key=True, autoincrement=False),
        *(_count(name) for name in ("n", "hard", "latency_sum_us", "latency_max_us")),
        *(_count(f"l{bucket:02}") for bucket in range(LATENCY_BUCKETS)),
    )


device = Table(
    "device",
    metadata,
    _tenant(),
    Column("name", Text, primary_key=True),
    Column("token_sha256", LargeBinary, nullable=False, unique=True),
    # What the broker checks: the token again, in mosquitto's own `$7$` form.
    Column("broker_password", Text, nullable=False),
    Column("added_at", Float, nullable=False),
    Column("removed_at", Float),
)

# The last heartbeat of each device.
device_state = Table(
    "device_state",
    metadata,
    _tenant(),
    Column("device", Text, primary_key=True),
    Column("heard_at", Float, nullable=False),
    Column("at", Float, nullable=False),
    Column("incarnation", Text, nullable=False),
    Column("boot", BigInteger, nullable=False),
    Column("link", Text, nullable=False),
    Column("issued", BigInteger, nullable=False),
    Column("pending", BigInteger, nullable=False),
    Column("escalations_waiting", BigInteger, nullable=False),
    Column("agent_version", Text, nullable=False),
)

# What each device runs for each task, as its worker has loaded it.
task_state = Table(
    "task_state",
    metadata,
    _tenant(),
    Column("device", Text, primary_key=True),
    Column("task", Text, primary_key=True),
    Column("version", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("heard_at", Float, nullable=False),
    # JSON of `facts.RiskFacts`; none where nothing is watched.
    Column("risk", Text),
)

# Package versions a device would not install; the latest word per version and code.
refusal = Table(
    "refusal",
    metadata,
    _tenant(),
    Column("device", Text, primary_key=True),
    Column("task", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("code", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("heard_at", Float, nullable=False),
)

# Archives on disk, by content. The gateway stores them and vouches for nothing.
blob = Table(
    "blob",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("received_at", Float, nullable=False),
)

release = Table(
    "release",
    metadata,
    _tenant(),
    Column("task", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    # Counts up with every publication: what "newest" means, whatever the clock did.
    Column("number", Integer, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("edge_sha256", Text, nullable=False),
    Column("cloud_sha256", Text, nullable=False),
    Column("signed", LargeBinary, nullable=False),
    Column("published_at", Float, nullable=False),
)

# `device` is a name or EVERY_DEVICE; a device's own row wins.
desired = Table(
    "desired",
    metadata,
    _tenant(),
    Column("device", Text, primary_key=True),
    Column("task", Text, primary_key=True),
    Column("version", Text, nullable=False),
    Column("set_at", Float, nullable=False),
)

# Ranges of record numbers taken in; ranges of one series never overlap.
batch = Table(
    "batch",
    metadata,
    _tenant(),
    Column("device", Text, primary_key=True),
    Column("incarnation", Text, primary_key=True),
    Column("lo", BigInteger, primary_key=True, autoincrement=False),
    Column("hi", BigInteger, nullable=False),
    Column("boot", BigInteger, nullable=False),
    Column("at", Float, nullable=False),
    Column("received_at", Float, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    # False: kept in dead_letter and counted in no `*_answers`.
    Column("counted", Boolean, nullable=False),
    # Packed records as they came; retention may clear it, the range stays for ever.
    Column("body", LargeBinary),
)

# Ranges whose content is gone; disjoint, and never over a number that was delivered.
loss = Table(
    "loss",
    metadata,
    _tenant(),
    Column("device", Text, primary_key=True),
    Column("incarnation", Text, primary_key=True),
    Column("lo", BigInteger, primary_key=True, autoincrement=False),
    Column("hi", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("received_at", Float, nullable=False),
)

# What could not be taken in, kept with the reason.
dead_letter = Table(
    "dead_letter",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("incarnation", Text),
    Column("lo", BigInteger),
    Column("hi", BigInteger),
    Column("received_at", Float, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("message", LargeBinary, nullable=False),
    UniqueConstraint("tenant", "device", "sha256"),
)

# Answers of each device, by the minute.
device_answers = Table(
    "device_answers",
    metadata,
    _tenant(),
    Column("device", Text, primary_key=True),
    *_answers(),
    sqlite_with_rowid=False,
)

# The same over all devices and finer, so that a chart of the fleet reads few rows.
fleet_answers = Table(
    "fleet_answers",
    metadata,
    _tenant(),
    *_answers(),
    sqlite_with_rowid=False,
)

# Escalations as the gateway saw them, by the minute of the gateway's clock.
device_escalations = Table(
    "device_escalations",
    metadata,
    _tenant(),
    Column("device", Text, primary_key=True),
    Column("task", Text, primary_key=True),
    Column("start", BigInteger, primary_key=True, autoincrement=False),
    _count("answered"),
    _count("refused"),
    _count("run_us"),
    sqlite_with_rowid=False,
)

# Inputs the sources of each device left out, by the minute; a word nobody here knows is `other`.
device_skips = Table(
    "device_skips",
    metadata,
    _tenant(),
    Column("device", Text, primary_key=True),
    Column("task", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("reason", Text, primary_key=True),
    # Seconds since 1970 by the record's own clock.
    Column("start", BigInteger, primary_key=True, autoincrement=False),
    _count("n"),
    sqlite_with_rowid=False,
)

# What somebody said the right answer was; the first word for a request id counts.
feedback = Table(
    "feedback",
    metadata,
    _tenant(),
    Column("device", Text, primary_key=True),
    Column("request_id", Text, primary_key=True),
    Column("client", Text, nullable=False),
    Column("task", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("received_at", Float, nullable=False),
)

# Turns of the live risk on each device: a promise found broken, a new certificate.
alarm = Table(
    "alarm",
    metadata,
    _tenant(),
    Column("device", Text, primary_key=True),
    Column("task", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("at", Float, primary_key=True),
    Column("certificate", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("received_at", Float, nullable=False),
)

# The last health record of each device: what it uses, and how much it spares itself.
device_health = Table(
    "device_health",
    metadata,
    _tenant(),
    Column("device", Text, primary_key=True),
    Column("at", Float, nullable=False),
    Column("received_at", Float, nullable=False),
    Column("level", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("cpu_share", Float, nullable=False),
    *(
        Column(name, BigInteger, nullable=False)
        for name in (
            *("supervisor_bytes", "worker_bytes", "workers", "disk_bytes", "disk_free_bytes"),
            *("uplink_bytes", "flash_bytes"),
        )
    ),
    Column("celsius", Float),
    # Budgets that were overdrawn, comma between.
    Column("over", Text, nullable=False),
)

# Numbers by a key, for pipelines that look them up; `collection` is the table's name.
feature = Table(
    "feature",
    metadata,
    _tenant(),
    Column("collection", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("features", Text, nullable=False),
    Column("at", Float, nullable=False),
    sqlite_with_rowid=False,
)
