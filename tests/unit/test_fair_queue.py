"""Tenants share a worker's slots: a flood does not delay a quiet tenant, and one tenant alone uses nearly all slots."""

import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.fair_share import CROWD_FACTOR
from workers.fair_queue import KEY_FACTOR, PROJECT_FACTOR, PROVIDER_FACTOR, FairQueue

SLOTS = 256
Job = tuple[str, str, int]


def job(project: str, number: int, key: str = "key") -> Job:
    return project, key, number


def flood(queue: FairQueue[Job], project: str, count: int, keys: int = 1) -> None:
    for number in range(count):
        key = f"key {number % keys}"
        queue.add(project, key, (project, key, number))


def start_all(queue: FairQueue[Job]) -> list[Job]:
    started: list[Job] = []
    while (entry := queue.start()) is not None:
        started.append(entry[2])
    return started


def test_a_key_alone_uses_four_fifths_of_the_slots() -> None:
    queue = FairQueue[Job](SLOTS)
    flood(queue, "flood", 1_000)
    assert len(start_all(queue)) == -(-SLOTS * KEY_FACTOR // (KEY_FACTOR + 1))


def test_a_project_alone_uses_seven_eighths_of_the_slots() -> None:
    queue = FairQueue[Job](SLOTS)
    flood(queue, "flood", 2_000, keys=50)
    assert len(start_all(queue)) == SLOTS * PROJECT_FACTOR // (PROJECT_FACTOR + 1)


@pytest.mark.parametrize("projects", [1, 2, 5, 20])
def test_a_newcomer_finds_a_free_slot_however_many_flood(projects: int) -> None:
    queue = FairQueue[Job](SLOTS)
    for number in range(projects):
        flood(queue, f"flood {number}", 1_000, keys=10)
    start_all(queue)
    assert SLOTS - queue.running >= SLOTS // (1 + projects * PROJECT_FACTOR)
    quiet = job("quiet", 1)
    queue.add(*quiet[:2], quiet)
    assert start_all(queue) == [quiet]


def test_second_key_of_a_flooding_project_gets_a_slot() -> None:
    queue = FairQueue[Job](SLOTS)
    flood(queue, "project", 1_000)
    start_all(queue)
    colleague = job("project", 1, "colleague")
    queue.add(*colleague[:2], colleague)
    assert start_all(queue) == [colleague]


def test_freed_slot_goes_to_the_least_busy_project() -> None:
    queue = FairQueue[Job](8, key_factor=3)
    flood(queue, "flood", 100)
    assert len(start_all(queue)) == 6
    flood(queue, "quiet", 3)
    assert [project for project, _, _ in start_all(queue)] == ["quiet", "quiet"]
    queue.finish("flood", "key 0")
    assert [project for project, _, _ in start_all(queue)] == ["quiet"]


def test_a_key_first_in_is_first_out() -> None:
    queue = FairQueue[Job](SLOTS)
    flood(queue, "project", 50)
    assert [number for _, _, number in start_all(queue)] == list(range(50))


def test_projects_take_turns() -> None:
    queue = FairQueue[Job](SLOTS)
    for number in range(3):
        for project in "abc":
            queue.add(project, "key", job(project, number))
    assert [project for project, _, _ in start_all(queue)] == list("abcabcabc")


def test_a_worker_with_one_slot_works() -> None:
    queue = FairQueue[Job](1)
    flood(queue, "project", 2)
    assert [number for _, _, number in start_all(queue)] == [0]
    queue.finish("project", "key 0")
    assert [number for _, _, number in start_all(queue)] == [1]


def test_waiting_item_can_be_removed() -> None:
    queue = FairQueue[Job](4)
    flood(queue, "flood", 10)
    started = start_all(queue)
    rest = queue.clear()
    assert (len(rest), queue.waiting, queue.running) == (10 - len(started), 0, len(started))
    for project, key, _ in started:
        queue.finish(project, key)
    assert (queue.running, queue.start()) == (0, None)


@given(
    slots=st.integers(1, 12),
    steps=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), st.booleans()), max_size=120),
)
def test_no_job_is_lost_and_no_slot_is_exceeded(slots: int, steps: list[tuple[str, str, bool]]) -> None:
    queue = FairQueue[Job](slots)
    running: list[Job] = []
    done: list[Job] = []
    added = 0
    for project, key, ends in steps:
        queue.add(project, key, (project, key, added))
        added += 1
        running += start_all(queue)
        assert len(running) == queue.running <= slots
        if ends and running:
            ended = running.pop(0)
            queue.finish(*ended[:2])
            done.append(ended)
    while running or queue.waiting:
        running += start_all(queue)
        assert running, "something runs as long as something waits"
        ended = running.pop()
        queue.finish(*ended[:2])
        done.append(ended)
    assert sorted(number for _, _, number in done) == list(range(added))


def waits_of_quiet(*, flooding: bool) -> list[float]:
    """Simulate a tenant with one request per second, beside one with 2,000 jobs of 5 s. Return its waiting times."""
    queue = FairQueue[Job](SLOTS)
    events: list[tuple[float, int, str, Job]] = []
    if flooding:
        events += [(0.0, n, "arrives", job("flood", n, f"key {n % 3}")) for n in range(2_000)]
    events += [(float(n), 10_000 + n, "arrives", job("quiet", 10_000 + n)) for n in range(60)]
    heapq.heapify(events)
    arrived: dict[Job, float] = {}
    waits: list[float] = []
    while events:
        now, order, what, item = heapq.heappop(events)
        if what == "arrives":
            arrived[item] = now
            queue.add(*item[:2], item)
        else:
            queue.finish(*item[:2])
        for started in start_all(queue):
            if started[0] == "quiet":
                waits.append(now - arrived[started])
            takes_s = 5.0 if started[0] == "flood" else 0.2
            heapq.heappush(events, (now + takes_s, order + 100_000, "ends", started))
    return waits


def test_a_quiet_tenant_does_not_wait_beside_a_flood() -> None:
    assert waits_of_quiet(flooding=False) == [0.0] * 60
    assert waits_of_quiet(flooding=True) == [0.0] * 60


def test_room_is_that_of_the_job_s_own_tenant() -> None:
    queue = FairQueue[Job](SLOTS)
    assert queue.has_room_for("flood", "key 0")
    flood(queue, "flood", 1_000, keys=10)
    start_all(queue)
    assert not queue.has_room_for("flood", "key 0")
    assert not queue.has_room_for("flood", "a new key")
    assert queue.has_room_for("quiet", "key")
    quiet = job("quiet", 1)
    queue.add(*quiet[:2], quiet)
    assert start_all(queue) == [quiet]


def test_there_is_no_room_without_a_slot() -> None:
    queue = FairQueue[Job](1)
    flood(queue, "flood", 1)
    start_all(queue)
    assert not queue.has_room_for("quiet", "key")


@pytest.mark.parametrize("projects", [1, 3, 20])
def test_a_slow_provider_leaves_slots_for_the_others_however_many_ask_it(projects: int) -> None:
    queue = FairQueue[Job](SLOTS)
    for number in range(projects):
        for each in range(400):
            project, key = f"project {number}", f"key {each % 20}"
            queue.add(project, key, (project, key, each), "slow")
    start_all(queue)
    assert queue.running <= SLOTS * PROVIDER_FACTOR // (PROVIDER_FACTOR + 1)
    for number in range(min(projects, 3)):
        project = f"project {number}"
        assert queue.has_room_for(project, "another key", "fast")
        queue.add(project, "another key", (project, "another key", number), "fast")
    assert [item[1] for item in start_all(queue)] == ["another key"] * min(projects, 3)


def flooded_at(provider: str) -> FairQueue[Job]:
    """One project with three keys has started as many of 1,000 jobs for a provider as it may."""
    queue = FairQueue[Job](SLOTS)
    for number in range(1_000):
        key = f"key {number % 3}"
        queue.add("flood", key, ("flood", key, number), provider)
    assert len(start_all(queue)) == SLOTS * PROVIDER_FACTOR // (PROVIDER_FACTOR + 1)
    return queue


def test_a_quiet_tenant_starts_at_once_beside_a_flood_at_its_own_provider() -> None:
    queue = flooded_at("shared")
    assert queue.has_room_for("quiet", "key", "shared")
    for number in range(4):
        queue.add("quiet", "key", job("quiet", number), "shared")
    assert start_all(queue) == [job("quiet", number) for number in range(4)]
    assert not queue.has_room_for("flood", "key 0", "shared")


@pytest.mark.parametrize("newcomers", [3, 50, 400])
def test_a_crowd_at_a_slow_provider_leaves_slots_for_the_others(newcomers: int) -> None:
    queue = flooded_at("slow")
    for number in range(newcomers):
        for each in range(20):
            queue.add(f"new {number}", "key", job(f"new {number}", each), "slow")
    start_all(queue)
    assert queue.running <= SLOTS * CROWD_FACTOR // (CROWD_FACTOR + 1)
    quiet = job("quiet", 1)
    queue.add(*quiet[:2], quiet, "fast")
    assert start_all(queue) == [quiet]


def test_a_keys_job_for_another_provider_passes_those_that_wait_for_a_slow_one() -> None:
    queue = FairQueue[Job](SLOTS)
    for number in range(400):
        queue.add("project", "key", ("project", "key", number), "slow")
    slow = SLOTS * PROVIDER_FACTOR // (PROVIDER_FACTOR + 1)
    assert len(start_all(queue)) == slow
    queue.add("project", "key", ("project", "key", 999), "fast")
    assert start_all(queue) == [("project", "key", 999)]
    queue.finish("project", "key", "slow")
    queue.finish("project", "key", "fast")
    assert [item[2] for item in start_all(queue)] == [slow]


def test_a_provider_that_has_ended_all_its_jobs_leaves_nothing_behind() -> None:
    queue = FairQueue[Job](8)
    queue.add("project", "key", ("project", "key", 1), "one")
    queue.add("project", "key", ("project", "key", 2), "two")
    start_all(queue)
    for provider in ("one", "two"):
        queue.finish("project", "key", provider)
    assert (queue.running, queue._projects, queue._providers) == (0, {}, {})
