"""LiteLLM's proxy with its database: its keys, budgets and spend log, on a PostgreSQL like ours.

Its database client asks an engine of Prisma's, which is downloaded from a host that is no package registry. The same
commit of the engine is on npm as WebAssembly: `bench/prisma_engine.mjs` runs that behind the HTTP of the native one.
What it costs is told apart (`engine`), and what the native one would cost was not measured.
"""

import asyncio
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import asyncpg
import psutil

from bench.load import Target
from bench.systems import MODEL, ROOT, Books, BudgetedSystem, call
from infra.embedded_postgres import EmbeddedPostgres

PEERS = ROOT / ".bench" / "peers"
VENV = PEERS / "litellm"
PRISMA = PEERS / "prisma"
ENGINE = PRISMA / "engine"
GENERATED = PRISMA / "generated"
"""There once the client has been generated."""
VERSION = "1.108.7"
PRISMA_CLIENT_VERSION = "0.15.0"
ENGINE_VERSION = "5.17.0"
ENGINE_BUILD = "5.17.0-31.393aa359c9ad4a4bb28630fb5613f9c281cde053"
ENGINE_PACKAGES = (
    f"@prisma/query-engine-wasm@{ENGINE_BUILD}",
    f"@prisma/adapter-pg@{ENGINE_VERSION}",
    f"@prisma/driver-adapter-utils@{ENGINE_VERSION}",
    "pg@8.12.0",
    "graphql@16.9.0",
)
INSTALL_LIMIT_S = 900
MASTER_KEY = "sk-bench-master"
CONFIG = """\
model_list:
  - model_name: {model}
    litellm_params:
      model: openai/{model}
      api_base: http://127.0.0.1:{port}/v1
      api_key: sk-bench
general_settings:
  master_key: {key}
  proxy_batch_write_at: 5
"""
LIMITS = {
    "budget_limits": [
        {"budget_duration": "1d", "max_budget": 1_000_000},
        {"budget_duration": "30d", "max_budget": 1_000_000},
    ],
    "rpm_limit": 1_000_000_000,
}


class LiteLlm(BudgetedSystem):
    """The proxy, with one worker process, and a PostgreSQL of its own."""

    name = "LiteLLM"
    switched_on = (
        f"version {VERSION}; key, daily and monthly budget, rate limit, spend log in PostgreSQL (fsync on), "
        "written every 5 s; one process; Prisma's engine as WebAssembly in node, as the native one is in no package "
        "registry"
    )
    groups = ("proxy", "engine", "postgresql")
    servers = ("postgresql",)
    share = 0.1
    settle_s = 20.0

    def __init__(self, folder: Path, provider_port: int) -> None:
        """As any system."""
        super().__init__(folder, provider_port)
        self.key = ""
        self._postgres: EmbeddedPostgres | None = None
        self._database_url = ""

    def command(self) -> list[str]:
        """Write the configuration, and return the command that starts it."""
        config = self.folder / "config.yaml"
        config.write_text(CONFIG.format(model=MODEL, port=self.provider_port, key=MASTER_KEY))
        return [str(VENV / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(self.port)]

    def variables(self) -> dict[str, str]:
        """Return the settings: production's log level, its own list of prices, its database as it is."""
        return {
            "DATABASE_URL": self._database_url,
            "DISABLE_SCHEMA_UPDATE": "true",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
            "LITELLM_PRISMA_COMMAND_TIMEOUT": "1",  # it would compare its schema with the database at each start
        } | prisma_variables()

    def spawn(self) -> None:
        """Start PostgreSQL, with the tables that it ships when it is new, and then the proxy."""
        self.folder.mkdir(parents=True, exist_ok=True)
        is_new = not (self.folder / "pg").exists()
        self._postgres = EmbeddedPostgres(self.folder / "pg")
        url = self._postgres.start()
        self._database_url = url.replace("@/", "@localhost/")
        if is_new:
            asyncio.run(make_tables(url))
        super().spawn()

    def is_ready(self) -> bool:
        """Tell whether it says that it is ready."""
        return self.answers("/health/readiness")

    def prepare(self) -> None:
        """Issue a key that has limits."""
        self.key = self._issue(LIMITS)

    def target(self, *, cached: bool = False) -> Target:
        """Return where chat requests go, with the key that has limits."""
        assert not cached, "its cache is not measured"
        return self.target_of(self.key)

    def tree(self) -> list[psutil.Process]:
        """Return all its processes, PostgreSQL's too."""
        return [*super().tree(), *self._servers()]

    def group_of(self, process: psutil.Process) -> str:
        """Return the group of a process."""
        if process.name().startswith("postgres"):
            return "postgresql"
        return "engine" if process.name().startswith("node") else "proxy"

    def stop(self) -> None:
        """Stop the proxy, and then PostgreSQL."""
        super().stop()
        if self._postgres is not None:
            self._postgres.stop()
            self._postgres = None

    def issue_budget(self, name: str, usd: float) -> str:
        """Return a new key with a daily budget, and no other limit."""
        return self._issue({"key_alias": name, "max_budget": usd, "budget_duration": "1d"})

    def books(self, key: str) -> Books:
        """Return what it says of a key."""
        info = call(f"http://127.0.0.1:{self.port}/key/info?key={key}", MASTER_KEY)["info"]
        return Books(spent=info["spend"])

    def _issue(self, limits: dict[str, object]) -> str:
        return str(call(f"http://127.0.0.1:{self.port}/key/generate", MASTER_KEY, limits)["key"])

    def _servers(self) -> list[psutil.Process]:
        if self._postgres is None or self._postgres.process is None or self._postgres.process.poll() is not None:
            return []
        server = psutil.Process(self._postgres.process.pid)
        return [server, *server.children(recursive=True)]


async def make_tables(url: str) -> None:
    """Apply the migrations that it ships."""
    connection = await asyncpg.connect(url)
    try:
        for migration in sorted(VENV.glob("lib/*/site-packages/litellm_proxy_extras/migrations/*/migration.sql")):
            await connection.execute(migration.read_text())
    finally:
        await connection.close()


def prisma_variables() -> dict[str, str]:
    """Return the variables that have Prisma use the engine that is here, and download none."""
    return {
        "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PRISMA_QUERY_ENGINE_BINARY": str(ENGINE),
        "PRISMA_SCHEMA_ENGINE_BINARY": str(ENGINE),
        "PRISMA_CLI_QUERY_ENGINE_TYPE": "binary",
        "PRISMA_HOME_DIR": str(PRISMA / "home"),
        "PRISMA_BINARY_CACHE_DIR": str(PRISMA / "home" / "cache"),
        "npm_config_ignore_scripts": "true",
    }


def install() -> None:
    """Install the proxy, its database client and the engine, those that are not there."""
    PRISMA.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "bench" / "prisma_engine.mjs", PRISMA / "engine.mjs")
    if GENERATED.exists():
        return
    run(f"uv venv --quiet --allow-existing --python {sys.executable} {VENV}")
    # without this project's configuration: its constraints are not theirs
    packages = f"litellm[proxy]=={VERSION} prisma=={PRISMA_CLIENT_VERSION}"
    run(f"uv pip install --no-config --quiet --compile-bytecode --python {VENV / 'bin' / 'python'} {packages}")
    run(f"npm install --no-fund --no-audit --ignore-scripts --prefix {PRISMA} {' '.join(ENGINE_PACKAGES)}")
    ENGINE.write_text(f'#!/bin/sh\nexec node {PRISMA / "engine.mjs"} "$@"\n')
    ENGINE.chmod(0o755)
    (shipped,) = VENV.glob("lib/*/site-packages/litellm_proxy_extras/schema.prisma")
    lines = [line for line in shipped.read_text().splitlines() if "binaryTargets" not in line]
    schema = PRISMA / "schema.prisma"
    schema.write_text("\n".join(lines) + "\n")
    run(f"{VENV / 'bin' / 'prisma'} generate --schema {schema}", prisma_variables())
    GENERATED.touch()


def run(command: str, more: dict[str, str] | None = None) -> None:
    """Run a command to its end.

    Raises:
        subprocess.SubprocessError: it failed, or took too long.

    """
    words, variables = shlex.split(command), os.environ | (more or {})
    subprocess.run(words, check=True, timeout=INSTALL_LIMIT_S, stdin=subprocess.DEVNULL, env=variables)
