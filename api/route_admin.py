"""Routes: of a project, or of the installation. Used by the calls of `/routes` and by the shell commands.

Each call is one append with its projection in one transaction; then every process is notified.
"""

from collections.abc import Awaitable, Callable, Container, Iterator, Mapping, Sequence

from api.inline_append import OwnedStreams
from domain.errors import InvalidRequest, NotFound, UnknownModel
from domain.events import INSTALLATION, RouteRemoved, RouteSet, route_stream
from domain.routes import MAX_GROUPS, MAX_ROUTES, MAX_TARGETS, RouteSettings, RouteTarget
from domain.routing import KEYLESS_KINDS, Kind, NamedProvider, Target, built_in_kind, resolve_target
from infra.database import Pool
from infra.event_log import EventLog
from infra.provider_keys import credentials_of
from projections.providers import providers_of
from projections.routes import RouteRecord, Routes, routes_of


class RouteAdmin:
    """Sets and removes routes. `owner` is a project's id, or `INSTALLATION`."""

    def __init__(
        self,
        pool: Pool,
        log: EventLog,
        announce: Callable[[str], Awaitable[None]] | None = None,
        *,
        upstream_models: Mapping[str, str],
        kinds: Container[Kind],
        installation_credentials: Mapping[str, Sequence[str]],
    ) -> None:
        """`announce` tells every process that an owner's routes are different. `kinds`: the built-in providers;
        `installation_credentials`: the names of the installation's keys of these, where they are known.
        """
        self._pool = pool
        self._streams = OwnedStreams(log, Routes(), announce)
        self._upstream_models = upstream_models
        self._kinds = kinds
        self._installation_credentials = installation_credentials

    async def set_route(
        self, owner: str, name: str, settings: RouteSettings, *, is_new: bool = False, is_flat: bool = False
    ) -> RouteRecord:
        """Make a route, or give it other settings. If `is_new`, there may be none of the name.

        `is_flat`: the caller wrote its one group as `targets`, which the errors then name.

        Raises:
            InvalidRequest: names the field: the name is taken, a target is no model, or there are too many.

        """
        version = await self._streams.version(route_stream(owner, name))  # before what is decided on
        current = {record.name for record in await routes_of(self._pool, owner)}
        if name in current and is_new:
            raise InvalidRequest(f"`name` {name!r} is taken: change that route, or remove it", field="name")
        if name not in current and len(current) >= MAX_ROUTES:
            raise InvalidRequest(f"there may be {MAX_ROUTES} routes: remove one first", field="name")
        await self._check(owner, name, settings, current, is_flat=is_flat)
        event = RouteSet(name=name, settings=settings)
        await self._streams.append(owner, route_stream(owner, name), version, event)
        return await self.get(owner, name)

    async def remove(self, owner: str, name: str) -> None:
        """Remove a route.

        Raises:
            NotFound: there is none of this name.

        """
        version = await self._streams.version(route_stream(owner, name))
        await self.get(owner, name)
        await self._streams.append(owner, route_stream(owner, name), version, RouteRemoved(name=name))

    async def list_all(self, owner: str) -> list[RouteRecord]:
        """The owner's routes, by name."""
        return await routes_of(self._pool, owner)

    async def list_usable(self, owner: str) -> list[RouteRecord]:
        """The routes that the owner's keys may ask for, by name: its own, and the installation's of other names."""
        installations = {record.name: record for record in await routes_of(self._pool, INSTALLATION)}
        own = {record.name: record for record in await routes_of(self._pool, owner)}
        return [record for _, record in sorted((installations | own).items())]

    async def get(self, owner: str, name: str) -> RouteRecord:
        """A route of the owner's.

        Raises:
            NotFound: there is none of this name.

        """
        record = next((one for one in await routes_of(self._pool, owner) if one.name == name), None)
        if record is None:
            raise NotFound(f"there is no route {name!r} here")
        return record

    async def _check(
        self, owner: str, name: str, settings: RouteSettings, own_routes: set[str], *, is_flat: bool
    ) -> None:
        _check_size(settings, "targets" if is_flat else "groups")
        owners = dict.fromkeys((owner, INSTALLATION))
        named = [record.provider for one in owners for record in await providers_of(self._pool, one)]
        routes = own_routes | {name} | {record.name for record in await routes_of(self._pool, INSTALLATION)}
        for place, target in _targets_with_places(settings, is_flat=is_flat):
            resolved = self._check_target(place, target, named, routes)
            if target.credential is not None:
                await self._check_credential(owner, f"{place}.credential", target.credential, resolved)

    def _check_target(
        self, place: str, target: RouteTarget, named: list[NamedProvider], routes: Container[str]
    ) -> Target:
        field = f"{place}.model"
        if target.model in routes:
            kind = built_in_kind(target.model)
            model = f"{kind or 'provider'}/{target.model}"
            way_out = f"name the model with its provider in front, as {model!r}"
            raise InvalidRequest(
                f"`{field}`: {target.model!r} is a route, and a target is a model: {way_out}", field=field
            )
        try:
            return resolve_target(target.model, self._upstream_models, named, self._kinds)
        except UnknownModel:
            raise InvalidRequest(
                f"`{field}`: model {target.model!r} is unknown: GET /api/v1/models lists models, and 'provider/model' "
                "names a provider outright",
                field=field,
            ) from None

    async def _check_credential(self, owner: str, field: str, name: str, target: Target) -> None:
        provider = target.provider
        if target.kind in KEYLESS_KINDS:
            raise InvalidRequest(f"`{field}`: {provider} is called without a credential", field=field)
        names = [one.name for one in await credentials_of(self._pool, owner, provider)]
        if not names and owner != INSTALLATION:
            names = [one.name for one in await credentials_of(self._pool, INSTALLATION, provider)]
        names = names or list(self._installation_credentials.get(provider, ()))
        if names and name not in names:
            raise InvalidRequest(
                f"`{field}`: {provider} has no credential {name!r}: it has {', '.join(names)}", field=field
            )


def _targets_with_places(settings: RouteSettings, *, is_flat: bool) -> Iterator[tuple[str, RouteTarget]]:
    """The targets, each with its path in the caller's body (`groups[0][1]`, `targets[1]`)."""
    for number, group in enumerate(settings.groups):
        for position, target in enumerate(group):
            yield (f"targets[{position}]" if is_flat else f"groups[{number}][{position}]"), target


def _check_size(settings: RouteSettings, field: str) -> None:
    groups, targets = len(settings.groups), sum(map(len, settings.groups))
    if groups > MAX_GROUPS or targets > MAX_TARGETS:
        raise InvalidRequest(
            f"`{field}`: a route may have {MAX_GROUPS} groups and {MAX_TARGETS} targets, not {groups} and {targets}",
            field=field,
        )
