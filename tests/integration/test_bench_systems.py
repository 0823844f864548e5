"""What a benchmark starts is gone when it has stopped it."""

from pathlib import Path

import psutil

from bench.load import Target
from bench.systems import System


class DeadSystem(System):
    """Ends at once, and leaves a child behind."""

    name = "dead"
    switched_on = ""

    def command(self) -> list[str]:
        return ["sh", "-c", f"sleep 300 & echo $! > {self.folder}/child.txt; exit 1"]

    def target(self, *, cached: bool = False) -> Target:
        assert not cached, "it has no cache"
        return Target(port=self.port, path="/", headers={})


def test_children_of_a_root_that_has_died_are_stopped(tmp_path: Path) -> None:
    system = DeadSystem(tmp_path, 1)
    system.spawn()
    assert system._running is not None
    system._running.wait(10)
    child = psutil.Process(int((tmp_path / "child.txt").read_text()))
    assert child.is_running()
    system.stop()
    child.wait(10)
