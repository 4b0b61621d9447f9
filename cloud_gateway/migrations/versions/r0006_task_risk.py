"""How far each device's own answers can be trusted, as it last said."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("task_state", sa.Column("risk", sa.Text))
