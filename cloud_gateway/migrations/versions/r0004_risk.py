"""Feedback of people who know, and turns of the live risk."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "feedback",
        *_text("tenant", "device", "request_id", "client", "task", "label"),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("received_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "device", "request_id"),
    )
    op.create_table(
        "alarm",
        *_text("tenant", "device", "task", "kind"),
        sa.Column("at", sa.Float, nullable=False),
        *_text("certificate", "why"),
        sa.Column("received_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "device", "task", "kind", "at"),
    )


def _text(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]
