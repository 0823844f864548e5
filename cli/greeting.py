"""What `gateway up` says when it starts: a line for each step, then where it is and how to try it.

On a terminal each step shows that it is under way, and then how long it took; elsewhere it is a line when it begins.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from api.accounts import DEFAULT_INSTALLATION_DAILY_BUDGET
from cli.data_directory import GeneratedMasterKey
from cli.supervisor import say
from cli.terminal import CLEAR_LINE
from domain.money import to_usd
from infra.progress import Progress, untold
from infra.settings import Settings


@contextmanager
def step(doing: str) -> Iterator[Progress]:
    """Show a step of the start while the block runs. What the block yields may be told how far the step is."""
    if not sys.stderr.isatty():
        say("up", doing)
        yield untold
        return
    began_s = time.monotonic()

    def show(text: str, end: str = "") -> None:
        print(f"{CLEAR_LINE}  {text}", end=end, file=sys.stderr, flush=True)

    show(f"… {doing}")
    try:
        yield lambda done, total: show(f"… {doing}, {done} of {total}")
    except BaseException:
        show(f"✗ {doing}", "\n")
        raise
    show(f"✓ {doing}, {time.monotonic() - began_s:.1f} s", "\n")


def print_greeting(
    settings: Settings,
    address: str,
    first_key: str | None,
    generated_master_key: GeneratedMasterKey | None,
    *,
    problem: str | None = None,
) -> None:
    """Print the address and a first command to try. A new API key is printed here and nowhere else.

    `problem` says why the gateway does not run yet; None: it does.
    """
    keys = ", ".join(sorted(settings.provider_keys)) or "none: set OPENAI_API_KEY or ANTHROPIC_API_KEY and start again"
    runs = "The gateway runs at" if problem is None else f"The gateway does not answer yet, {problem}. It will be at"
    lines = ["", f"{runs} {address}  (API description: {address}/schema)", f"Dashboard: {address}/"]
    lines += [f"Provider keys: {keys}"]
    if generated_master_key is not None:
        lines += [f"Master key (for the operator): {generated_master_key.path}"]
    if settings.keyless_projects:
        budget = f"${to_usd(DEFAULT_INSTALLATION_DAILY_BUDGET):f}"
        lines += [f"Limit: a project created without the master key may spend {budget} a day with the gateway's keys"]
    if generated_master_key is not None and generated_master_key.is_new:
        lines += ["", "Your master key, for prices, providers and projects without that limit:", ""]
        lines += [f"  {generated_master_key.text}"]
    if first_key is not None:
        lines += ["", "Your first API key. Copy it: it is not shown again.", "", f"  {first_key}"]
    body = '{"model": "echo", "messages": [{"role": "user", "content": "Hello!"}]}'
    lines += [
        "",
        "Try it:",
        "",
        f"  curl {address}/api/v1/completions/chat \\",
        f"    -H 'Authorization: Bearer {first_key or 'YOUR_API_KEY'}' \\",
        f"    -H 'Content-Type: application/json' -d '{body}'",
        "",
    ]
    click.echo("\n".join(lines))
    sys.stdout.flush()


def displayed_host(host: str) -> str:
    """Return the host of the address that is shown: one that a browser on this machine can open."""
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return "localhost"
    return f"[{host}]" if ":" in host else host
