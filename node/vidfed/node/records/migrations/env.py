"""What alembic runs for each command: on the connection and in the transaction that `migrate` gives."""

from alembic import context

from vidfed.node.records.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
