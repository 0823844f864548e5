"""A worker reads delivery numbers and the number of outstanding jobs from the headers of its pulls."""

import pytest
from nats.aio.msg import Msg

from infra.broker import Broker
from workers.delivery import Delivery
from workers.pull import outstanding_after_status


@pytest.mark.parametrize(
    ("subject", "number"),
    [
        ("$JS.ACK.JOBS.workers-sync.3.10.11.1700000000000000000.0", 3),
        ("$JS.ACK._.hash.JOBS.workers-sync.4.10.11.1700000000000000000.0.token", 4),
    ],
)
def test_reads_the_delivery_number(subject: str, number: int) -> None:
    broker = Broker()
    assert Delivery(broker, Msg(broker.client, subject="jobs.sync.openai", reply=subject)).number == number


@pytest.mark.parametrize(
    ("headers", "left"),
    [
        ({"Status": "100"}, 50),
        ({"Status": "408", "Nats-Pending-Messages": "20"}, 30),
        ({"Status": "404", "Nats-Pending-Messages": "70"}, 0),
        ({"Status": "409"}, 0),
        ({}, 0),
    ],
)
def test_a_status_lowers_the_number_of_outstanding_jobs(headers: dict[str, str], left: int) -> None:
    assert outstanding_after_status(50, headers) == left
