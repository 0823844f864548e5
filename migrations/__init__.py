"""The database's shape, forward only: numbered Alembic revisions that run the SQL beside them."""
