"""The names of projects and keys, by their ids."""

from collections.abc import Iterable

from sqlalchemy import select

from infra.database import Pool
from infra.statements import fetch, fetch_one, is_one_of
from projections.attributes import METADATA_PREFIX, NAMES
from projections.reports.scope import Window
from projections.reports.tables import api_keys, of_scope, projects, usage_attribute_values, usage_attributes
from projections.scope import Scope

MAX_LABELS = 2_000
MAX_NAMES = 100
"""Of metadata, that are offered."""


async def labels_of(pool: Pool, *, keys: Iterable[str] = (), project_ids: Iterable[str] = ()) -> dict[str, str]:
    """Return the names of these keys and projects by their ids; ids that are none have no name.

    Raises:
        Unavailable: the database is away.

    """
    of_keys, of_projects = sorted(set(keys))[:MAX_LABELS], sorted(set(project_ids))[:MAX_LABELS]
    rows = []
    if of_keys:
        name = api_keys.c.settings["name"].astext
        rows += await fetch(pool, select(api_keys.c.key_id, name).where(is_one_of(api_keys.c.key_id, of_keys)))
    if of_projects:
        c = projects.c
        rows += await fetch(pool, select(c.project_id, c.name).where(is_one_of(c.project_id, of_projects)))
    return {row[0]: row[1] for row in rows}


async def project_of_key(pool: Pool, key_id: str) -> str | None:
    """Return the project of a key; None if there is no such key. Raises as `labels_of`."""
    row = await fetch_one(pool, select(api_keys.c.project_id).where(api_keys.c.key_id == key_id))
    return row[0] if row is not None else None


async def name_of_key(pool: Pool, scope: Scope, key_id: str) -> str | None:
    """Return the name of a key, if the scope has it; None if it has not. Raises as `labels_of`."""
    c = api_keys.c
    statement = select(c.settings["name"].astext).where(c.key_id == key_id, *of_scope(api_keys, scope))
    row = await fetch_one(pool, statement)
    return row[0] if row is not None else None


async def metadata_names(pool: Pool, scope: Scope, window: Window) -> list[str]:
    """Return the names that a scope's requests of a window have in their metadata, at most `MAX_NAMES`.

    Raises as `labels_of`. Of a key, only those that its own requests say.
    """
    if scope.key_id is not None:
        of_key = usage_attributes.c
        name = of_key.name
        statement = select(name).where(name.startswith(METADATA_PREFIX), of_key.key_id == scope.key_id)
        project_id, day = of_key.project_id, of_key.day
    else:
        c = usage_attribute_values.c
        name = c.value
        statement = select(name).where(c.name == NAMES)
        project_id, day = c.project_id, c.day
    statement = statement.where(day.between(window.first, window.last)).distinct()
    if scope.project_id is not None:
        statement = statement.where(project_id == scope.project_id)
    rows = await fetch(pool, statement.order_by(name).limit(MAX_NAMES))
    return [row[0].removeprefix(METADATA_PREFIX) for row in rows]
