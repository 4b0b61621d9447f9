"""Alembic's door: `database.py` hands in an open connection, in a transaction of its own."""

from alembic import context

from cloud_gateway.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
