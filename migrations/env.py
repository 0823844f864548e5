"""How Alembic reaches the database: the connection that `infra.database.migrate` hands over.

Behind the revisions come the functions, which have no history of their own: each run replaces them all with today's.
"""

from pathlib import Path

from alembic import context

from migrations.revision import run_file

_FUNCTIONS = Path(__file__).parent / "functions"

connection = context.config.attributes["connection"]
context.configure(connection=connection, transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
with connection.begin():
    for file in sorted(_FUNCTIONS.glob("*.sql")):
        run_file(connection, file)
