"""The types of the rows that the projector writes."""

import importlib
import pkgutil

import projections
from projections.rows import RowType
from tests.support.ledger import RealLedger

_COLUMNS = """
    SELECT a.attname::text AS name, format_type(a.atttypid, NULL) AS kind
    FROM pg_type t JOIN pg_attribute a ON a.attrelid = t.typrelid
    WHERE t.typname = $1 AND t.typtype = 'c' ORDER BY a.attnum
"""
_LONG_NAMES = {"timestamptz": "timestamp with time zone"}


def row_types() -> dict[str, RowType]:
    """Return every type that a projection writes rows of."""
    modules = [
        importlib.import_module(f"projections.{module.name}") for module in pkgutil.iter_modules(projections.__path__)
    ]
    values = [value for module in modules for value in vars(module).values() if isinstance(value, RowType)]
    return {value.name: value for value in values}


async def test_the_database_has_the_row_types_as_the_projections_write_them(ledger: RealLedger) -> None:
    types = row_types()
    assert len(types) == 20
    for name, row_type in types.items():
        rows = await ledger.pool.fetch(_COLUMNS, name)
        expected = [(column, _LONG_NAMES.get(kind, kind)) for column, kind in row_type.columns.items()]
        assert [(row["name"], row["kind"]) for row in rows] == expected, name
