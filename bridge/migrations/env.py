"""Run by Alembic for every command. `aldis.bridge.migrate` hands over a connection; there is no ini file to read."""

from __future__ import annotations

from alembic import context

from aldis.bridge.schema import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    compare_type=True,
    render_as_batch=True,  # SQLite cannot alter a column in place
    transactional_ddl=connection.dialect.name == "sqlite",  # all or nothing where DDL can be rolled back
)
with context.begin_transaction():
    context.run_migrations()
