"""OpenAI's text completions and moderations, as the vendor serves them."""

from collections.abc import Iterator
from typing import Any

from tests.provider.openai_wire import CREATED_S, DONE, sse, usage_json
from tests.provider.request_model import Answer, Frame, ModelRequest

CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)


def parse_completion_request(body: dict[str, Any]) -> ModelRequest:
    """Parse a text completion request."""
    return ModelRequest(
        model=body["model"],
        prompt="\n".join(map(str, _prompts(body))),
        user=body.get("user") or "",
        stream=bool(body.get("stream")),
    )


def completion(answer: Answer) -> dict[str, Any]:
    """Return `n` answers to each prompt, in one piece."""
    count = len(_prompts(answer.body)) * (answer.body.get("n") or 1)
    choices = [_choice(index, answer.plan.text, answer.plan.words.finish or "stop") for index in range(count)]
    return _head(answer) | {"choices": choices, "usage": usage_json(answer.usage)}


def completion_frames(answer: Answer) -> Iterator[Frame]:
    """Yield the response as a stream: texts, finish reason, usage if requested, and `[DONE]`."""
    asks_usage = (answer.body.get("stream_options") or {}).get("include_usage") is True
    unsaid = {"usage": None} if asks_usage else {}
    for text in answer.plan.text_deltas():
        yield Frame(data=sse(_head(answer) | {"choices": [_choice(0, text, None)]} | unsaid), is_delta=True)
    yield Frame(data=sse(_head(answer) | {"choices": [_choice(0, "", answer.plan.words.finish or "stop")]} | unsaid))
    if asks_usage:
        yield Frame(data=sse(_head(answer) | {"choices": [], "usage": usage_json(answer.usage)}))
    yield Frame(data=DONE)


def parse_moderation_request(body: dict[str, Any]) -> ModelRequest:
    """Parse a moderation request."""
    given = body["input"]
    return ModelRequest(model=body.get("model") or "omni-moderation-latest", prompt=str(given))


def moderation(answer: Answer) -> dict[str, Any]:
    """Return what was found in each text."""
    given = answer.body["input"]
    texts = given if isinstance(given, list) else [given]
    results = [
        {
            "flagged": "kill" in str(text),
            "categories": {name: name == "violence" and "kill" in str(text) for name in CATEGORIES},
            "category_scores": dict.fromkeys(CATEGORIES, 0.5),
            "category_applied_input_types": {name: ["text"] for name in CATEGORIES},
        }
        for text in texts
    ]
    return {"id": f"modr-{answer.plan.digest[:24]}", "model": answer.request.model, "results": results}


def _prompts(body: dict[str, Any]) -> list[Any]:
    prompt = body["prompt"]
    return prompt if isinstance(prompt, list) and not isinstance(prompt[0], int) else [prompt]


def _choice(index: int, text: str, finish: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish}


def _head(answer: Answer) -> dict[str, Any]:
    return {
        "id": f"cmpl-{answer.plan.digest[:24]}",
        "object": "text_completion",
        "created": CREATED_S,
        "model": answer.request.model,
    }
