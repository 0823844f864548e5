"""A worker reads delivery numbers and the number of outstanding jobs from the headers of its pulls."""

import pytest
from nats.aio.msg import Msg

from infra.broker import Broker
from tests.support.jobs import make_job
from workers.delivery import Delivery, DirectDelivery
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
    ("subject", "provider"),
    [
        ("jobs.sync.chat.prj_1.key_1.mine.prj_1", "mine.prj_1"),
        ("jobs.sync.chat.prj_1.key_1.openai.installation", "openai.installation"),
        ("jobs.sync.chat.prj_1.key_1.openai", "openai"),
        ("jobs.alerts.alert.prj_1.all", ""),
    ],
)
def test_reads_whom_a_job_calls_and_whose_provider_that_is(subject: str, provider: str) -> None:
    broker = Broker()
    reply = "$JS.ACK.JOBS.workers-sync.3.10.11.1700000000000000000.0"
    assert Delivery(broker, Msg(broker.client, subject=subject, reply=reply)).provider == provider


@pytest.mark.parametrize("own", [True, False])
def test_a_provider_under_a_projects_own_credential_is_the_projects(own: bool) -> None:
    job = make_job(project_id="prj_1", provider="openai", needs_own_credential=own)
    assert DirectDelivery(Broker(), job).provider == ("openai.prj_1" if own else "openai.installation")


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
