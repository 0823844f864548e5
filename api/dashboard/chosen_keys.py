"""The keys that the operator chooses from: for whom a call is made, or planned. Everybody else is the key of its
session.
"""

from collections.abc import Sequence

from api.authentication import Caller
from api.dashboard.viewer import Viewer
from api.requests import id_in_path
from api.services import Services
from domain.errors import NotFound
from projections import keys
from projections.key_lists import MAX_LISTED, KeyFilter, ListedKey, listed_keys


async def keys_to_choose(
    services: Services, viewer: Viewer, wanted: str | None, project_id: str | None = None
) -> list[ListedKey]:
    """The newest keys that work, of one project or of all that the viewer sees, after the one that is asked for if it
    is none of them.
    """
    scope = viewer.scope(project_id=project_id)
    newest = await listed_keys(services.pool, scope, KeyFilter(), limit=MAX_LISTED)
    if not wanted or any(key.key_id == wanted for key in newest):
        return newest
    asked = viewer.scope(project_id=project_id, key_id=id_in_path(wanted))
    return [*await listed_keys(services.pool, asked, KeyFilter(), limit=1), *newest]


def likely_key(choices: Sequence[ListedKey]) -> ListedKey:
    """The key that was used last, or the newest if none was."""
    used = [key for key in choices if key.last_used_at is not None]
    return max(used, key=lambda key: key.last_used_at or key.created_at, default=choices[0])


async def caller_with(services: Services, key_id: str) -> Caller:
    """The caller with a key that the operator chose.

    Raises:
        NotFound: there is none, or it works no longer.

    """
    record = await keys.key_with_id(services.pool, id_in_path(key_id))
    caller = await services.authenticator.caller_of(record.project_id, record.key_id) if record is not None else None
    if caller is None:
        raise NotFound("there is no such key, or it works no longer")
    return caller
