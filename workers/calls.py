"""Calls the provider of a job: finds its body, its translation, its credential and its adapter. Does not retry."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager

from msgspec import Struct
from msgspec.structs import replace

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
from workers.providers.provider import Credential, Provider, ProviderCall


class PreparedCall(Struct, frozen=True, kw_only=True):
    """The call of a job, shared by its attempts: the bytes, the kind of provider, the parameters."""

    kind: Kind
    translation: Translation
    content: bytes
    """The bytes sent to the provider."""
    request_bytes: int
    """The size of the job's body."""
    call: ProviderCall
    """Each attempt sets its own timeout and turn."""


class ProviderCalls:
    """Calls providers under the credentials of the jobs' projects."""

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
        """Read what the job's calls need. Done before an attempt is claimed, so that a failure here costs no attempt.

        Raises:
            Unavailable: the database is away, or no longer keeps the body (its deadline has passed).

        """
        body, identity = job.body, job.identity
        if body is None:
            assert job.body_blob_id is not None, "a job has a body or names one"
            body = await self._blobs.read(identity.project_id, job.body_blob_id)
        if body is None:
            raise Unavailable("the request's body is no longer kept")
        is_stream = job.stream is not None
        client = job.stream.surface if job.stream is not None else NATIVE
        translation = self._dialects.chosen(client, identity.operation, job.kind, is_passthrough=job.is_passthrough)
        assert translation.provider is not None, "the request was checked"
        render = translation.render_request
        return PreparedCall(
            kind=job.kind,
            translation=translation,
            content=await offload(len(body), render, body, identity.upstream_model, is_stream=is_stream),
            request_bytes=len(body),
            call=ProviderCall(
                identity=identity,
                method=job.method,
                path=job.path or translation.provider.path,
                credential=await self._credential(job),
                timeout_s=0,
                headers=job.headers or {},
                query=job.query,
                keeps_error_body=translation.keeps_provider_errors,
            ),
        )

    async def call(
        self, prepared: PreparedCall, timeout_s: float, take_turn: Callable[[], Awaitable[None]]
    ) -> ProviderResponse:
        """Call the job's provider once. A large answer waits for its turn.

        Raises:
            ProviderError: as the class says.

        """
        call = replace(prepared.call, timeout_s=timeout_s, take_turn=take_turn)
        body = await self._providers[prepared.kind].send(prepared.content, call)
        return await read_response(prepared.translation, body, call.identity)

    def stream(
        self, prepared: PreparedCall, timeout_s: float
    ) -> AbstractAsyncContextManager[AsyncIterator[list[SseEvent]]]:
        """Call the job's provider once, for a stream. Raises as the provider's `stream`."""
        call = replace(prepared.call, timeout_s=timeout_s)
        return self._providers[prepared.kind].stream(prepared.content, call)

    async def _credential(self, job: Job) -> Credential | None:
        """Return None if there is no key, or if the provider has been changed since the job was admitted."""
        provider = job.identity.provider
        access = await self._keys.access(job.identity.project_id, provider)
        if access is None or (access.kind or provider, access.base_url) != (job.kind, job.base_url):
            return None
        if job.needs_own_credential and not access.is_own:
            return None
        if access.base_url is None:
            return Credential(access.key, self._base_urls.get(provider))
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
