"""LangChain's models pass LangChain's own standard tests through the gateway.

The suites of `langchain-tests` that send requests run unchanged, with each vendor's client in front of each vendor's
models. The suites that send none would only test LangChain. A suite chooses its own prompts. If it expects a response
that needs a real model, the name of the end user tells the test provider how to answer (see
`tests/provider/steering.py`); the gateway forwards it to either vendor. A suite skips the features that its class marks
as unsupported by one of the dialects, and the time of a stream, which needs a recording.
"""

import base64
from typing import Any, ClassVar, Literal

import httpx
import pytest
import tiktoken
from langchain_anthropic import ChatAnthropic
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, BaseMessageChunk
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_tests.integration_tests import ChatModelIntegrationTests, EmbeddingsIntegrationTests

from tests.support.gateway import Gateway

GPT = "gpt-4o-mini"
CLAUDE = "claude-3.5-sonnet"

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),  # LangChain keeps connections for the whole process
    pytest.mark.filterwarnings("ignore:.*is not an async function"),  # some of the suites' tests are not asynchronous
    pytest.mark.filterwarnings("ignore::UserWarning"),  # LangChain's advice to authors of such tests
]

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

BYTES = tiktoken.Encoding(
    "bytes", pat_str=r"[\s\S]+", mergeable_ranks={bytes([byte]): byte for byte in range(256)}, special_tokens={}
)

SUPPOSED: dict[str, str] = {
    "test_tool_calling": '[[arguments={"input": 3}]] [[say=]]',
    "test_tool_calling_async": '[[arguments={"input": 3}]]',
    "test_agent_loop": "[[tool=get_weather]]",
    "test_json_mode": '[[say={"setup": "Why?", "punchline": "Because."}]]',
    "test_unicode_tool_call_integration": '[[arguments={"customer_name": "你好啊集团 こんにちは株式会社"}]]',
}
"""Steering words by the name of a standard test: the response that a real model would give to its prompt. Some have no
text beside tool calls, because LangChain gives the text of a stream and the first call the same index
(`output_version` "v1", OpenAI's chat completions).
"""

COUNTED = "[[tokens=70/30]] [[cached=20]] [[cachewrite=9]] [[reasoning=7]]"


class ThroughTheGateway(ChatModelIntegrationTests):
    """A vendor's client in front of a model."""

    model_name: ClassVar[str]
    others_name: ClassVar[str]
    """Another model of the same vendor."""

    @pytest.fixture(autouse=True)
    def connected(
        self, gateway: Gateway, key: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Set the address, the key and the steering words. Serve the suite's downloads locally."""
        self.address, self.key = gateway.address, key
        self.user = SUPPOSED.get(request.node.originalname, "")
        monkeypatch.setattr(httpx, "get", lambda *_, **__: httpx.Response(200, content=PIXEL))

    @property
    def model_override_value(self) -> str:
        return self.others_name

    @property
    def supports_image_inputs(self) -> bool:
        return True

    @property
    def supports_image_urls(self) -> bool:
        return True

    @property
    def supports_image_tool_message(self) -> bool:
        return True

    @property
    def supports_pdf_inputs(self) -> bool:
        return True

    @property
    def supports_pdf_tool_message(self) -> bool:
        return True

    @property
    def supports_json_mode(self) -> bool:
        return self.chat_model_class is ChatOpenAI  # Anthropic's client has none

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

    @property
    def supported_usage_metadata_details(self) -> dict[Literal["invoke", "stream"], list[Any]]:
        details = ["reasoning_output", "cache_read_input", "cache_creation_input"]
        return {"invoke": details, "stream": details}

    def invoke_with_reasoning_output(self, *, stream: bool = False) -> AIMessage:
        return self._counted(stream=stream)

    def invoke_with_cache_read_input(self, *, stream: bool = False) -> AIMessage:
        return self._counted(stream=stream)

    def invoke_with_cache_creation_input(self, *, stream: bool = False) -> AIMessage:
        return self._counted(stream=stream)

    @pytest.mark.parametrize("stream", [False, True])
    def test_tokens_are_those_that_the_provider_counts(self, *, stream: bool) -> None:
        usage = self._counted(stream=stream).usage_metadata
        assert usage is not None
        assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (70, 30, 100)
        assert usage["input_token_details"]["cache_read"] == 20
        assert usage["output_token_details"]["reasoning"] == 7

    def _counted(self, *, stream: bool) -> AIMessage:
        model: BaseChatModel = self.chat_model_class(**self.chat_model_params)
        answer = whole(model.stream(COUNTED)) if stream else model.invoke(COUNTED)
        assert isinstance(answer, AIMessage)
        return answer


def whole(chunks: Any) -> BaseMessage:
    """Add the chunks of a stream up."""
    first, *rest = chunks
    found: BaseMessageChunk = sum(rest, first)
    return found


class OpenAiClient(ThroughTheGateway):
    """LangChain's model for OpenAI."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": self.model_name,
            "base_url": f"{self.address}/v1",
            "api_key": self.key,
            "stream_usage": True,  # by default LangChain requests usage only from OpenAI's own address
            "model_kwargs": {"user": self.user},
        }


class AnthropicClient(ThroughTheGateway):
    """LangChain's model for Anthropic."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatAnthropic

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": self.model_name,
            "base_url": self.address,
            "api_key": self.key,
            "max_tokens": 1_000,
            "model_kwargs": {"extra_body": {"metadata": {"user_id": self.user}}},
        }


class TestChatOpenAiWithGpt(OpenAiClient):
    model_name = GPT
    others_name = "gpt-4o"
    supports_json_mode = True
    supports_pdf_inputs = True
    supports_audio_inputs = True


class TestChatOpenAiWithClaude(OpenAiClient):
    model_name = CLAUDE
    others_name = "claude-3-haiku"
    supports_image_tool_message = True
    supports_pdf_tool_message = True


class TestChatOpenAiWithResponses(OpenAiClient):
    model_name = GPT
    others_name = "gpt-4o"
    supports_json_mode = True
    supports_pdf_inputs = True
    supports_image_tool_message = True
    supports_pdf_tool_message = True

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return super().chat_model_params | {"use_responses_api": True}


class TestChatAnthropicWithClaude(AnthropicClient):
    model_name = CLAUDE
    others_name = "claude-3-haiku"
    supports_pdf_inputs = True
    supports_image_tool_message = True
    supports_pdf_tool_message = True


class TestChatAnthropicWithGpt(AnthropicClient):
    model_name = GPT
    others_name = "gpt-4o"
    supports_pdf_inputs = True
    supports_image_tool_message = True
    supports_pdf_tool_message = True


class TestOpenAiEmbeddings(EmbeddingsIntegrationTests):
    """Texts are sent as tokens, which is LangChain's default, or as they are."""

    @pytest.fixture(autouse=True, params=["tokens", "texts"])
    def connected(
        self, gateway: Gateway, key: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Set the address and the key. Tokens are bytes here, because the real vocabulary would be downloaded."""
        self.address, self.key = gateway.address, key
        self.sends_tokens = request.param == "tokens"
        monkeypatch.setattr(tiktoken, "encoding_for_model", lambda _: BYTES)

    @property
    def embeddings_class(self) -> type[Embeddings]:
        return OpenAIEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {
            "model": "text-embedding-3-small",
            "base_url": f"{self.address}/v1",
            "api_key": self.key,
            "check_embedding_ctx_length": self.sends_tokens,
        }
