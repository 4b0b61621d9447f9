"""Features by key."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "feature",
        *(sa.Column(name, sa.Text, nullable=False) for name in ("tenant", "collection", "key")),
        sa.Column("features", sa.Text, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "collection", "key"),
        sqlite_with_rowid=False,
    )
