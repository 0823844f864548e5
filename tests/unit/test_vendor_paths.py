"""A client's base URL may end in `/v1` or not: the name of the call says which is meant."""

import pytest

from api.vendors.paths import is_vendors, served_path

PREFIXES = ["", "/v1", "/v1/v1", "/openai", "/openai/v1", "/anthropic", "/anthropic/v1", "/anthropic/v1/v1"]
CALLS = [
    "chat/completions",
    "completions",
    "embeddings",
    "moderations",
    "responses",
    "responses/resp_1/cancel",
    "models",
    "models/groq/llama-3.3-70b",
    "messages",
    "messages/count_tokens",
]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("end", ["", "/", "//"])
def test_a_call_is_served_with_any_base_url(prefix: str, call: str, end: str) -> None:
    assert served_path(f"{prefix}/{call}{end}") == (f"/v1/{call}", None)


@pytest.mark.parametrize(
    ("path", "call", "model"),
    [
        ("/openai/deployments/gpt-4o/chat/completions", "chat/completions", "gpt-4o"),
        ("/openai/deployments/groq/llama-3/chat/completions/", "chat/completions", "groq/llama-3"),
        ("/deployments/gpt-4o/completions", "completions", "gpt-4o"),
        ("/openai/v1/deployments/text-embedding-3-small/embeddings", "embeddings", "text-embedding-3-small"),
        ("/v1/engines/davinci-002/completions", "completions", "davinci-002"),
    ],
)
def test_a_path_may_name_the_model(path: str, call: str, model: str) -> None:
    assert served_path(path) == (f"/v1/{call}", model)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/api/v1/models",
        "/api/v1/completions/chat",
        "/schema/openapi.json",
        "/health/live",
        "/metrics",
        "/v1/files",
        "/openai/deployments/gpt-4o/images/generations",
        "/openai/deployments/completions",
        "/v1/v1/v1/v1/v1/models",
    ],
)
def test_a_path_that_is_no_vendors_call_stays_as_it_is(path: str) -> None:
    assert served_path(path) == (path, None)


def test_a_vendors_client_is_known_by_its_path_or_its_headers() -> None:
    for path in ("/v1", "/v1/files", "/openai/files", "/anthropic/v1/skills"):
        assert is_vendors(path, [])
    assert is_vendors("/files", [(b"x-stainless-lang", b"python")])
    assert is_vendors("/files", [(b"anthropic-version", b"2023-06-01")])
    for path in ("/", "/files", "/api/v1/files", "/schema/v1"):
        assert not is_vendors(path, [(b"accept", b"*/*")])
