"""Starts processes of the gateway by forking one that has imported everything: in a moment instead of seconds.

What runs is the `gateway` command as installed, with an environment, a directory and an output of its own. The server
forks before it has any thread or event loop.
"""

import ctypes
import gc
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

from infra.child import stop_child
from tests.support.gateway import clean_environment

_PR_SET_PDEATHSIG = 1
ROOT = Path(__file__).parents[2]


class ForkServer:
    """Starts processes until it is closed. They get SIGTERM when it ends, which it does when its input does."""

    def __init__(self, env: Mapping[str, str]) -> None:
        """`env` has what the code reads while it is imported."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.fork_server"],
            env=clean_environment(env),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def start(self, arguments: Sequence[str], *, env: Mapping[str, str], log: Path) -> int:
        """Start `gateway` with these arguments, in the folder of its log. Return its process id."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"arguments": list(arguments), "env": dict(env), "log": str(log)}
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End the server."""
        stop_child(self._process, signal.SIGTERM, timeout_s=5)


def _serve() -> None:
    import api.process  # noqa: F401, PLC0415 - what the commands import
    import projections.process  # noqa: F401, PLC0415
    import workers.process  # noqa: F401, PLC0415

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children that end leave nothing behind
    gc.freeze()
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            os._exit(_become(order["arguments"], order["env"], Path(order["log"])))
        print(child, flush=True)


def _become(arguments: list[str], env: dict[str, str], log: Path) -> int:
    """Be a process of the gateway. Return its exit code."""
    from cli.main import main  # noqa: PLC0415

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setpgid(0, 0)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
    output, nothing = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), os.open(os.devnull, os.O_RDONLY)
    for standard, opened in enumerate((nothing, output, output)):
        os.dup2(opened, standard)
    os.chdir(log.parent)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["gateway", *arguments]
    try:
        main(arguments)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - the last thing that this process does
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    _serve()
