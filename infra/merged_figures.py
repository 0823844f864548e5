"""One page of figures for all processes of `gateway up`: each serves its own on a Unix socket, and this joins them.

The sockets are in a directory that only their user can enter. A process that does not answer is shown as that, and its
figures are left out: a counter that stands still would say that nothing happens there.
"""

import asyncio
import re
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path

import aiohttp

from infra.settings import METRICS_SOCKET_SUFFIX

PAGE_TIMEOUT_S = 8.0
"""Less than Prometheus waits by itself. A process waits less for its servers: it answers later only if it hangs."""
MAX_PAGE_BYTES = 32 * 1024 * 1024
_HELP_OR_TYPE = re.compile(r"# (?:HELP|TYPE) (\S+)")
_PROCESS_UP = "gateway_process_up"


async def read_pages(directory: Path) -> dict[str, str | None]:
    """Return the page of each process that has a socket in this directory, by its name; None: it does not answer."""
    sockets = sorted(await asyncio.to_thread(lambda: list(directory.glob(f"*{METRICS_SOCKET_SUFFIX}"))))
    pages = await asyncio.gather(*(_read_page(socket) for socket in sockets))
    return {socket.stem: page for socket, page in zip(sockets, pages, strict=True)}


def merge(pages: Mapping[str, str | None]) -> str:
    """Join pages in Prometheus' text format to one, each sample with the label `process`.

    All samples of a metric stand together, as the format demands.
    """
    families: dict[str, tuple[list[str], list[str]]] = {}
    for process, page in pages.items():
        if page is None:
            continue
        family: tuple[list[str], list[str]] | None = None
        for line in page.splitlines():
            about = _HELP_OR_TYPE.match(line)
            if about is not None:
                if about[1] not in families:
                    families[about[1]] = ([], [])
                family = families[about[1]]
                if line not in family[0]:
                    family[0].append(line)
            elif family is not None and line:
                family[1].append(_labelled(line, process))
    ups = [f'{_PROCESS_UP}{{process="{process}"}} {int(page is not None)}' for process, page in pages.items()]
    families[_PROCESS_UP] = ([f"# HELP {_PROCESS_UP} 1 if the process answers.", f"# TYPE {_PROCESS_UP} gauge"], ups)
    return "".join(f"{line}\n" for about, samples in families.values() for line in (*about, *samples))


def _labelled(sample: str, process: str) -> str:
    """A sample with one more label, before its others."""
    name, brace, rest = sample.partition("{")
    if brace and " " not in name:
        return f'{name}{{process="{process}",{rest}'
    name, _, value = sample.partition(" ")
    return f'{name}{{process="{process}"}} {value}'


async def _read_page(socket: Path) -> str | None:
    connector = aiohttp.UnixConnector(str(socket))
    timeout = aiohttp.ClientTimeout(total=PAGE_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.get("http://process/metrics") as response,
        ):
            is_page = response.status == HTTPStatus.OK and (response.content_length or 0) <= MAX_PAGE_BYTES
            return await response.text("utf-8") if is_page else None
    except (aiohttp.ClientError, OSError, TimeoutError, UnicodeDecodeError):
        return None
