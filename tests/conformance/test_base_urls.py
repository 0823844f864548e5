"""The vendors' SDKs work with the base URLs that people write; a call that is not served is refused in their words."""

from typing import Any

import aiohttp
import anthropic as anthropic_sdk
import openai as openai_sdk
import pytest

from tests.provider.running import RunningProvider
from tests.support.gateway import Gateway
from tests.support.sdk_clients import CLAUDE, EMBEDDER, GPT, user

BASES = ["", "/", "/v1", "/v1/", "/v1/v1", "/openai", "/openai/v1", "/anthropic"]


@pytest.mark.parametrize("base", BASES)
def test_openais_sdk_works_with_any_base_url(gateway: Gateway, key: str, base: str) -> None:
    with openai_sdk.OpenAI(base_url=gateway.address + base, api_key=key, max_retries=0) as client:
        assert client.chat.completions.create(model=GPT, messages=user("hello")).choices
        assert client.responses.create(model=GPT, input="hello").output
        assert GPT in {model.id for model in client.models.list()}
        assert client.models.retrieve(GPT).id == GPT


@pytest.mark.parametrize("base", BASES)
def test_anthropics_sdk_works_with_any_base_url(gateway: Gateway, key: str, base: str) -> None:
    with anthropic_sdk.Anthropic(base_url=gateway.address + base, api_key=key, max_retries=0) as client:
        assert client.messages.create(model=CLAUDE, max_tokens=9, messages=user("hello")).content
        assert client.messages.count_tokens(model=CLAUDE, messages=user("hello")).input_tokens
        assert client.models.retrieve(GPT).id == GPT


def test_azures_sdk_works_by_its_endpoint(gateway: Gateway, key: str) -> None:
    with openai_sdk.AzureOpenAI(
        azure_endpoint=gateway.address, api_key=key, api_version="2024-10-21", max_retries=0
    ) as client:
        for model in (GPT, CLAUDE):
            assert client.chat.completions.create(model=model, messages=user("hello")).choices
        with client.chat.completions.create(model=GPT, messages=user("hello"), stream=True) as stream:
            assert list(stream)
        assert client.embeddings.create(model=EMBEDDER, input="hello").data
        assert GPT in {model.id for model in client.models.list()}


@pytest.mark.parametrize("body", [{}, {"model": "another"}], ids=["no model", "another model"])
async def test_the_model_in_azures_path_is_the_one_that_is_asked(
    gateway: Gateway, key: str, session: aiohttp.ClientSession, upstream: RunningProvider, body: dict[str, Any]
) -> None:
    url = f"{gateway.address}/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
    body = body | {"messages": user("by its path")}
    async with session.post(url, json=body, headers={"api-key": key}) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["x-gateway-model"] == "gpt-4o"
    (sent,) = [one for one in upstream.requests(1) if b"by its path" in one.body]
    assert b'"gpt-4o"' in sent.body
    assert b"another" not in sent.body
    assert sent.path == "/v1/chat/completions"


@pytest.mark.parametrize("path", ["/", "", "/health", "/health/live"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_probe_without_a_key_is_answered(
    gateway: Gateway, session: aiohttp.ClientSession, method: str, path: str
) -> None:
    async with session.request(method, gateway.address + path) as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        assert await answer.read() == (b'{"status":"ok"}' if method == "GET" else b"")
        assert answer.headers["content-length"] == "15"


@pytest.mark.parametrize("path", ["/v1/models", f"/v1/models/{GPT}", "/models", "/api/v1/models"])
async def test_head_is_answered_as_get_without_its_body(
    gateway: Gateway, key: str, session: aiohttp.ClientSession, path: str
) -> None:
    headers = {"x-api-key": key}
    async with session.head(gateway.address + path, headers=headers) as answer:
        assert (answer.status, await answer.read()) == (200, b"")
    async with session.head(gateway.address + path) as answer:
        assert (answer.status, await answer.read()) == (401, b"")


VERSION = {"anthropic-version": "2023-06-01"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/files", 404),
        ("POST", "/v1/images/generations", 404),
        ("GET", "/v1", 404),
        ("GET", "/openai/files", 404),
        ("DELETE", "/v1/models", 405),
        ("GET", "/v1/messages", 405),
        ("GET", "/chat/completions", 405),
    ],
)
async def test_a_call_that_is_not_served_is_refused_in_the_clients_words(
    gateway: Gateway, session: aiohttp.ClientSession, method: str, path: str, status: int
) -> None:
    async with session.request(method, gateway.address + path) as answer:
        error = (await answer.json())["error"]
        assert (answer.status, set(error)) == (status, {"message", "type", "param", "code"})
        assert error["type"] == "invalid_request_error"
    async with session.request(method, gateway.address + path, headers=VERSION) as answer:
        refusal = await answer.json()
        assert (answer.status, refusal["type"], refusal["request_id"]) == (
            status,
            "error",
            answer.headers["request-id"],
        )
        assert refusal["error"]["type"] == ("not_found_error" if status == 404 else "invalid_request_error")


async def test_an_sdk_whose_base_url_lacks_its_end_is_refused_in_its_words(gateway: Gateway, key: str) -> None:
    client = openai_sdk.OpenAI(base_url=gateway.address, api_key=key, max_retries=0)
    with client, pytest.raises(openai_sdk.NotFoundError) as missing:
        client.files.list()
    assert missing.value.type == "invalid_request_error"
    assert "ends in /v1" in missing.value.message
