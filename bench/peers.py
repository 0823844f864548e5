"""Other gateways, each installed into an environment of its own below `.bench/peers`, which git ignores.

    python -m bench.peers

installs those that are not there: LiteLLM's proxy from PyPI, Portkey's gateway from npm (which needs node). Nothing of
them gets into this project's dependencies.
"""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from bench.load import Target
from bench.systems import CHAT_PATH, MODEL, ROOT, System

PEERS = ROOT / ".bench" / "peers"
LITELLM = PEERS / "litellm" / "bin" / "litellm"
PORTKEY = PEERS / "portkey" / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
LITELLM_VERSION = "1.108.7"
PORTKEY_VERSION = "1.15.2"
INSTALL_LIMIT_S = 900
LITELLM_KEY = "sk-bench-master"
LITELLM_CONFIG = """\
model_list:
  - model_name: {model}
    litellm_params:
      model: openai/{model}
      api_base: http://127.0.0.1:{port}/v1
      api_key: sk-bench
general_settings:
  master_key: {key}
"""


class LiteLlm(System):
    """LiteLLM's proxy, with one worker process."""

    name = "LiteLLM"
    switched_on = f"version {LITELLM_VERSION}; key; no database, so no budget, no limits and no books"
    share = 0.1

    def command(self) -> list[str]:
        """Write the configuration, and return the command that starts it."""
        config = self.folder / "config.yaml"
        config.write_text(LITELLM_CONFIG.format(model=MODEL, port=self.provider_port, key=LITELLM_KEY))
        return [str(LITELLM), "--config", str(config), "--host", "127.0.0.1", "--port", str(self.port)]

    def variables(self) -> dict[str, str]:
        """Return the settings: production's log level, and its own list of prices instead of one from the network."""
        return {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}

    def target(self, *, cached: bool = False) -> Target:
        """Return where chat requests go."""
        assert not cached, "its cache is not measured"
        return Target(port=self.port, path=CHAT_PATH, headers={"authorization": f"Bearer {LITELLM_KEY}"})

    def is_ready(self) -> bool:
        """Tell whether it says that it is alive."""
        return self.answers("/health/liveliness")


class Portkey(System):
    """Portkey's gateway, as its package starts it."""

    name = "Portkey"
    switched_on = f"version {PORTKEY_VERSION}; nothing: it knows no keys and keeps no books"

    def command(self) -> list[str]:
        """Return the command that starts it."""
        return [node(), str(PORTKEY), "--headless", f"--port={self.port}"]

    def variables(self) -> dict[str, str]:
        """Return the settings of production."""
        return {"NODE_ENV": "production"}

    def target(self, *, cached: bool = False) -> Target:
        """Return where chat requests go. Each names the provider and its address."""
        assert not cached, "its cache is not measured"
        headers = {
            "authorization": "Bearer sk-bench",
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": f"http://127.0.0.1:{self.provider_port}/v1",
        }
        return Target(port=self.port, path=CHAT_PATH, headers=headers)


def node() -> str:
    """Return node's path.

    Raises:
        RuntimeError: there is none.

    """
    found = shutil.which("node")
    if found is None:
        raise RuntimeError("Portkey needs node 20 or newer: apt-get install nodejs npm")
    return found


def installed_peers(folder: Path, provider_port: int) -> list[System]:
    """Return the peers that are installed."""
    peers: list[System] = []
    if PORTKEY.exists():
        peers.append(Portkey(folder / "portkey", provider_port))
    if LITELLM.exists():
        peers.append(LiteLlm(folder / "litellm", provider_port))
    return peers


def install() -> None:
    """Install the peers that are not there."""
    if not LITELLM.exists():
        python = LITELLM.parent / "python"
        _call(f"uv venv --quiet --allow-existing --python {sys.executable} {LITELLM.parent.parent}")
        # without this project's configuration: its constraints are not theirs
        _call(
            f"uv pip install --no-config --quiet --compile-bytecode --python {python} litellm[proxy]=={LITELLM_VERSION}"
        )
    if not PORTKEY.exists():
        node()
        folder = PEERS / "portkey"
        folder.mkdir(parents=True, exist_ok=True)
        _call(f"npm install --no-fund --no-audit --prefix {folder} @portkey-ai/gateway@{PORTKEY_VERSION}")


def _call(command: str) -> None:
    subprocess.run(shlex.split(command), check=True, timeout=INSTALL_LIMIT_S, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    install()
