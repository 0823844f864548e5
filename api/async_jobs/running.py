"""Runs one asynchronous job that was taken from the queue: what has become of it, its next request, its end.

The job's stream decides. A request of it is published only after its JobStarted is appended under the stream's version;
so of two runners that have the same job only one makes the call, even if both believe to have the lease.
"""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Literal

import structlog
from cachetools import TTLCache
from litestar.types import Receive
from msgspec import Struct
from msgspec.structs import replace

from api.async_jobs.operations import JobContent, JobReceive, decode_content, perform
from api.authentication import Caller
from api.inference_response import InferenceResponse, StreamedResponse
from api.native.errors import status_of
from api.request_context import Background, InferenceRequest
from api.response_cache import ResponseCache
from api.services import Inference, Services
from domain.async_jobs import (
    MAX_PUT_OFF_S,
    MAX_RUNS,
    JobEnd,
    JobHistory,
    decide_ended,
    decide_started,
    is_put_off,
    put_off_s,
    retry_after_s,
)
from domain.errors import (
    ClientDisconnected,
    GatewayError,
    JobExpired,
    ProviderError,
    RateLimited,
    ResultLost,
    Unauthorized,
    Unavailable,
)
from domain.events import (
    AttemptLost,
    Event,
    JobFailed,
    JobSucceeded,
    RequestCompleted,
    RequestFailed,
    RequestServedFromCache,
    request_stream,
)
from domain.job_result import error_of, failure_in_log
from domain.limits import LimitStatus
from infra.admission import Admission
from infra.blobs import Blobs
from infra.crash_points import reach
from infra.direct import DirectDispatch
from infra.event_log import Blob, Commit
from infra.ids import new_id
from infra.job_leases import TakenJob
from infra.job_log import read_job, record_job
from projections.sweeper import end_abandoned

ABANDONED_AFTER_S = 30.0
"""A delivery that a worker has left is made again long before; and a worker that stands still for a while goes on."""
MAX_UNHELD = 4_096
UNHELD_KEPT_S = 10 * ABANDONED_AFTER_S
RATE_LEFT = 0.5
"""Of a key's limits for a minute: its jobs wait while less is left, and its other calls find that much."""
BUSY_WAIT_S = 2.0
"""Before a job is looked at again whose request a worker has in hand, though its runner is gone."""
REST_WAIT_S = 30.0
"""At least, before a job is looked at again that rests because its model's provider has put off another one."""
MAX_RESTING = 4_096
ENDED_WAIT_S = 60.0
"""A job that has ended is not taken again while the read model does not know it yet."""
_NO_KEY = "the API key of the job was revoked, or has expired, before the job was run"
_LEFT = "the process that ran the job has gone, and no worker had begun its request"
_NO_CONTENT = "the content of the job is no longer stored"
_UNTOLD = ("timeout", "connection_lost")
"""Reasons of lost attempts where the provider may have made the answer, and charged for it."""

log = structlog.get_logger(__name__)


class Released(Struct, frozen=True, kw_only=True):
    """The way in which a job's lease ends."""

    wait_s: float = ENDED_WAIT_S
    request_id: str | None = None
    """A new id for its next request; None: the old one."""
    paused_key: str | None = None
    """A limit of this key is spent, or half spent: its other jobs wait for `pause_s`."""
    pause_s: float = 0.0


class _Found(Struct, frozen=True, kw_only=True):
    """The outcome of a request that an earlier runner may have made."""

    state: Literal["nothing", "in_hand", "answered", "failed", "over"]
    """`over`: it came to nothing, and its id is used."""
    request_id: str
    answer: InferenceResponse | None = None
    error: GatewayError | None = None


class JobRunning:
    """Runs the jobs of one API process, one at each call."""

    def __init__(
        self,
        *,
        services: Services,
        admission: Admission,
        cache: ResponseCache,
        blobs: Blobs,
        direct: DirectDispatch,
        now: Callable[[], datetime],
    ) -> None:
        self._services = services
        self._direct = direct
        self._unheld_since_s: TTLCache[str, float] = TTLCache(MAX_UNHELD, ttl=UNHELD_KEPT_S)
        """By request: since when, on the monotonic clock, no worker says that it has it in hand."""
        self._rests_until_s: TTLCache[tuple[str, str], float] = TTLCache(MAX_RESTING, ttl=MAX_PUT_OFF_S)
        """By key and model: until when, on the monotonic clock, no further job of theirs is made."""
        self._log = services.log
        self._settings = services.settings
        self._admission = admission
        self._cache = cache
        self._blobs = blobs
        self._now = now

    async def run(self, taken: TakenJob, receive: JobReceive) -> Released:
        """Bring a job as far as it goes. `receive` tells if it is cancelled.

        Raises:
            Unavailable: the database is away; the job is to be taken again.

        """
        job = await read_job(self._log, taken.job_id)
        if job is None or job.end is not None:
            return Released()
        if self._now() >= job.accepted.deadline:
            late = JobExpired(f"the job did not end within {self._settings.job_timeout_s:g} s")
            await self._end(taken, _failed(job, late))
            return Released()
        found = _Found(state="nothing", request_id=taken.request_id)
        if taken.is_again or job.runs:
            found = await self._found(taken, job)
        match found.state:
            case "in_hand":
                return Released(wait_s=BUSY_WAIT_S)
            case "failed":
                assert found.error is not None, "a failure has an error"
                return await self._after_failure(taken, job, found.error, found.request_id)
            case "nothing" | "over" if (rest_s := self._rest_s(job)) > 0:
                return Released(wait_s=self._within(job, rest_s), request_id=new_id("req"))
            case "over" if job.counted_runs >= MAX_RUNS:
                await self._end(taken, _failed(job, Unavailable(f"{MAX_RUNS} requests came to nothing")))
                return Released()
            case "over":
                return await self._make(taken, job, new_id("req"), None, receive)
            case _:
                return await self._make(taken, job, found.request_id, found.answer, receive)

    async def _make(
        self, taken: TakenJob, job: JobHistory, request_id: str, answer: InferenceResponse | None, receive: JobReceive
    ) -> Released:
        """Make the job's next request, or take the answer that an earlier one has."""
        accepted = job.accepted
        caller = await self._services.authenticator.caller_of(taken.project_id, accepted.key_id)
        content = await self._content(taken, job)
        if caller is None or content is None:
            await self._end(taken, _failed(job, Unauthorized(_NO_KEY) if caller is None else ResultLost(_NO_CONTENT)))
            return Released()
        inference = _JobInference(self._services.inference, answer, self._background(taken, job))
        try:
            with self._services.observer.running(taken.job_id, accepted.traceparent):
                result = await perform(self._services, inference, caller, content, request_id, receive)
        except ClientDisconnected:
            return Released(wait_s=BUSY_WAIT_S)  # it was cancelled, or another runner has it
        except GatewayError as error:
            job = await read_job(self._log, taken.job_id) or job
            return await self._after_failure(taken, job, error, inference.request_id or request_id)
        await self._succeed(taken, job, inference.request_id or request_id, result)
        rest_s = pause_s(inference.limit_status)
        return Released(paused_key=accepted.key_id if rest_s > 0 else None, pause_s=rest_s)

    def _background(self, taken: TakenJob, job: JobHistory) -> Background:
        seen_runs = len(job.runs)

        async def started(request_id: str) -> None:
            nonlocal seen_runs  # a provider that lacks a call is asked by another one, with a request of its own
            was_put_off = seen_runs == len(job.runs) and await self._was_put_off(job)
            await self._started(taken, request_id, seen_runs, was_put_off=was_put_off)
            seen_runs += 1

        longest = timedelta(seconds=self._settings.job_call_timeout_s)
        deadline = min(self._now() + longest, job.accepted.deadline)
        keep_until = deadline + timedelta(seconds=self._settings.job_result_ttl_s)
        return Background(deadline=deadline, keep_until=keep_until, started=started)

    async def _was_put_off(self, job: JobHistory) -> bool:
        """Return True if the provider did nothing in the last run."""
        if not job.runs:
            return False
        history = await self._log.read_stream(request_stream(job.runs[-1].request_id))
        failures = [one.event for one in history if isinstance(one.event, RequestFailed)]
        return any(is_put_off(failed.code, failed.status) for failed in failures)

    def _rest_s(self, job: JobHistory) -> float:
        """Return how long a job rests, since its model's provider has put off another one; 0: it does not."""
        left_s = self._rests_until_s.get(_asked_for(job), 0.0) - time.monotonic()
        return max(left_s, REST_WAIT_S) if left_s > 0 else 0.0

    def _within(self, job: JobHistory, wait_s: float) -> float:
        """Cut a wait to what is left until the job's deadline."""
        return min(wait_s, max(0.0, (job.accepted.deadline - self._now()).total_seconds()))

    async def _started(self, taken: TakenJob, request_id: str, seen_runs: int, *, was_put_off: bool) -> None:
        """Record that a request of the job is about to be given to a worker.

        Raises:
            ClientDisconnected: the job was cancelled, or another runner makes the call.
            Unavailable: the database is away.

        """

        def decide(job: JobHistory) -> tuple[Event, ...]:
            return decide_started(job, request_id, seen_runs, was_put_off=was_put_off)

        if not await record_job(self._log, taken.job_id, taken.project_id, self._now(), decide):
            raise ClientDisconnected("the job was cancelled, or another runner has it")
        reach("api.after_start")

    async def _found(self, taken: TakenJob, job: JobHistory) -> _Found:
        """Find out what became of the requests that earlier runners may have made."""
        started = job.runs[-1].request_id if job.runs else None
        found = await self._of_request(taken.project_id, taken.request_id, was_started=taken.request_id == started)
        if started is None or started == taken.request_id or found.state not in ("nothing", "over"):
            return found
        earlier = await self._of_request(taken.project_id, started, was_started=True)
        return earlier if earlier.state in ("in_hand", "answered") else found

    async def _of_request(self, project_id: str, request_id: str, *, was_started: bool) -> _Found:
        """Find out what became of a request. First the ledger, then its stream: what leaves the one is in the other.

        An admission that no worker has claimed is given back: its runner is gone, or is told when it goes on.
        """
        if await self._withdraw(project_id, request_id):
            return _Found(state="over", request_id=request_id)
        is_in_hand = await self._admission.is_in_flight(request_id)
        history = [stored.event for stored in await self._log.read_stream(request_stream(request_id))]
        for event in history:
            match event:
                case RequestCompleted():
                    return await self._answered(project_id, request_id, request_id, "MISS")
                case RequestServedFromCache(origin_request_id=origin):
                    found = await self._answered(project_id, request_id, origin, "HIT")
                    return found if found.answer is not None else _Found(state="over", request_id=request_id)
                case RequestFailed():
                    return _Found(state="failed", request_id=request_id, error=error_of(failure_in_log(event)))
                case _:
                    continue
        if is_in_hand and not await self._was_abandoned(request_id, len(history)):
            return _Found(state="in_hand", request_id=request_id)
        return _Found(state="over" if history or was_started else "nothing", request_id=request_id)

    async def _was_abandoned(self, request_id: str, seen_events: int) -> bool:
        """Return True if no worker has had a claimed request in hand for so long that none will; its end is recorded.

        The queue delivers a dead worker's job again before that, unless it has lost it.
        """
        if await self._direct.is_in_hand(request_id):
            self._unheld_since_s.pop(request_id, None)
            return False
        now_s = time.monotonic()
        if now_s - self._unheld_since_s.setdefault(request_id, now_s) < ABANDONED_AFTER_S:
            return False
        del self._unheld_since_s[request_id]
        pool, now = self._services.caller_pool, self._now()
        is_ended = await end_abandoned(pool, self._log, request_id, seen_events, now)
        log.warning("job_request_abandoned", request_id=request_id, ended=is_ended)
        return is_ended

    async def _withdraw(self, project_id: str, request_id: str) -> bool:
        """Give back the admission of a request that no worker has claimed, and record its end in one step."""
        unclaimed = await self._admission.unclaimed_attempt(request_id)
        if unclaimed is None:
            return False
        failed = RequestFailed(
            **unclaimed.identity.event_fields(), code=ClientDisconnected.code, message=_LEFT, latency_ms=0
        )
        ended = Commit(
            stream=request_stream(request_id),
            expected_version=0,
            project_id=project_id,
            at=self._now(),
            events=(failed,),
        )
        return await self._admission.withdraw(request_id, ended) is not None

    async def _answered(self, project_id: str, request_id: str, origin: str, cache: Literal["HIT", "MISS"]) -> _Found:
        stored = await self._cache.own_response(project_id, origin)
        if stored is None:
            error = ResultLost("the answer stands in the log, but its content is no longer stored")
            return _Found(state="failed", request_id=request_id, error=error)
        answer = InferenceResponse(body=stored.body, receipt=stored.receipt, cache=cache, limit_status=LimitStatus())
        return _Found(state="answered", request_id=request_id, answer=answer)

    async def _after_failure(self, taken: TakenJob, job: JobHistory, error: GatewayError, request_id: str) -> Released:
        """End the job, or let it wait for its next request."""
        wait_s = retry_after_s(error, job.counted_runs, starts=len(job.runs))
        if wait_s is not None and isinstance(error, ProviderError) and await self._may_be_charged(request_id):
            wait_s = None
        log.warning("job_run_failed", job_id=taken.job_id, code=error.code, runs=len(job.runs), wait_s=wait_s)
        if wait_s is None:
            await self._end(taken, _failed(job, error))
            return Released()
        if isinstance(error, ProviderError) and is_put_off(error.code, error.status):
            self._rests_until_s[_asked_for(job)] = time.monotonic() + put_off_s(error)
        is_limit = isinstance(error, RateLimited)
        return Released(
            wait_s=self._within(job, wait_s),
            request_id=new_id("req"),
            paused_key=job.accepted.key_id if is_limit else None,
            pause_s=wait_s if is_limit else 0.0,
        )

    async def _may_be_charged(self, request_id: str) -> bool:
        """Return True if a provider did not say what became of a call: a worker does not repeat such a one either."""
        history = await self._log.read_stream(request_stream(request_id))
        return any(isinstance(one.event, AttemptLost) and one.event.reason in _UNTOLD for one in history)

    async def _succeed(self, taken: TakenJob, job: JobHistory, request_id: str, result: bytes) -> None:
        blob_id, expires_at = new_id("blob"), self._now() + timedelta(seconds=self._settings.job_result_ttl_s)
        blob = await self._blobs.seal(taken.project_id, blob_id, result, expires_at)
        succeeded = JobSucceeded(
            job_id=taken.job_id,
            key_id=job.accepted.key_id,
            request_id=request_id,
            result_blob_id=blob_id,
            result_bytes=len(result),
            result_expires_at=expires_at,
        )
        await self._end(taken, succeeded, blob)

    async def _end(self, taken: TakenJob, end: JobEnd, *blobs: Blob) -> None:
        """Append the end of a job, unless it has one."""

        def decide(job: JobHistory) -> tuple[Event, ...]:
            return decide_ended(job, end)

        await record_job(self._log, taken.job_id, taken.project_id, self._now(), decide, blobs=blobs)
        reach("api.after_end")

    async def _content(self, taken: TakenJob, job: JobHistory) -> JobContent | None:
        opened = await self._blobs.read(taken.project_id, job.accepted.request_blob_id)
        return decode_content(opened) if opened is not None else None


class _JobInference:
    """Has a job's request answered, marked as a job's; or gives the answer that an earlier request has."""

    def __init__(self, inference: Inference, answer: InferenceResponse | None, background: Background) -> None:
        self._inference = inference
        self._answer = answer
        self._background = background
        self.request_id: str | None = None
        """Of the last request that was made; None: none was."""
        self.limit_status = LimitStatus()

    async def infer(
        self, caller: Caller, inference_request: InferenceRequest, receive: Receive
    ) -> InferenceResponse | StreamedResponse:
        """See `Inference`."""
        if self._answer is not None:
            return self._answer
        self.request_id = inference_request.request_id
        of_job = replace(inference_request, background=self._background)
        response = await self._inference.infer(caller, of_job, receive)
        self.limit_status = response.limit_status
        return response


def pause_s(limit_status: LimitStatus) -> float:
    """Return how long a key's jobs wait, so that half of what it may do in a minute is left to its other calls; none if
    it is 0 or less.
    """
    meters = [meter for meter in (limit_status.requests, limit_status.tokens) if meter is not None]
    return max((RATE_LEFT - meter.remaining / meter.limit) * 60 for meter in meters) if meters else 0.0


def _asked_for(job: JobHistory) -> tuple[str, str]:
    """The key and the model, as the caller named it: what is put off for one job is for the others of both."""
    return job.accepted.key_id, job.accepted.model


def _failed(job: JobHistory, error: GatewayError) -> JobFailed:
    accepted = job.accepted
    return JobFailed(
        job_id=accepted.job_id,
        key_id=accepted.key_id,
        request_id=job.runs[-1].request_id if job.runs else None,
        code=error.code,
        message=error.message,
        status=status_of(error),
    )
