"""Messages are published as nats-py publishes them."""

import asyncio

import pytest
from nats.aio.client import Client
from nats.errors import Error

from infra.broker import Broker


def _connected(client: Client) -> Client:
    client._status = Client.CONNECTED
    client._flush_queue = asyncio.Queue(maxsize=1)
    client._flush_queue.put_nowait(asyncio.get_running_loop().create_future())  # a flush is due already
    return client


@pytest.mark.parametrize(
    ("subject", "payload", "reply", "headers"),
    [
        ("jobs.sync", b"{}", "", None),
        ("jobs.sync", b"", "_INBOX.1", None),
        ("reply.wörd", b"\xff\r\n", "", None),
        ("reply.*", b"%b", "$JS.ACK.1", None),
        ("jobs.sync", b"{}", "", {"Nats-Msg-Id": "req_1"}),
        ("jobs.sync", b"", "_INBOX.1", {"Nats-Msg-Id": "req_1", "Traceparent": "00-a-b-01"}),
        ("reply.wörd", b"\xff\r\n", "", {"Nats-Msg-Id": "a:b"}),
        ("jobs.sync", b"{}", "", {}),
        ("jobs.sync", b"{}", "", {" Nats-Msg-Id ": " req_1 "}),
        ("jobs.sync", b"{}", "", {"Nats-Msg-Id": "two words"}),
        ("jobs.sync", b"{}", "", {"Nats-Msg-Id": "a\r\nb: c"}),
        ("jobs.sync", b"{}", "", {"Nats-Msg-Id": "req_1", "": "left out"}),
        ("jobs.sync", b"{}", "", {"Nats-Msg-Id": "wörd"}),
        ("jobs.sync", b"{}", "", {"Nats-Msg-Id": ""}),
    ],
)
async def test_a_message_is_sent_as_the_library_sends_it(
    subject: str, payload: bytes, reply: str, headers: dict[str, str] | None
) -> None:
    ours, theirs = _connected(Broker().client), _connected(Client())
    for client in (ours, theirs):
        await client.publish(subject, payload, reply, headers)
    assert ours._pending == theirs._pending
    assert ours._pending_data_size == theirs._pending_data_size
    assert ours.stats == theirs.stats


@pytest.mark.parametrize("status", [Client.CONNECTED, Client.RECONNECTING, Client.DRAINING_PUBS, Client.CLOSED])
@pytest.mark.parametrize("headers", [None, {"Nats-Msg-Id": "req_1"}])
@pytest.mark.parametrize(
    ("subject", "payload", "reply"),
    [
        ("", b"", ""),
        ("two words", b"", ""),
        ("jobs\r\nPUB jobs", b"", ""),
        ("jobs", b"", "two words"),
        ("jobs", b"", "line\n"),
        ("jobs", b"x" * 2048, ""),
    ],
)
async def test_what_the_library_refuses_is_refused(
    status: int, subject: str, payload: bytes, reply: str, headers: dict[str, str] | None
) -> None:
    errors = []
    for client in (_connected(Broker().client), _connected(Client())):
        client._status, client._max_payload, client._max_pending_size = status, 1024, 1024
        with pytest.raises(Error) as refused:
            await client.publish(subject, payload, reply, headers)
        assert not client._pending
        errors.append(type(refused.value))
    assert errors[0] is errors[1]


@pytest.mark.parametrize("name", ["two words", "a:b", "näme", "a\r\nb", "A: x\r\nB"])
async def test_a_header_that_the_library_refuses_is_refused(name: str) -> None:
    errors = []
    for client in (_connected(Broker().client), _connected(Client())):
        with pytest.raises(Error) as refused:
            await client.publish("jobs", b"", "", {name: "1"})
        assert not client._pending
        errors.append(type(refused.value))
    assert errors[0] is errors[1]
