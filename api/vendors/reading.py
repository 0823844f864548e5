"""Reads a request of a vendor's client for each of its targets: its way to the provider, and its translation for it.

`fallbacks`, as a list of names, is the gateway's own member: it is taken out of the body. What vendors or sellers mean
by it (objects, a word) goes on as it came.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from api.authentication import Caller
from api.requests import Fallbacks, HttpRequest, fallbacks_of
from api.services import Services
from api.vendors.paths import MODEL_SCOPE
from domain.decoding import check_values, invalid
from domain.dialects.codec import Codec
from domain.dialects.passthrough.inspect import PassthroughRequest, read_passthrough
from domain.dialects.passthrough.json_edit import rewrite, without_member
from domain.dialects.translation import ParsedRequest, Translation
from domain.errors import GatewayError, InvalidRequest, ProviderRejected
from domain.events import Operation
from domain.failover import PlannedTarget, TargetFate, TargetPlan
from domain.routing import Target

_FALLBACKS = b'"fallbacks"'


class _Named(Struct, frozen=True):
    """The member of a body that may name fallbacks."""

    fallbacks: Any = None


_decode_named = msgspec.json.Decoder(_Named).decode


class Read(Struct, frozen=True, kw_only=True):
    """A request, and its way to its provider."""

    passthrough: PassthroughRequest
    target: Target
    translation: Translation
    parsed: ParsedRequest
    fits: bool
    """See `DialectRegistry.passes_through`."""


class Reads(Struct, frozen=True, kw_only=True):
    """A request as it was read for each target of its plan."""

    plan: TargetPlan
    each: Sequence[Read | None]
    """In the plan's order; None: the target cannot serve it. At least one can."""
    left_out: Sequence[TargetFate] = ()
    """Those that cannot, and why."""

    @property
    def first(self) -> Read:
        """The first that can be served."""
        for read in self.each:
            if read is not None:
                return read
        raise AssertionError("a request is read for a target that can serve it")

    def at(self, number: int) -> Read:
        """The request at a target of this number."""
        read = self.each[number]
        assert read is not None, "it was served"
        return read

    def refused_by(self, error: ProviderRejected) -> Read:
        """The request at the target that has refused it."""
        place = (error.provider, error.upstream_model)
        found = (one for one in self.each if one and (one.target.provider, one.target.upstream_model) == place)
        return next(found, self.first)


async def read_request(
    services: Services,
    request: HttpRequest,
    caller: Caller,
    body: bytes,
    codec: Codec,
    *,
    is_cached: bool,
    lacked: tuple[Target, Operation] | None = None,
) -> Reads:
    """Read a request for each of its targets.

    `is_cached`: it is read with what its cache key needs. `lacked`: a call that a target has just turned out not to
    have.

    Raises:
        GatewayError: it cannot be read, its model is unknown, or no target can serve it.

    """
    model_in_path: Any = request.scope.get(MODEL_SCOPE)

    def parse() -> Reads | tuple[_Reader, TargetPlan]:
        given = body if model_in_path is None else rewrite(body, {"model": model_in_path})
        given, named = without_fallbacks(given)
        reader = _Reader(services, caller, codec, given, is_cached=is_cached, lacked=lacked)
        plan = services.planner.targets(caller, reader.as_came.model, fallbacks_of(request, named))
        if plan.is_ordinary:
            return Reads(plan=plan, each=(reader.read(plan.targets[0]),))
        return reader, plan

    found = await services.large_requests.run(caller.project_id, len(body), parse)
    if isinstance(found, Reads):
        return found
    reader, plan = found
    work_bytes = len(body) * len(plan.targets)
    return await services.large_requests.run(caller.project_id, work_bytes, _read_each, reader, plan)


class _Reader:
    """Reads one request for several targets."""

    def __init__(
        self,
        services: Services,
        caller: Caller,
        codec: Codec,
        body: bytes,
        *,
        is_cached: bool,
        lacked: tuple[Target, Operation] | None,
    ) -> None:
        self._services = services
        self._caller = caller
        self._codec = codec
        self._body = body
        self._is_cached = is_cached
        self._finds_models = caller.settings.models is not None
        self._lacked = lacked
        self.as_came = self._as_came()

    def read(self, asked: PlannedTarget) -> Read:
        """Read it for a target. Raises as `read_request`."""
        services, codec, target, model = self._services, self._codec, asked.target, asked.asked.model
        as_came = self.as_came
        passthrough = as_came if model == as_came.model else self._passthrough(rewrite(self._body, {"model": model}))

        def has(operation: Operation) -> bool:
            is_there = services.missing_calls.has(self._caller.project_id, target, operation)
            return is_there and (target, operation) != self._lacked

        fuller = codec.fuller_operation
        fits = services.dialects.passes_through(passthrough, target, has_fuller=fuller is not None and has(fuller))
        translation = services.dialects.choose(codec, target.kind, has_call=has(codec.operation), fits=fits)
        parsed = translation.parse_request(passthrough, is_builtin=target.base_url is None)
        return Read(passthrough=passthrough, target=target, translation=translation, parsed=parsed, fits=fits)

    def _as_came(self) -> PassthroughRequest:
        if self._is_cached:
            return self._services.repeated_requests.read(self._body, self._codec, finds_models=self._finds_models)
        return self._passthrough(self._body)

    def _passthrough(self, body: bytes) -> PassthroughRequest:
        return read_passthrough(body, self._codec, is_cached=self._is_cached, finds_models=self._finds_models)


def _read_each(reader: _Reader, plan: TargetPlan) -> Reads:
    """Read a request for each target. The first one's refusal is the caller's, if it named that one itself."""
    each: list[Read | None] = []
    left_out: list[TargetFate] = []
    first_error: GatewayError | None = None
    for number, asked in enumerate(plan.targets):
        try:
            each.append(reader.read(asked))
        except InvalidRequest as error:
            if number == 0 and asked.route is None:
                raise
            first_error = first_error or error
            each.append(None)
            model, provider = asked.asked.model, asked.target.provider
            left_out.append(
                TargetFate(model=model, provider=provider, outcome="dropped", reason="refused", message=error.message)
            )
    if first_error is not None and not any(each):
        raise first_error
    return Reads(plan=plan, each=each, left_out=left_out)


def without_fallbacks(body: bytes) -> tuple[bytes, Sequence[str] | None]:
    """The body without a list of names in `fallbacks`, and that list; None: there is no such list.

    Raises:
        InvalidRequest: the list has too many names, or one is no name.
        BodyTooLarge: as `check_values`.

    """
    if _FALLBACKS not in body:
        return body, None
    check_values(body)
    try:
        given = _decode_named(body).fallbacks
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body, None  # it is read again, and refused with its reason
    if not isinstance(given, list) or not given or not all(isinstance(name, str) for name in given):
        return body, None
    try:
        names = msgspec.convert(given, Fallbacks)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"`fallbacks`: {invalid(error).message}", field="fallbacks") from None
    return without_member(body, "fallbacks"), names
