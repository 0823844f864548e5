"""Schemathesis's hooks for the native API: the keys, and the failures to ignore, each with its reason."""

# ruff: noqa: ARG001, ARG002 - schemathesis gives hooks their arguments by name

import json
import os
from typing import Any

import schemathesis
from schemathesis.auths import AuthContext
from schemathesis.core.failures import AcceptedNegativeData, Failure, ServerError
from schemathesis.core.transport import Response
from schemathesis.generation.case import Case
from schemathesis.hooks import HookContext
from schemathesis.openapi.checks import RejectedPositiveData

MODELS = ("echo", "gpt-4o-mini", "text-embedding-3-small")
"""The models of the requests. Generated names are no models, so they are replaced by these."""

REFUSED_THOUGH_DESCRIBED = {
    "`float`": "JSON Schema calls 7.0 an integer; the gateway wants it written 7",
    "decimals": "money has nine decimals, prices twelve; JSON Schema cannot say so of floats",
    "U+0000": "a schema of any JSON cannot say which characters its texts may have",
    "bytes as JSON": "nor how long it may be once it is written",
    "must lie in the future": "a schema has no clock",
    "`alertUrl`": "a schema does not know which addresses are public",
    "`webhookUrl`": "nor does it here",
    "`baseUrl`": "nor does it here",
    "`apiKey` must come with another": "a schema does not know what the provider's address was",
    "send fewer": "nor how many tools a model takes",
    "a file at an address": "nor which providers fetch a file",
    "either `groups` or `targets`": "msgspec's schemas have no choice between two members",
    "is unknown: GET /api/v1/models": "a schema does not know which models there are",
    "is a route, and a target is a model": "nor which routes",
    "the key 'default'": "nor where a key was set",
    "the further credentials were given": "nor what the provider's address was",
    "has no credential": "nor which credentials",
    "is called without a credential": "nor which providers have any",
    "are settings": "nor whose keys are settings",
    "a job has `operation` and `request`": "msgspec's schemas have no choice between members: one job, or several",
    "`requests` stands alone": "nor do they here",
    "`request`: ": "what the request of a job may have depends on its operation",
    "`requests[": "and so it does in a batch",
    "is there twice": "nor does a schema compare names",
    "leave it out, or name the route": "nor what the path has",
    "`name`": "a schema does not know which names are taken",
    "`days` stands beside": "a schema of a query cannot say which parameters exclude each other",
    "it must not be after `to`": "nor which must be less than another",
    "days can be shown": "nor how far they may lie apart",
    "it must lie after 1970": "a schema's dates have no bounds",
    "usage is grouped by one or two": "a pattern cannot say that two groups are not the same",
    "can be grouped further by": "nor which groups can be told apart together",
    "usage of keys is not told apart": "nor that of a key",
}
"""Refusals that JSON Schema cannot describe: a part of the message, and the reason why the refusal is right."""

ACCEPTED_THOUGH_NOT_DESCRIBED = {
    "Missing required property: type": "where only text may stand, a part is understood without its type",
}
"""Input that is accepted although the schema forbids it: a part of the failure's message, and why it does no harm."""


@schemathesis.hook
def map_body(context: HookContext, body: Any) -> Any:
    """Replace a generated model name by a real one."""
    if isinstance(body, dict) and isinstance(name := body.get("model"), str) and _is_name(name):
        return body | {"model": MODELS[len(name) % len(MODELS)]}
    return body


def _is_name(name: str) -> bool:
    return 1 <= len(name) <= 256 and "\x00" not in name


@schemathesis.auth(refresh_interval=None)
class Keys:
    """Uses the master key for the operator's operations, and the project's key for the others."""

    def get(self, case: Case, context: AuthContext) -> str:
        """Choose the key by the operation's `security`."""
        is_operators = {"masterKey": []} in case.operation.definition.raw.get("security", ())
        return os.environ["MASTER_KEY" if is_operators else "PROJECT_KEY"]

    def set(self, case: Case, data: str, context: AuthContext) -> None:
        """Set the Authorization header."""
        case.headers["Authorization"] = f"Bearer {data}"


@schemathesis.hook
def filter_path_parameters(context: HookContext, path_parameters: dict[str, Any] | None) -> bool:
    """Skip requests that change the key of the fuzzing itself: without it every response would be 401."""
    return (path_parameters or {}).get("key_id") != os.environ["KEY_IN_USE"]


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: Case, response: Response) -> bool:
    """Return whether a failure counts: not the exclusions above, and not the failures of the test provider."""
    if isinstance(failure, RejectedPositiveData):
        message = json.loads(response.content)["error"]["message"]
        return not any(part in message for part in REFUSED_THOUGH_DESCRIBED)
    if isinstance(failure, AcceptedNegativeData):
        return not any(part in failure.message for part in ACCEPTED_THOUGH_NOT_DESCRIBED)
    if isinstance(failure, ServerError):
        return json.loads(response.content)["error"]["code"] != "PROVIDER_UNAVAILABLE"
    return True
