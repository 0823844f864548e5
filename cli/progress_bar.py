"""A bar on a terminal. `cli/progress.py` imports it where it shows one: it takes longer than most commands take."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

from infra.progress import Progress


class Rate(ProgressColumn):
    """How much is done, and how much a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """Return the text beside the bar."""
        rate = f", {task.speed:,.0f}/s" if task.speed is not None else ""
        return Text(f"{task.completed:,.0f} {self._unit}{rate}")


@contextmanager
def bar(what: str, unit: str) -> Iterator[Progress]:
    """Show a bar on standard error while the block runs, then remove it."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), Rate(unit), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as shown:
        task_id = shown.add_task(what, total=None)

        def told(done: int, total: int) -> None:
            shown.update(task_id, completed=done, total=total)

        yield told
