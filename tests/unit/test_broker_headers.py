"""Headers are read as nats-py reads them."""

import pytest
from nats.aio.client import Client

from infra.broker import Broker


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\r\n",
        b"Nats-Msg-Id: req_1\r\n\r\n",
        b"Nats-Msg-Id:req_1",
        b"Nats-Msg-Id:\treq_1 \r\nTraceparent: 00-a-b-01\r\n\r\n",
        b"Nats-Pending-Messages: 3\r\nNats-Pending-Bytes: 0\r\n\r\n",
        b"two words: left out\r\nkept: a: b\r\nno colon\r\nempty:\r\n",
        "näme: left out\r\nkept: wörd\r\n".encode(),
        b"kept: \xff\r\n",
    ],
)
def test_headers_are_read_as_the_library_reads_them(raw: bytes) -> None:
    assert Broker().client._parse_header_lines(raw) == Client._parse_header_lines(raw)
