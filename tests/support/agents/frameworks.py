"""The frameworks, each as one program in `scripts/` that is given a scenario and prints its outcome as JSON."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from msgspec import Struct

from tests.support.agents.installed import Package, clean, install, newer_node

SCRIPTS = Path(__file__).parent / "scripts"
RUN_TIMEOUT_S = 90
PYTHON = "3.11"


class Framework(Struct, frozen=True, kw_only=True):
    """A framework, its program, and the surfaces that it can call."""

    name: str
    package: Package
    script: str
    surfaces: tuple[str, ...]
    scenarios: tuple[str, ...] = ("agent", "stream", "object", "picture")

    def run(self, **options: Any) -> dict[str, Any]:
        """Run a scenario. Return its outcome: `found` or `error`.

        Raises:
            AgentMissingError: It cannot be installed here.

        """
        root = install(self.package)
        program = SCRIPTS / self.script
        if self.package.python:
            command = [str(root / "bin" / "python"), str(program)]
        else:
            shutil.copy(program, root / self.script)  # Node looks for packages where the program is
            command = [str(newer_node() / "node"), str(root / self.script)]
        env = clean({"HOME": str(root), "LITELLM_LOCAL_MODEL_COST_MAP": "True"})
        done = subprocess.run(
            [*command, json.dumps(options)], env=env, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False
        )
        assert done.stdout.strip(), done.stderr
        outcome: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return outcome


AI_SDK = Framework(
    name="AI SDK",
    package=Package(
        pins=(
            *("ai@7.0.173", "@ai-sdk/openai@4.0.118", "@ai-sdk/anthropic@4.0.105"),
            *("@ai-sdk/openai-compatible@3.0.92", "zod@4.6.7"),
        )
    ),
    script="ai_sdk.mjs",
    surfaces=("messages", "responses", "chat", "compatible"),
)
LANGCHAIN_JS = Framework(
    name="LangChain.js",
    package=Package(
        pins=(
            *("langchain@1.5.14", "@langchain/core@1.4.0", "@langchain/openai@1.6.0"),
            *("@langchain/anthropic@1.5.11", "zod@4.6.7"),
        )
    ),
    script="langchain_js.mjs",
    surfaces=("messages", "responses", "chat"),
)
OPENAI_AGENTS = Framework(
    name="OpenAI Agents SDK",
    package=Package(pins=("openai-agents==0.24.0",), python=PYTHON),
    script="openai_agents.py",
    surfaces=("responses", "chat"),
)
PYDANTIC_AI = Framework(
    name="Pydantic AI",
    package=Package(pins=("pydantic-ai-slim[openai,anthropic]==2.68.0",), python=PYTHON),
    script="pydantic_agents.py",
    surfaces=("messages", "responses", "chat"),
)
LANGGRAPH = Framework(
    name="LangGraph",
    package=Package(
        pins=("langgraph==1.2.24", "langchain==1.5.2", "langchain-openai==1.7.4", "langchain-anthropic==1.7.10"),
        python=PYTHON,
    ),
    script="langgraph_agents.py",
    surfaces=("messages", "responses", "chat"),
)
AUTOGEN = Framework(
    name="AutoGen",
    package=Package(pins=("autogen-agentchat==0.7.5", "autogen-ext[openai]==0.7.5"), python=PYTHON),
    script="autogen_agents.py",
    surfaces=("chat",),
)
SEMANTIC_KERNEL = Framework(
    name="Semantic Kernel",
    package=Package(pins=("semantic-kernel==1.45.0",), python=PYTHON),
    script="semantic_kernel_agents.py",
    surfaces=("chat",),
)
INSTRUCTOR = Framework(
    name="Instructor",
    package=Package(pins=("instructor==1.17.0", "anthropic==2.14.0"), python=PYTHON),
    script="instructor_objects.py",
    surfaces=("messages", "chat"),
    scenarios=("tool", "object", "json", "picture"),
)
DSPY = Framework(
    name="DSPy",
    package=Package(pins=("dspy==3.4.1",), python=PYTHON),
    script="dspy_programs.py",
    surfaces=("messages", "chat"),
    scenarios=("object", "picture"),
)
FRAMEWORKS = (
    *(AI_SDK, LANGCHAIN_JS, OPENAI_AGENTS, PYDANTIC_AI, LANGGRAPH, AUTOGEN, SEMANTIC_KERNEL, INSTRUCTOR, DSPY),
)
