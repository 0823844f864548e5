"""The names of projects and keys, by their ids."""

from collections.abc import Iterable

from sqlalchemy import select

from infra.database import Pool
from infra.statements import fetch
from projections.reports.tables import api_keys, projects

MAX_LABELS = 2_000


async def labels_of(pool: Pool, *, keys: Iterable[str] = (), project_ids: Iterable[str] = ()) -> dict[str, str]:
    """Return the names of these keys and projects by their ids; ids that are none have no name.

    Raises:
        Unavailable: the database is away.

    """
    of_keys, of_projects = sorted(set(keys))[:MAX_LABELS], sorted(set(project_ids))[:MAX_LABELS]
    rows = []
    if of_keys:
        name = api_keys.c.settings["name"].astext
        rows += await fetch(pool, select(api_keys.c.key_id, name).where(api_keys.c.key_id.in_(of_keys)))
    if of_projects:
        c = projects.c
        rows += await fetch(pool, select(c.project_id, c.name).where(c.project_id.in_(of_projects)))
    return {row[0]: row[1] for row in rows}
