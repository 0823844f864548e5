"""Every listener for a request gets the cancellation when its caller disconnects."""

from infra.broker import Broker
from infra.cancellations import CancellationListener
from tests.support.jobs import make_job


async def test_a_listener_hears_after_another_has_stopped() -> None:
    cancellations = CancellationListener(Broker())
    with cancellations.watch(make_job(request_id="req_1")) as first:
        with cancellations.watch(make_job(request_id="req_1")) as second:
            cancellations.note("req_2", is_caller=True)
        cancellations.note("req_1", is_caller=True)
    cancellations.note("req_1", is_caller=True)
    assert (first.published.is_set(), second.published.is_set()) == (True, False)


async def test_a_follower_is_not_the_caller() -> None:
    cancellations = CancellationListener(Broker())
    with cancellations.watch(make_job(request_id="req_1")) as left:
        cancellations.note("req_1", is_caller=False)
        assert (left.published.is_set(), left.caller_is_gone) == (True, False)
        cancellations.note("req_1", is_caller=True)
        cancellations.note("req_1", is_caller=False)
        assert left.caller_is_gone
