"""What is copied to connect a client, with the gateway's own address in it."""

import re
from collections.abc import Mapping

from msgspec import Struct

KEY_VARIABLE = "AI_GATEWAY_KEY"
MODEL = "echo"
"""Built in: it needs no provider key."""
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_NO_HOST = "localhost:3007"


class Snippet(Struct, frozen=True, kw_only=True):
    """Something to copy."""

    name: str
    title: str
    language: str
    note: str
    text: str


_CURL = """curl {base}/api/v1/completions/chat \\
  -H "Authorization: Bearer $AI_GATEWAY_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{{"model": "echo", "messages": [{{"role": "user", "content": "Hello!"}}]}}'
"""
_OPENAI = """import os
from openai import OpenAI

client = OpenAI(base_url="{base}/v1", api_key=os.environ["AI_GATEWAY_KEY"])
answer = client.chat.completions.create(
    model="echo",
    messages=[{{"role": "user", "content": "Hello!"}}],
)
print(answer.choices[0].message.content)
"""
_ANTHROPIC = """import os
from anthropic import Anthropic

client = Anthropic(base_url="{base}", api_key=os.environ["AI_GATEWAY_KEY"])
message = client.messages.create(
    model="echo",
    max_tokens=1000,
    messages=[{{"role": "user", "content": "Hello!"}}],
)
print(message.content[0].text)
"""
_LANGCHAIN = """import os
from langchain_openai import ChatOpenAI

model = ChatOpenAI(base_url="{base}/v1", api_key=os.environ["AI_GATEWAY_KEY"], model="echo")
print(model.invoke("Hello!").content)
"""
_AI_SDK = """import {{ createOpenAICompatible }} from "@ai-sdk/openai-compatible";
import {{ generateText }} from "ai";

const gateway = createOpenAICompatible({{
  name: "gateway",
  baseURL: "{base}/v1",
  apiKey: process.env.AI_GATEWAY_KEY,
}});
const {{ text }} = await generateText({{ model: gateway("echo"), prompt: "Hello!" }});
console.log(text);
"""
_CLAUDE_CODE = """export ANTHROPIC_BASE_URL={base}
export ANTHROPIC_AUTH_TOKEN=$AI_GATEWAY_KEY
claude
"""
_CODEX = """# ~/.codex/config.toml; then: codex
model = "gpt-5"
model_provider = "gateway"

[model_providers.gateway]
name = "gateway"
base_url = "{base}/v1"
env_key = "AI_GATEWAY_KEY"
wire_api = "responses"
"""
_TABLE = (
    ("curl", "curl", "shell", "The native API.", _CURL),
    ("openai", "OpenAI SDK", "python", "Every chat model, also those of other vendors.", _OPENAI),
    ("anthropic", "Anthropic SDK", "python", "The base URL has no /v1.", _ANTHROPIC),
    ("langchain", "LangChain", "python", "With langchain-openai.", _LANGCHAIN),
    ("ai-sdk", "Vercel AI SDK", "javascript", "With @ai-sdk/openai-compatible.", _AI_SDK),
    ("claude-code", "Claude Code", "shell", "With any chat model: claude --model NAME.", _CLAUDE_CODE),
    ("codex", "Codex", "toml", "With any chat model: codex -m NAME.", _CODEX),
)


def snippets(base_url: str) -> list[Snippet]:
    """Everything that is copied, with the gateway's address."""
    return [
        Snippet(name=name, title=title, language=language, note=note, text=text.format(base=base_url))
        for name, title, language, note, text in _TABLE
    ]


def address_of_request(headers: Mapping[str, str], scheme: str) -> str:
    """The gateway's address as the browser has it: its `Host`, and https if a proxy in front says so.

    It is shown and not called, so a header that a caller made up misleads that caller alone; only a host's characters
    are taken over.
    """
    host = headers.get("host", "")
    if not _HOST.fullmatch(host):
        host = _NO_HOST
    is_secure = scheme == "https" or headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower() == "https"
    return f"{'https' if is_secure else 'http'}://{host}"
