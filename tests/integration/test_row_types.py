"""The types of the rows that processes hand over, and the arrays that they handed over before."""

import importlib
import pkgutil
from datetime import UTC, datetime

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


async def test_an_api_process_of_the_release_before_is_admitted_by_arrays(ledger: RealLedger) -> None:
    project_id = await ledger.new_project()
    key_id = await ledger.new_key(project_id, daily_budget_nano_usd=100)
    decided = await ledger.pool.fetch(
        "SELECT outcome, hold FROM admit(NULL, '{key, project}', $1, '{1, 1}', '{2, 2}', '{req_first, req_second}', "
        "'{chat, chat}', '{m, m}', '{openai, openai}', '{u, u}', '{NULL, NULL}', '{NULL, NULL}', '{NULL, NULL}', "
        "'{1, 2}', '{60, 60}', '{60, 60}', '{0, 0}', '{false, false}', '{false, false}', '{reply.a.1, reply.a.2}', "
        "$2, $2, '{NULL, NULL}', '{NULL, NULL}', '{NULL, NULL}', '{false, false}', '{false, false}', '{NULL, NULL}', "
        "'{NULL, NULL}')",
        [key_id, project_id],
        [datetime.now(UTC)] * 2,
    )
    assert [tuple(row) for row in decided] == [("admitted", 60), ("budget_held", 0)]
    assert await ledger.held(key_id) == 60
