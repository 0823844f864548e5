"""`/projects/{id}/api-keys`: what `api/native/keys.py` lets admins do with their project's keys, for the operator with
the keys of any project.
"""

from litestar import delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, RequestBody

from api.guards import requires_operator
from api.native.envelope import Success
from api.native.keys import (
    IssuedKeyOut,
    KeyChangeBody,
    KeyOut,
    NewKeyBody,
    RevokedKeyOut,
    changed_key_settings,
    issued,
    key_out,
    keys_out,
    new_key_settings,
)
from api.native.openapi import NEEDS_MASTER_KEY
from api.requests import id_in_path
from api.services import Services

_KEYS = "/projects/{project_id:str}/api-keys"
_KEY = f"{_KEYS}/{{key_id:str}}"


@post(
    _KEYS,
    summary="Issue a key of any project",
    operation_id="ApiV1ProjectsProjectIdApiKeysIssue",
    guards=[requires_operator],
    security=NEEDS_MASTER_KEY,
)
async def issue_projects_key(
    project_id: FromPath[str], data: RequestBody[NewKeyBody], services: NamedDependency[Services]
) -> Success[IssuedKeyOut]:
    """Issue a key of a project."""
    project = await services.accounts.project(id_in_path(project_id))
    return Success(data=issued(await services.accounts.issue_key(project.project_id, new_key_settings(data))))


@get(
    _KEYS,
    summary="The keys of any project",
    operation_id="ApiV1ProjectsProjectIdApiKeysEvery",
    guards=[requires_operator],
    security=NEEDS_MASTER_KEY,
)
async def list_projects_keys(project_id: FromPath[str], services: NamedDependency[Services]) -> Success[list[KeyOut]]:
    """List a project's keys, revoked ones too, oldest first."""
    project = await services.accounts.project(id_in_path(project_id))
    return Success(data=await keys_out(services, project.project_id))


@get(
    _KEY,
    summary="One key of any project",
    operation_id="ApiV1ProjectsProjectIdApiKeysKeyIdOne",
    guards=[requires_operator],
    security=NEEDS_MASTER_KEY,
)
async def get_projects_key(
    project_id: FromPath[str], key_id: FromPath[str], services: NamedDependency[Services]
) -> Success[KeyOut]:
    """Show a key of a project."""
    record = await services.accounts.key(id_in_path(project_id), id_in_path(key_id))
    return Success(data=await key_out(services, record))


@patch(
    _KEY,
    summary="Change a key of any project",
    operation_id="ApiV1ProjectsProjectIdApiKeysKeyIdChange",
    guards=[requires_operator],
    security=NEEDS_MASTER_KEY,
)
async def change_projects_key(
    project_id: FromPath[str],
    key_id: FromPath[str],
    data: RequestBody[KeyChangeBody],
    services: NamedDependency[Services],
) -> Success[KeyOut]:
    """Change a key of a project, from its next request on."""
    record = await services.accounts.key(id_in_path(project_id), id_in_path(key_id))
    changed = await services.accounts.change_key(record, changed_key_settings(record, data))
    return Success(data=await key_out(services, changed))


@delete(
    _KEY,
    summary="Revoke a key of any project",
    operation_id="ApiV1ProjectsProjectIdApiKeysKeyIdRevoke",
    guards=[requires_operator],
    security=NEEDS_MASTER_KEY,
    status_code=200,
)
async def revoke_projects_key(
    project_id: FromPath[str], key_id: FromPath[str], services: NamedDependency[Services]
) -> Success[RevokedKeyOut]:
    """Revoke a key of a project."""
    record = await services.accounts.key(id_in_path(project_id), id_in_path(key_id))
    await services.accounts.revoke_key(record)
    return Success(data=RevokedKeyOut(id=record.key_id))


HANDLERS = (issue_projects_key, list_projects_keys, get_projects_key, change_projects_key, revoke_projects_key)
