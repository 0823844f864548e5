"""The parts that the routes work with, made once per process by `api/process.py`."""

from dataclasses import dataclass
from typing import Protocol

from litestar.types import Receive

from api.accounts import Accounts
from api.async_jobs.parts import JobParts
from api.authentication import Authenticator, Caller
from api.connections import Connections
from api.credential_admin import CredentialAdmin
from api.dashboard.sessions import SignIns
from api.exports import Exports
from api.inference_response import InferenceResponse, StreamedResponse
from api.large_requests import LargeRequests
from api.metrics import Metrics
from api.missing_calls import MissingCalls
from api.observation import RequestObserver
from api.pricing import PriceAdmin
from api.provider_health import ProviderHealth
from api.provider_settings import ProviderSettings
from api.readiness import Readiness
from api.refusals import RateRefusals
from api.repeated_requests import RepeatedRequests
from api.request_context import InferenceRequest
from api.request_planner import RequestPlanner
from api.route_admin import RouteAdmin
from domain.dialects.registry import DialectRegistry
from infra.access_log import AccessLog
from infra.broker import Broker
from infra.byte_budget import ByteBudget
from infra.database import Pool
from infra.event_log import EventLog
from infra.jobs import JobQueue
from infra.price_book import PriceBook
from infra.provider_object_ownership import ProviderObjectOwnership
from infra.settings import Settings
from infra.vault import Vault


class Inference(Protocol):
    """Has requests answered: `api/inference.py`, or what a job puts in its place."""

    async def infer(
        self, caller: Caller, inference_request: InferenceRequest, receive: Receive
    ) -> InferenceResponse | StreamedResponse:
        """See `InferenceService.infer`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything that a route may need."""

    settings: Settings
    pool: Pool
    """For pages, lists, reports and exports: few connections and short statements, which take nothing from calls."""
    caller_pool: Pool
    """For what a call or a job waits for."""
    vault: Vault
    broker: Broker
    log: EventLog
    prices: PriceBook
    accounts: Accounts
    provider_settings: ProviderSettings
    provider_health: ProviderHealth
    authenticator: Authenticator
    sign_ins: SignIns
    dialects: DialectRegistry
    inference: Inference
    objects: ProviderObjectOwnership
    missing_calls: MissingCalls
    planner: RequestPlanner
    large_requests: LargeRequests
    repeated_requests: RepeatedRequests
    metrics: Metrics
    observer: RequestObserver
    access_log: AccessLog
    rate_refusals: RateRefusals
    readiness: Readiness
    connections: Connections
    byte_budget: ByteBudget
    price_admin: PriceAdmin
    jobs: JobParts
    queue: JobQueue
    route_admin: RouteAdmin
    credential_admin: CredentialAdmin
    exports: Exports
