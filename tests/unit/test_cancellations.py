"""Every listener for a request hears that its caller has disconnected."""

from infra.cancellations import CancellationListener


async def test_a_listener_hears_after_another_has_stopped() -> None:
    cancellations = CancellationListener()
    with cancellations.of("req_1") as first:
        with cancellations.of("req_1") as second:
            cancellations.note("req_2", is_caller=True)
        cancellations.note("req_1", is_caller=True)
    cancellations.note("req_1", is_caller=True)
    assert (first.news.is_set(), second.news.is_set()) == (True, False)


async def test_a_follower_is_not_the_caller() -> None:
    cancellations = CancellationListener()
    with cancellations.of("req_1") as left:
        cancellations.note("req_1", is_caller=False)
        assert (left.news.is_set(), left.caller_is_gone) == (True, False)
        cancellations.note("req_1", is_caller=True)
        cancellations.note("req_1", is_caller=False)
        assert left.caller_is_gone
