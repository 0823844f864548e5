"""Rows as a parameter of a statement: one array of a composite type. One for each column costs several times as much.

asyncpg asks of each element of an array whether it is an array too, which takes longer than to encode it. A row is one
element. Its types are in `migrations/sql/0028_row_types.sql`.
"""

from collections.abc import Mapping
from typing import NamedTuple


class RowType(NamedTuple):
    """A composite type of the database."""

    name: str
    columns: Mapping[str, str]
    """PostgreSQL types by name, in the order of a row's values."""

    @property
    def names(self) -> str:
        """The columns, as a statement lists them."""
        return ", ".join(self.columns)

    @property
    def source(self) -> str:
        """The rows that are the statement's first parameter, for its FROM."""
        return f"unnest($1::{self.name}[])"
