"""OpenAI's calls about responses, which are passed on: reading, deleting, cancelling and compacting them.

https://platform.openai.com/docs/api-reference/responses
"""

from domain.dialects.codec import Codec, ProviderResponse, passed_through
from domain.dialects.decode import decode_provider_json
from domain.dialects.openai.fields import COMPACT_FIELDS
from domain.dialects.openai.responses.reasoning import without_kept_reasoning
from domain.dialects.openai.responses_api import meter_response
from domain.dialects.passthrough.json_members import decode_members
from domain.tokens import TokenUsage


class OpenAiStoredResponses(Codec):
    """`GET` and `DELETE /responses/{id}`, and what is below it. The request has the path."""

    dialect = "openai"
    operation = "stored_responses"
    path = "/responses"
    translates = False
    has_streams = False
    has_output = False
    is_charged = False

    def meter_response(self, body: bytes) -> ProviderResponse:
        """See `Codec`: nothing is charged."""
        decode_provider_json(decode_members, body)
        return passed_through(body, usage=TokenUsage(), model="", response_id="")


class OpenAiCompact(Codec):
    """`POST /responses/compact`: the model writes a conversation anew, which only OpenAI's models read."""

    dialect = "openai"
    operation = "compact"
    path = "/responses/compact"
    translates = False
    has_streams = False
    known_fields = COMPACT_FIELDS
    without_foreign_thinking = staticmethod(without_kept_reasoning)
    thinking_name = "reasoning"
    meter_response = staticmethod(meter_response)
