"""Who has a line never waits for who reads it: neither the API's event loop nor the one that restarts processes."""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.fork_server import ForkServer
from cli.supervisor import MAX_LINE_BYTES, Child, ChildSpec, Output
from infra.line_writer import PIECE_BYTES, LineWriter
from tests.support.waiting import eventually_so

MORE_THAN_A_PIPE = 300
LINE = "x" * 1_000


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    try:
        yield read, write
    finally:
        os.close(read)
        os.close(write)


def read_all(fd: int, size: int) -> str:
    found = b""
    while len(found) < size:
        found += os.read(fd, size)
    return found.decode()


def read_until(fd: int, end: bytes) -> str:
    found = b""
    while end not in found:
        found += os.read(fd, 65_536)
    return found.decode()


def test_lines_that_nobody_reads_wait_up_to_a_bound_and_come_in_order_once_they_are_read() -> None:
    with pipe() as (read, write):
        writer = LineWriter(write, max_waiting_bytes=200 * (len(LINE) + 5))
        taken = [number for number in range(MORE_THAN_A_PIPE) if writer.write(f"{number:03} {LINE}\n")]
        assert 200 <= len(taken) < MORE_THAN_A_PIPE
        found = read_all(read, len(taken) * (len(LINE) + 5))
        assert found == "".join(f"{number:03} {LINE}\n" for number in taken)
        writer.close()
        assert not writer.write("after the end\n")


def test_the_end_waits_for_nobody_who_does_not_read() -> None:
    with pipe() as (read, write):
        writer = LineWriter(write)
        text = "".join(f"{LINE}\n" for _ in range(MORE_THAN_A_PIPE))
        assert writer.write(text)
        writer.close(timeout_s=0.05)
        assert read_all(read, len(text)) == text


def test_a_line_longer_than_a_piece_is_whole() -> None:
    with pipe() as (read, write):
        writer = LineWriter(write)
        text = f"a\n{'y' * (2 * PIECE_BYTES)}\nb\n"
        writer.write(text)
        writer.close()
        assert read_all(read, len(text)) == text


async def test_a_process_is_started_again_while_nobody_reads_what_it_says(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    talks = f"open('{starts}', 'a').write('.'); print(('{LINE}' + chr(10)) * {MORE_THAN_A_PIPE}, flush=True)"
    with pipe() as (read, write):
        writer = LineWriter(write, max_waiting_bytes=20_000)
        child = Child(ChildSpec(name="api-1", argv=(sys.executable, "-c", talks), env={}), Output(writer), ForkServer())
        run = asyncio.create_task(child.run())

        async def has_started_again() -> bool:
            return starts.exists() and len(starts.read_text()) > 1

        async def is_read() -> bool:
            try:
                return not os.read(read, 1_000_000)
            except BlockingIOError:
                return True

        await eventually_so(has_started_again, within_s=60)
        await child.stop(5)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        os.set_blocking(read, False)
        await eventually_so(is_read, within_s=30)
        writer.close()


async def test_the_lines_of_a_process_are_printed_whole_each_under_its_name() -> None:
    says = "import os, time; os.write(1, b'one\\ntw'); time.sleep(0.1); os.write(1, b'o\\n\\n\\x1b[2Jthree')"
    with pipe() as (read, write):
        writer = LineWriter(write)
        child = Child(ChildSpec(name="api-1", argv=(sys.executable, "-c", says), env={}), Output(writer), ForkServer())
        run = asyncio.create_task(child.run())
        printed = "".join(f"api-1       | {line}\n" for line in ("one", "two", "", "\\u001b[2Jthree"))
        found = await asyncio.to_thread(read_until, read, b"three\n")
        await child.stop(5)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        writer.close()
    assert found.startswith(printed)  # behind it, that the process has ended


async def test_a_line_without_an_end_is_printed_in_pieces() -> None:
    says = f"import os; os.write(1, b'x' * {3 * MAX_LINE_BYTES}); os.write(1, b'\\ny\\n')"
    with pipe() as (read, write):
        writer = LineWriter(write)
        child = Child(ChildSpec(name="api-1", argv=(sys.executable, "-c", says), env={}), Output(writer), ForkServer())
        run = asyncio.create_task(child.run())
        printed = await asyncio.to_thread(read_until, read, b"| y\n")
        await child.stop(5)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        writer.close()
    assert printed.partition("| y")[0].count("x") == 3 * MAX_LINE_BYTES
    assert max(map(len, printed.splitlines())) <= 2 * MAX_LINE_BYTES + len("api-1       | ")
