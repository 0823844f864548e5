"""How many connections a process may have follows from the system's limits of open files."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource
from infra.open_files import allow_connections
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
print(allow_connections({wanted}), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "allowed", "soft_then"),
    [
        pytest.param(700, 800, 400, 400, 700, id="it fits"),
        pytest.param(300, 800, 400, 400, 656, id="the soft limit is raised no further than it must be"),
        pytest.param(300, 800, 5_000, 544, 800, id="the hard limit allows fewer"),
        pytest.param(200, 200, 5_000, 1, 200, id="one at least"),
    ],
)
def test_the_soft_limit_is_raised_as_far_as_the_hard_one_allows(
    soft: int, hard: int, wanted: int, allowed: int, soft_then: int
) -> None:
    program = PROGRAM.format(soft=soft, hard=hard, wanted=wanted)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(allowed), str(soft_then)]
