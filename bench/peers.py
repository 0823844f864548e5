"""Other gateways, each installed into an environment of its own below `.bench/peers`, which git ignores.

    python -m bench.peers

installs those that are not there: LiteLLM's proxy from PyPI, Portkey's gateway from npm (both need node). Nothing of
them gets into this project's dependencies.
"""

import shutil
from pathlib import Path

from bench import litellm_proxy
from bench.litellm_proxy import PEERS, LiteLlm
from bench.load import Target
from bench.systems import CHAT_PATH, BudgetedSystem, System

PORTKEY = PEERS / "portkey" / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
PORTKEY_VERSION = "1.15.2"


class Portkey(System):
    """Portkey's gateway, as its package starts it."""

    name = "Portkey"
    switched_on = f"version {PORTKEY_VERSION}; nothing: it has no keys of its own, no budgets and no books"

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
        raise RuntimeError("the peers need node 20 or newer: apt-get install nodejs npm")
    return found


def installed_peers(folder: Path, provider_port: int) -> list[System]:
    """Return the peers that are installed."""
    portkey = [Portkey(folder / "portkey", provider_port)] if PORTKEY.exists() else []
    return [*portkey, *budgeted_peers(folder, provider_port)]


def budgeted_peers(folder: Path, provider_port: int) -> list[BudgetedSystem]:
    """Return the installed peers whose keys can have budgets."""
    return [LiteLlm(folder / "litellm", provider_port)] if litellm_proxy.GENERATED.exists() else []


def install() -> None:
    """Install the peers that are not there."""
    node()
    litellm_proxy.install()
    if not PORTKEY.exists():
        folder = PEERS / "portkey"
        folder.mkdir(parents=True, exist_ok=True)
        litellm_proxy.run(
            f"npm install --no-fund --no-audit --ignore-scripts --prefix {folder} @portkey-ai/gateway@{PORTKEY_VERSION}"
        )


if __name__ == "__main__":
    install()
