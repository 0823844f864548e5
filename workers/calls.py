"""Calls the provider of a job: finds its body, its translation, its credential and its adapter. Does not retry."""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import partial

from cachetools import LRUCache
from msgspec import Struct
from msgspec.structs import replace

from domain.circuit import CircuitKey
from domain.credentials import drawn
from domain.dialects.choices import join_choices
from domain.dialects.codec import ProviderResponse
from domain.dialects.errors import StreamFailed, UnreadableResponse
from domain.dialects.passthrough.json_edit import without_member
from domain.dialects.registry import NATIVE, DialectRegistry
from domain.dialects.sse import SseEvent
from domain.dialects.translation import Translation
from domain.errors import (
    ProviderError,
    ProviderLost,
    ProviderRejected,
    ProviderUnavailable,
    TimeLimit,
    Unavailable,
)
from domain.events import INSTALLATION, KeptResponse
from domain.failover import CallLimits
from domain.request_identity import RequestIdentity
from domain.reserve import with_reserve
from domain.routing import Kind
from infra.blobs import Blobs
from infra.jobs import Job
from infra.offload import offload
from infra.provider_keys import Access, ProviderKeys
from workers.circuits import CircuitBreaker, circuit_of
from workers.provider_failures import reported_failure
from workers.providers.provider import Credential, Provider, ProviderCall, no_turn
from workers.watched_calls import WatchedCall

MAX_REMEMBERED = 1_024
ASK_TIMEOUT_S = 20.0
"""For a response that a provider keeps."""
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
"""An id of a response that may stand in a path."""


class PreparedCall(Struct, frozen=True, kw_only=True):
    """The call of a job, shared by its attempts: the bytes, the kind of provider, the parameters."""

    kind: Kind
    translation: Translation
    content: bytes
    """The bytes sent to the provider."""
    request_bytes: int
    """The size of the job's body."""
    calls: int = 1
    """How often an attempt calls the provider, each time for one of the answers that the request asks for."""
    other_credentials: tuple[Credential, ...] = ()
    """Those that the call may be made with after its own, in the order in which they are tried."""
    call: ProviderCall
    """Each attempt sets its own limits and turn."""
    is_translated: bool = False
    asks_usage: bool = False
    """Of a stream: we ask for its usage, the caller does not. A provider may not know how."""

    def with_next_credential(self) -> "PreparedCall":
        """The call under the next credential, of which there is one."""
        following, *others = self.other_credentials
        return replace(self, call=replace(self.call, credential=following), other_credentials=tuple(others))


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
        circuits: CircuitBreaker | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`base_urls` has the addresses of built-in providers that are not at their vendor's. `circuits` are told how
        each call went; None: nobody is. `draw` gives a number from 0 up to 1: see `domain.credentials.drawn`.
        """
        self._dialects = dialects
        self._providers = providers
        self._keys = keys
        self._base_urls = base_urls
        self._blobs = blobs
        self._circuits = circuits
        self._draw = draw
        self._without_usage: LRUCache[tuple[str, str | None, str], bool] = LRUCache(MAX_REMEMBERED)
        """The models, by provider and address, whose streams are not asked for usage: they refused to be."""

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
        translation = self._translation(job)
        assert translation.provider is not None, "the request was checked"
        render = translation.render_request
        content = await offload(len(body), render, body, identity.upstream_model, is_stream=job.stream is not None)
        credentials = await self._credentials(job)
        is_ours = job.stream is not None and not (job.is_passthrough and job.stream.with_usage)
        return PreparedCall(
            kind=job.kind,
            translation=translation,
            content=content,
            is_translated=not job.is_passthrough,
            asks_usage=is_ours and bool(translation.provider.stream_changes({})),
            request_bytes=len(body),
            calls=job.calls,
            other_credentials=credentials[1:],
            call=_call_of(job, translation, next(iter(credentials), None), job.path or translation.provider.path),
        )

    def _translation(self, job: Job) -> Translation:
        return self._dialects.chosen(
            job.stream.surface if job.stream is not None else NATIVE,
            job.identity.operation,
            job.kind,
            is_passthrough=job.is_passthrough,
            asked=job.asked_operation,
        )

    async def check_circuit(self, prepared: PreparedCall, *, is_only: bool) -> None:
        """Look at the circuit of a call that is about to be made. `is_only`: its request has no other target left.

        Raises:
            ProviderError: the provider is not to be called now; nothing was sent.

        """
        if self._circuits is not None:
            refusal = await self._circuits.refusal(
                circuit_of(prepared.call), prepared.call.identity.project_id, is_only=is_only
            )
            if refusal is not None:
                raise refusal

    async def call(
        self, prepared: PreparedCall, limits: CallLimits, take_turn: Callable[[], Awaitable[None]]
    ) -> ProviderResponse:
        """Call the job's provider. A large answer waits for its turn.

        If it is called several times and some of the calls fail, the answers that came are given: they are charged. If
        the outcome of one is unknown, so is that of the attempt.

        Raises:
            ProviderError: as the class says.

        """
        call = _within(prepared.call, limits, take_turn)
        if prepared.calls == 1:
            return await self._call_once(prepared, call)
        turns = asyncio.Lock()

        async def take_turn_alone() -> None:
            async with turns:
                await take_turn()

        call = replace(call, take_turn=take_turn_alone)
        outcomes = await asyncio.gather(
            *(self._call_once(prepared, call) for _ in range(prepared.calls)), return_exceptions=True
        )
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for failure in failures:
            if not isinstance(failure, ProviderError) or not failure.outcome_known:
                raise failure
        responses = [outcome for outcome in outcomes if isinstance(outcome, ProviderResponse)]
        if not responses:
            raise failures[0]
        return await offload(sum(len(response.body) for response in responses), join_choices, responses)

    async def _call_once(self, prepared: PreparedCall, call: ProviderCall) -> ProviderResponse:
        provider = self._providers[prepared.kind]
        with WatchedCall(self._circuits, call) as watched_call:
            call = watched_call.call
            try:
                body = await provider.send(prepared.content, call)
            except ProviderRejected as error:
                milder = _without_refused(prepared, error)
                if milder is None:
                    raise
                body = await provider.send(milder, call)
            return await read_response(prepared.translation, body, call.identity)

    async def kept_response(self, job: Job, kept: KeptResponse) -> ProviderResponse | None:
        """Ask a job's provider for a response that it keeps, under the credential that made it.

        Its id was reported only because the provider keeps it (`Codec.keeps_response`): the request is not read again.
        None: the credential is gone, or the id is none that can be asked for.

        Raises:
            ProviderError: the provider does not tell, or its circuit is open and it is left alone.
            Unavailable: the database is away.

        """
        translation = self._translation(job)
        codec = translation.provider
        made_with = await self._made_with(job, kept)
        if codec is None or made_with is None or not _ID.fullmatch(kept.response_id):
            return None
        call = _call_of(job, translation, made_with, codec.kept_path(kept.response_id))
        if self._circuits is not None and not self._circuits.share(circuit_of(call)):
            raise ProviderUnavailable(f"{job.identity.provider} is not asked now", provider=job.identity.provider)
        body = await self._providers[job.kind].send(b"", replace(call, method="GET", timeout_s=ASK_TIMEOUT_S))
        try:
            return await offload(len(body), with_reserve, body, partial(codec.meter_response, body))
        except (UnreadableResponse, StreamFailed, RecursionError) as error:
            message = (
                f"{job.identity.provider} tells of a response in a way that cannot be read: {type(error).__name__}"
            )
            raise ProviderLost(message, provider=job.identity.provider) from None

    @asynccontextmanager
    async def stream(
        self, prepared: PreparedCall, limits: CallLimits, on_first: Callable[[], None]
    ) -> AsyncIterator[AsyncIterator[list[SseEvent]]]:
        """Call the job's provider once, for a stream. Raises as the provider's `stream`.

        `on_first` is told when its first events have come.

        A provider that refuses to be asked for usage, which is not the caller's doing, is called again without.
        """
        call = _within(prepared.call, limits)
        provider, content = self._providers[prepared.kind], prepared.content
        base_url = call.credential.base_url if call.credential is not None else None
        place = (call.identity.provider, base_url, call.identity.upstream_model)
        is_known = prepared.asks_usage and place in self._without_usage
        if is_known:
            content = without_member(content, "stream_options")
        with WatchedCall(self._circuits, call) as watched_call:
            call = watched_call.call
            async with AsyncExitStack() as stack:
                try:
                    events = await stack.enter_async_context(provider.stream(content, call))
                except ProviderRejected as error:
                    milder = _without_refused(prepared, error)
                    if milder is not None:
                        events = await stack.enter_async_context(provider.stream(milder, call))
                    elif is_known or not prepared.asks_usage or not _blames_stream_options(error):
                        raise
                    else:
                        content = without_member(content, "stream_options")
                        events = await stack.enter_async_context(provider.stream(content, call))
                        self._without_usage[place] = True
                async with aclosing(watched_call.first_of(events, on_first)) as batches:
                    yield batches

    async def _made_with(self, job: Job, kept: KeptResponse) -> Credential | None:
        """The credential that a response was made with, whichever hide it since; None: it is gone, or elsewhere."""
        identity = job.identity
        owner = identity.project_id if kept.is_own else INSTALLATION
        accesses = [
            access
            for access in await self._keys.accesses(owner, identity.provider)
            if (access.kind or identity.provider, access.base_url) == (job.kind, job.base_url)
            and (access.is_own or not kept.is_own)
        ]
        made_with = next((access for access in accesses if access.name == kept.credential), None)
        if made_with is None:
            return None
        return replace(self._credential(made_with, identity.provider, accesses), is_own=kept.is_own)

    async def _credentials(self, job: Job) -> tuple[Credential, ...]:
        """The provider's credentials in the order in which the job's calls try them: each next one is drawn by its
        weight, those whose circuits are open last. If the job's target names one, that alone.

        Empty if there is no such key, or if the provider has been changed since the job was admitted.
        """
        identity = job.identity
        accesses = [
            access
            for access in await self._keys.accesses(identity.project_id, identity.provider)
            if (access.kind or identity.provider, access.base_url) == (job.kind, job.base_url)
            and (access.is_own or not job.needs_own_credential)
        ]
        named = job.asked.credential if job.asked is not None else None
        if named is not None:
            tried = [access for access in accesses if access.name == named]
        elif len(accesses) > 1:
            tried = drawn(accesses, lambda access: access.weight * self._share(job, access), self._draw)
        else:
            tried = accesses
        return tuple([self._credential(access, identity.provider, accesses) for access in tried])

    def _share(self, job: Job, access: Access) -> float:
        """The share of its usual calls that a credential should get."""
        if self._circuits is None:
            return 1.0
        owner = job.identity.project_id if access.is_own else INSTALLATION
        identity = job.identity
        return self._circuits.share(
            CircuitKey(owner=owner, provider=identity.provider, model=identity.upstream_model, credential=access.name)
        )

    def _credential(self, access: Access, provider: str, accesses: Sequence[Access]) -> Credential:
        has_others = len(accesses) > 1
        return Credential(
            access.key,
            access.base_url if access.base_url is not None else self._base_urls.get(provider),
            is_callers=access.base_url is not None,
            is_own=access.is_own,
            name=access.name if has_others else None,
            stored_as=access.name,
            other_keys=tuple(sorted(other.key for other in accesses if other is not access)) if has_others else (),
        )


def _call_of(job: Job, translation: Translation, credential: Credential | None, path: str) -> ProviderCall:
    """A call of a job's provider, whose limits are yet to be set."""
    return ProviderCall(
        identity=job.identity,
        method=job.method,
        path=path,
        credential=credential,
        timeout_s=0,
        callers_limits_s=_callers_limits(job),
        headers=job.headers or {},
        query=job.query,
        keeps_error_body=translation.keeps_provider_errors,
    )


def _within(call: ProviderCall, limits: CallLimits, take_turn: Callable[[], Awaitable[None]] = no_turn) -> ProviderCall:
    return replace(
        call,
        timeout_s=limits.total_s,
        first_byte_s=limits.first_byte_s,
        idle_s=limits.idle_s,
        take_turn=take_turn,
    )


def _callers_limits(job: Job) -> dict[TimeLimit, float]:
    asked = job.asked
    if asked is None:
        return {}
    limits: dict[TimeLimit, float | None] = {
        "total": asked.timeout_s,
        "first_byte": asked.first_byte_timeout_s,
        "idle": asked.idle_timeout_s,
    }
    return {limit: limit_s for limit, limit_s in limits.items() if limit_s is not None}


def _without_refused(prepared: PreparedCall, error: ProviderRejected) -> bytes | None:
    """The request without what was refused if it was a wish of the gateway's: nothing was charged for the refusal."""
    codec = prepared.translation.provider
    if codec is None or not prepared.is_translated:
        return None
    return codec.without_refused(prepared.content, error.message.encode())


def _blames_stream_options(error: ProviderRejected) -> bool:
    said = error.message.encode() + (error.own_body or b"")
    return b"stream_options" in said or b"include_usage" in said


async def read_response(translation: Translation, body: bytes, identity: RequestIdentity) -> ProviderResponse:
    """Read a provider's response.

    Raises:
        ProviderLost: it is no response; the provider may have charged for it.
        ProviderError: it is the provider's report of a failure.

    """
    parse = partial(translation.parse_response, body, model=identity.model, provider=identity.provider)
    try:
        return await offload(len(body), with_reserve, body, parse)
    except RecursionError:
        message = f"{identity.provider} sent an answer that is nested too deeply"
        raise ProviderLost(message, provider=identity.provider) from None
    except StreamFailed as error:
        raise reported_failure(error, identity.provider) from error
    except UnreadableResponse as error:
        message = f"{identity.provider} sent an answer that cannot be read: {error}"
        raise ProviderLost(message, provider=identity.provider) from error
