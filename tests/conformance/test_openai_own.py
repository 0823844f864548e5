"""The other calls of OpenAI's SDK: embeddings, responses, models."""

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from openai import NotFoundError, PermissionDeniedError

from tests.provider.running import RunningProvider
from tests.support.gateway import Gateway
from tests.support.samples import RESPONSES_TOOLS, Lookup, Order
from tests.support.sdk_clients import CLAUDE, ECHO, EMBEDDER, GPT, Project, collected, entering, resolved, user

EMBEDDERS = (EMBEDDER, ECHO)


@pytest.fixture(scope="module")
def stranger(gateway: Gateway) -> Iterator[str]:
    """Return the key of another project."""
    other = Project(gateway)
    yield other.key
    other.close()


@pytest.fixture
def embedding(openai: Any) -> Any:
    """Return OpenAI's SDK without validation, which would run before the SDK decodes base64 to floats."""
    return openai.with_options(_extra_kwargs={"_strict_response_validation": False}).embeddings


@pytest.mark.parametrize("model", EMBEDDERS)
async def test_embeddings_are_the_same_in_both_spellings(embedding: Any, model: str) -> None:
    request: Any = {"model": model, "input": ["one", "two words"]}
    default = await resolved(embedding.create(**request))
    floats = await resolved(embedding.create(**request, encoding_format="float"))
    assert [one.index for one in default.data] == [0, 1]
    assert [len(one.embedding) for one in default.data] == [8, 8]
    for spelled, written in zip(default.data, floats.data, strict=True):
        assert list(spelled.embedding) == pytest.approx(written.embedding, rel=1e-6)
    assert default.usage.prompt_tokens == default.usage.total_tokens > 0
    assert default.usage.cost > 0


async def test_base64_encoding_is_kept(embedding: Any, upstream: RunningProvider) -> None:
    raw = await resolved(embedding.with_raw_response.create(model=EMBEDDER, input="one", dimensions=3))
    assert b'"encoding_format":"base64"' in upstream.requests(last=1)[0].body
    (vector,) = json.loads(raw.content)["data"]
    assert base64.b64decode(vector["embedding"]) == struct.pack("<3f", *[0.125] * 3)


@pytest.mark.parametrize("model", EMBEDDERS)
@pytest.mark.parametrize("spelling", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}])
async def test_vectors_have_the_requested_dimensions(embedding: Any, model: str, spelling: Any) -> None:
    found = await resolved(embedding.create(model=model, input="one", dimensions=5, **spelling))
    decoded = spelling.get("encoding_format") != "base64"
    assert [len(one.embedding) for one in found.data] == [5 if decoded else 28]


async def test_many_texts_have_a_vector_each(embedding: Any) -> None:
    found = await resolved(embedding.create(model=EMBEDDER, input=[f"text {n}" for n in range(2048)]))
    assert [one.index for one in found.data] == list(range(2048))


async def test_a_response_is_made(openai: Any) -> None:
    found = await resolved(
        openai.responses.create(model=GPT, instructions="be kind", input="[[say=hello]] [[tokens=70/30]] [[cached=20]]")
    )
    assert (found.object, found.status, found.output_text) == ("response", "completed", "hello")
    assert (found.usage.input_tokens, found.usage.output_tokens, found.usage.total_tokens) == (70, 30, 100)
    assert found.usage.input_tokens_details.cached_tokens == 20
    assert found.usage.cost == pytest.approx(50 * 15e-8 + 20 * 75e-9 + 30 * 6e-7)


async def test_response_stream_equals_the_response(openai: Any) -> None:
    request: Any = {"model": GPT, "input": user("[[tokens=70/30]] [[chunks=20]]")}
    whole = await resolved(openai.responses.create(**request))
    events = await collected(openai.responses.create(**request, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [events[0].type, events[1].type, events[-1].type] == [
        "response.created",
        "response.in_progress",
        "response.completed",
    ]
    said = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert len(said) == 20
    assert "".join(said) == whole.output_text == events[-1].response.output_text
    assert events[-1].response.usage == whole.usage
    assert events[-1].response.usage.cost > 0


async def test_the_response_stream_helper_puts_the_response_together(openai: Any) -> None:
    async with entering(openai.responses.stream(model=GPT, input="order", text_format=Order)) as stream:
        await collected(stream)
        final = await resolved(stream.get_final_response())
    assert isinstance(final.output_parsed, Order)
    assert final.usage.cost > 0


async def test_a_response_is_parsed_by_its_schema(openai: Any) -> None:
    found = await resolved(openai.responses.parse(model=GPT, input="order", text_format=Order))
    assert isinstance(found.output_parsed, Order)


async def test_response_continues_with_its_items_and_tool_results(openai: Any) -> None:
    items = user("weather [[calls=2]]")
    request: Any = {"model": GPT, "input": items, "tools": RESPONSES_TOOLS}
    first = await resolved(openai.responses.create(**request))
    assert [Lookup.model_validate_json(call.arguments).days for call in first.output] == [1, 1]
    items.extend(first.output)
    items.extend(
        {"type": "function_call_output", "call_id": call.call_id, "output": "raining"} for call in first.output
    )
    second = await resolved(openai.responses.create(**request))
    assert "the tools said raining; raining" in second.output_text


async def test_response_passes_through_byte_for_byte(openai: Any, upstream: RunningProvider) -> None:
    raw = await resolved(
        openai.responses.with_raw_response.create(
            model=GPT,
            input=[{"role": "user", "content": [{"type": "input_text", "text": "hé [[say=x]]"}]}],
            store=False,
            include=["reasoning.encrypted_content"],
            extra_body={"a_field_of_tomorrow": {"z": 1, "a": [None, 1.50]}},
        )
    )
    assert upstream.requests(last=1)[0].body == raw.http_request.content


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_previous_response_must_belong_to_the_project(
    openai: Any, upstream: RunningProvider, stranger: str, streamed: bool
) -> None:
    request: Any = {"model": GPT, "input": f"remember {type(openai).__name__} {streamed}"}
    if streamed:
        first = (await collected(openai.responses.create(**request, stream=True)))[-1].response
    else:
        first = await resolved(openai.responses.create(**request))
    found = await resolved(openai.responses.create(model=GPT, input="and?", previous_response_id=first.id))
    assert found.previous_response_id == first.id
    before = upstream.calls
    with pytest.raises(NotFoundError, match="`previous_response_id`"):
        await resolved(
            openai.with_options(api_key=stranger).responses.create(
                model=GPT, input="and?", previous_response_id=first.id
            )
        )
    assert upstream.calls == before


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file_1"}]}]},
            "input[0].content[0].file_id",
        ),
    ],
)
async def test_shared_providers_objects_belong_to_no_project(
    openai: Any, upstream: RunningProvider, fields: Any, named: str
) -> None:
    before = upstream.calls
    with pytest.raises(PermissionDeniedError) as denied:
        await resolved(openai.responses.create(**({"model": GPT, "input": "x"} | fields)))
    assert f"`{named}`" in denied.value.message
    assert upstream.calls == before


async def test_models_are_listed_as_the_native_surface_lists_them(openai: Any, project: Project) -> None:
    found = await collected(openai.models.list())
    assert [model.id for model in found] == [model["name"] for model in project.models()]
    owners = {model.id: model.owned_by for model in found}
    assert (owners[GPT], owners[CLAUDE], owners[ECHO]) == ("openai", "anthropic", "echo")


@pytest.mark.parametrize("model", [GPT, CLAUDE, ECHO])
async def test_a_model_is_described(openai: Any, model: str) -> None:
    found = await resolved(openai.models.retrieve(model))
    assert (found.id, found.object) == (model, "model")
