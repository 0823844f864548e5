"""DSPy, which calls through LiteLLM: a program with a tool, and a typed answer. Prints the outcome as JSON."""

import json
import sys
from typing import Annotated, Any

import dspy
import litellm
from pydantic import BaseModel, Field

OPTIONS = json.loads(sys.argv[1])


class Trip(BaseModel):
    """A journey."""

    city: str
    days: Annotated[int, Field(ge=1, le=30)]


class Plan(dspy.Signature):
    """Plan a journey."""

    wish: str = dspy.InputField()
    trip: Trip = dspy.OutputField()


def _model(**options: Any) -> dspy.LM:
    prefix = "anthropic" if OPTIONS["surface"] == "messages" else "openai"
    return dspy.LM(
        f"{prefix}/{OPTIONS['model']}",
        api_base=f"{OPTIONS['address']}/v1",
        api_key=OPTIONS["key"],
        num_retries=OPTIONS.get("maxRetries", 0),
        cache=False,
        **options,
    )


def _run() -> dict[str, Any]:
    prompt = OPTIONS["prompt"]
    match OPTIONS["scenario"]:
        case "object":
            with dspy.context(lm=_model(), adapter=dspy.JSONAdapter()):
                return {"object": dspy.Predict(Plan)(wish=prompt).trip.model_dump()}
        case "picture":
            image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{OPTIONS['picture']}"}}
            content = [{"type": "text", "text": prompt}, image]
            return {"said": _model()(messages=[{"role": "user", "content": content}])[0]}
        case _:
            return {"said": _model(temperature=1.0, max_tokens=16000)(prompt)[0]}


litellm.telemetry = False
try:
    print(json.dumps({"found": _run()}))
except Exception as why:  # noqa: BLE001 (whatever it is, the test looks at it)
    print(
        json.dumps(
            {
                "error": {
                    "kind": type(why).__name__,
                    "message": str(why)[:2000],
                    "status": getattr(why, "status_code", None),
                }
            }
        )
    )
