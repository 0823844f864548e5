"""How far a long command is: a few lines where nobody watches a terminal, none for what is quick."""

from cli.progress import FIRST_LINE_S, LINES, PlainLines


class Work:
    """Work whose clock a test turns."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.lines: list[str] = []
        self.told = PlainLines("verify", "events", self.lines.append, lambda: self.now_s)

    def reach(self, now_s: float, done: int, total: int = 1_000) -> None:
        self.now_s = now_s
        self.told(done, total)


def test_work_that_is_quick_says_nothing() -> None:
    work = Work()
    for tenth in range(1, 11):
        work.reach(tenth * FIRST_LINE_S / 11, tenth * 100)
    assert work.lines == []


def test_a_line_says_how_much_is_done_how_fast_and_how_long_the_rest_takes() -> None:
    work = Work()
    work.reach(10, 250)
    assert work.lines == ["verify: 25 % (250 of 1,000 events, 25/s, 30 s left)"]
    work.reach(40, 1_000)
    assert work.lines[1] == "verify: 100 % (1,000 of 1,000 events, 25/s)"


def test_work_of_any_length_says_no_more_than_a_few_lines() -> None:
    work = Work()
    for event in range(1, 100_001):
        work.reach(float(event), event, 100_000)
    assert len(work.lines) == LINES


def test_an_end_that_moves_away_brings_no_more_lines() -> None:
    work = Work()
    for step in range(1, 1_000):
        work.reach(step * FIRST_LINE_S, step * 100, step * 100 + 50 * (step % 7))
    assert len(work.lines) <= LINES


def test_nothing_to_do_is_done() -> None:
    work = Work()
    work.reach(FIRST_LINE_S, 0, 0)
    assert work.lines == ["verify: 100 % (0 of 0 events, 0/s)"]
