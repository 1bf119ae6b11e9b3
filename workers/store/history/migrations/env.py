"""What alembic runs to migrate: on the connection and in the transaction that ``store.history.schema`` holds.

Loaded by alembic by its path; never imported.
"""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=False)
context.run_migrations()
