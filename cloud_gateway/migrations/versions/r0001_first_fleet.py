"""The first fleet: devices, packages, ingest, minutes."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]


def _times(*names: str) -> list[sa.Column[float]]:
    return [sa.Column(name, sa.Float, nullable=False) for name in names]


def _numbers(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in names]


def _bytes(*names: str) -> list[sa.Column[bytes]]:
    return [sa.Column(name, sa.LargeBinary, nullable=False) for name in names]


def _counts(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=False, server_default="0") for name in names]


def upgrade() -> None:
    op.create_table(
        "device",
        *_texts("tenant", "name", "broker_password"),
        *_bytes("token_sha256"),
        *_times("added_at"),
        sa.Column("removed_at", sa.Float),
        sa.PrimaryKeyConstraint("tenant", "name"),
        sa.UniqueConstraint("token_sha256"),
    )
    op.create_table(
        "device_state",
        *_texts("tenant", "device", "incarnation", "link", "agent_version"),
        *_times("heard_at", "at"),
        *_numbers("boot", "issued", "pending", "escalations_waiting"),
        sa.PrimaryKeyConstraint("tenant", "device"),
    )
    op.create_table(
        "task_state",
        *_texts("tenant", "device", "task", "version", "digest", "state"),
        *_times("heard_at"),
        sa.PrimaryKeyConstraint("tenant", "device", "task"),
    )
    op.create_table(
        "refusal",
        *_texts("tenant", "device", "task", "version", "code", "reason"),
        *_times("at", "heard_at"),
        sa.PrimaryKeyConstraint("tenant", "device", "task", "version", "code"),
    )
    op.create_table(
        "blob",
        *_texts("sha256"),
        *_numbers("size"),
        *_times("received_at"),
        sa.PrimaryKeyConstraint("sha256"),
    )
    op.create_table(
        "release",
        *_texts("tenant", "task", "version", "name", "edge_sha256", "cloud_sha256"),
        sa.Column("number", sa.Integer, nullable=False),
        *_bytes("signed"),
        *_times("published_at"),
        sa.PrimaryKeyConstraint("tenant", "task", "version"),
        sa.UniqueConstraint("number"),
    )
    op.create_table(
        "desired",
        *_texts("tenant", "device", "task", "version"),
        *_times("set_at"),
        sa.PrimaryKeyConstraint("tenant", "device", "task"),
    )
    op.create_table(
        "batch",
        *_texts("tenant", "device", "incarnation"),
        *_numbers("lo", "hi", "boot"),
        *_times("at", "received_at"),
        *_bytes("sha256"),
        sa.Column("counted", sa.Boolean, nullable=False),
        sa.Column("body", sa.LargeBinary),
        sa.PrimaryKeyConstraint("tenant", "device", "incarnation", "lo"),
    )
    op.create_table(
        "loss",
        *_texts("tenant", "device", "incarnation", "reason"),
        *_numbers("lo", "hi"),
        *_times("at", "received_at"),
        sa.PrimaryKeyConstraint("tenant", "device", "incarnation", "lo"),
    )
    op.create_table(
        "dead_letter",
        sa.Column("id", sa.Integer, primary_key=True),
        *_texts("tenant", "device", "code", "reason"),
        sa.Column("incarnation", sa.Text),
        sa.Column("lo", sa.BigInteger),
        sa.Column("hi", sa.BigInteger),
        *_times("received_at"),
        *_bytes("sha256", "message"),
        sa.UniqueConstraint("tenant", "device", "sha256"),
    )
    latencies = [f"l{bucket:02}" for bucket in range(24)]
    op.create_table(
        "device_answers",
        *_texts("tenant", "device", "task", "route"),
        *_numbers("start"),
        *_counts("n", "hard", "latency_sum_us", "latency_max_us", *latencies),
        sa.PrimaryKeyConstraint("tenant", "device", "task", "route", "start"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "fleet_answers",
        *_texts("tenant", "task", "route"),
        *_numbers("start"),
        *_counts("n", "hard", "latency_sum_us", "latency_max_us", *latencies),
        sa.PrimaryKeyConstraint("tenant", "task", "route", "start"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "device_escalations",
        *_texts("tenant", "device", "task"),
        *_numbers("start"),
        *_counts("answered", "refused", "run_us"),
        sa.PrimaryKeyConstraint("tenant", "device", "task", "start"),
        sqlite_with_rowid=False,
    )
