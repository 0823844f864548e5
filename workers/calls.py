"""From a job to a provider's answer: the body, the credential, the adapter. One attempt; retrying is the caller's."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager

from msgspec import Struct

from domain.dialects.codec import ProviderResponse
from domain.dialects.errors import UnreadableResponse
from domain.dialects.registry import NATIVE, DialectRegistry
from domain.dialects.sse import SseEvent
from domain.dialects.translation import Translation
from domain.errors import ProviderLost, Unavailable
from domain.request_identity import RequestIdentity
from domain.routing import Kind
from infra.blobs import Blobs
from infra.jobs import Job
from infra.offload import offload
from infra.provider_keys import ProviderKeys
from workers.large_answers import Turn
from workers.providers.provider import Credential, Provider, ProviderCall, no_turn


class PreparedCall(Struct, frozen=True, kw_only=True):
    """Everything that the attempts at a job have in common."""

    identity: RequestIdentity
    kind: Kind
    translation: Translation
    path: str
    content: bytes
    """What the provider is sent."""
    request_bytes: int
    """The size of the job's body."""
    credential: Credential | None
    headers: Mapping[str, str]
    query: str | None


class ProviderCalls:
    """Calls providers with the keys of the projects that ask."""

    def __init__(
        self,
        *,
        providers: Mapping[Kind, Provider],
        dialects: DialectRegistry,
        keys: ProviderKeys,
        base_urls: Mapping[str, str],
        blobs: Blobs,
    ) -> None:
        """`base_urls` has the addresses of built-in providers that are not at their vendor's."""
        self._dialects = dialects
        self._providers = providers
        self._keys = keys
        self._base_urls = base_urls
        self._blobs = blobs

    async def prepare(self, job: Job) -> PreparedCall:
        """Gather everything that the job's calls need, before an attempt is claimed.

        Raises:
            Unavailable: the database is away, or no longer keeps the body (its deadline has passed).

        """
        body = job.body
        if body is None:
            assert job.body_blob_id is not None, "a job has a body or names one"
            body = await self._blobs.read(job.identity.project_id, job.body_blob_id)
        if body is None:
            raise Unavailable("the request's body is no longer kept")
        translation = translation_of(job, self._dialects)
        return PreparedCall(
            identity=job.identity,
            kind=job.kind,
            translation=translation,
            path=self._dialects.provider_path(job.kind, job.identity.operation),
            content=await offload(
                len(body),
                translation.render_request,
                body,
                job.identity.upstream_model,
                is_stream=job.stream is not None,
            ),
            request_bytes=len(body),
            credential=await self._credential(job),
            headers=job.headers or {},
            query=job.query,
        )

    async def call(self, prepared: PreparedCall, timeout_s: float, turn: Turn) -> ProviderResponse:
        """Ask the job's provider once; a large answer takes a turn.

        Raises:
            ProviderError: as the class says.

        """
        identity = prepared.identity
        body = await self._providers[prepared.kind].send(prepared.content, _call(prepared, timeout_s, turn.take))
        return await read_response(prepared.translation, body, identity)

    def stream(
        self, prepared: PreparedCall, timeout_s: float
    ) -> AbstractAsyncContextManager[AsyncIterator[list[SseEvent]]]:
        """Ask the job's provider once, for a stream. Raises as the provider's `stream`."""
        return self._providers[prepared.kind].stream(prepared.content, _call(prepared, timeout_s, no_turn))

    async def _credential(self, job: Job) -> Credential | None:
        """None if there is no key, or if the provider has changed since the job was admitted."""
        access = await self._keys.access(job.identity.project_id, job.identity.provider)
        if access is None or (access.kind or job.identity.provider, access.base_url) != (job.kind, job.base_url):
            return None
        if job.needs_own_credential and not access.is_own:
            return None
        if access.base_url is None:
            return Credential(access.key, self._base_urls.get(job.identity.provider))
        return Credential(access.key, access.base_url, is_callers=True)


async def read_response(translation: Translation, body: bytes, identity: RequestIdentity) -> ProviderResponse:
    """Read a provider's response.

    Raises:
        ProviderLost: it is no response; the provider may have charged for it.

    """
    try:
        return await offload(
            len(body), translation.parse_response, body, model=identity.model, provider=identity.provider
        )
    except UnreadableResponse as error:
        message = f"{identity.provider} sent an answer that cannot be read: {error}"
        raise ProviderLost(message, provider=identity.provider) from error


def translation_of(job: Job, dialects: DialectRegistry) -> Translation:
    """The way that was chosen when the job's request was admitted."""
    client = job.stream.surface if job.stream is not None else NATIVE
    return dialects.chosen(client, job.identity.operation, job.kind, is_passthrough=job.is_passthrough)


def _call(prepared: PreparedCall, timeout_s: float, take_turn: Callable[[], Awaitable[None]]) -> ProviderCall:
    return ProviderCall(
        identity=prepared.identity,
        path=prepared.path,
        credential=prepared.credential,
        timeout_s=timeout_s,
        headers=prepared.headers,
        query=prepared.query,
        keeps_error_body=prepared.translation.keeps_provider_errors,
        take_turn=take_turn,
    )
