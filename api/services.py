"""The parts that the routes work with, made once per process by `api/process.py`."""

from dataclasses import dataclass

from api.accounts import Accounts
from api.authentication import Authenticator
from api.connections import Connections
from api.credential_admin import CredentialAdmin
from api.inference import InferenceService
from api.large_requests import LargeRequests
from api.metrics import Metrics
from api.missing_calls import MissingCalls
from api.pricing import PriceAdmin
from api.provider_health import ProviderHealth
from api.provider_settings import ProviderSettings
from api.readiness import Readiness
from api.refusals import RateRefusals
from api.request_planner import RequestPlanner
from api.route_admin import RouteAdmin
from domain.dialects.registry import DialectRegistry
from infra.broker import Broker
from infra.byte_budget import ByteBudget
from infra.database import Pool
from infra.event_log import EventLog
from infra.price_book import PriceBook
from infra.provider_object_ownership import ProviderObjectOwnership
from infra.settings import Settings
from infra.vault import Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything that a route may need."""

    settings: Settings
    pool: Pool
    vault: Vault
    broker: Broker
    log: EventLog
    prices: PriceBook
    accounts: Accounts
    provider_settings: ProviderSettings
    provider_health: ProviderHealth
    authenticator: Authenticator
    dialects: DialectRegistry
    inference: InferenceService
    objects: ProviderObjectOwnership
    missing_calls: MissingCalls
    planner: RequestPlanner
    large_requests: LargeRequests
    metrics: Metrics
    rate_refusals: RateRefusals
    readiness: Readiness
    connections: Connections
    byte_budget: ByteBudget
    price_admin: PriceAdmin
    route_admin: RouteAdmin
    credential_admin: CredentialAdmin
