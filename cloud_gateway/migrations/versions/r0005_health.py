"""What each device uses, as it last said."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "device_health",
        *_text("tenant", "device"),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("received_at", sa.Float, nullable=False),
        *_text("level", "why"),
        sa.Column("cpu_share", sa.Float, nullable=False),
        *_counts("supervisor_bytes", "worker_bytes", "workers", "disk_bytes", "disk_free_bytes"),
        *_counts("uplink_bytes", "flash_bytes"),
        sa.Column("celsius", sa.Float),
        *_text("over"),
        sa.PrimaryKeyConstraint("tenant", "device"),
    )


def _text(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]


def _counts(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in names]
