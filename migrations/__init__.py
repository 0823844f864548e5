"""The database's schema, forward only: numbered Alembic revisions that run SQL files, and the SQL functions."""
