"""Runs the migrations on the connection that judgeflow.store.migrate opened; there is no alembic.ini.

The caller owns the transaction, so a migration happens as a whole or not at all, also in SQLite.
"""

from alembic import context

from judgeflow.store import schema

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=schema.metadata,
    version_table=schema.VERSION_TABLE,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
