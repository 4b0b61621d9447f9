"""Inputs that sources left out."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "device_skips",
        *(
            sa.Column(name, sa.Text, nullable=False)
            for name in ("tenant", "device", "task", "source", "reason")
        ),
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.Column("n", sa.BigInteger, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("tenant", "device", "task", "source", "reason", "start"),
        sqlite_with_rowid=False,
    )
