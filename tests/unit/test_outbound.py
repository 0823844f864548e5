"""The gateway calls only public addresses for callers."""

import pytest

from domain.errors import InvalidRequest
from infra.outbound import AddressRefused, PublicResolver, check_url, may_be_called


@pytest.mark.parametrize(
    "address",
    [
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "127.0.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "192.0.0.8",
        "100.64.0.1",
        "224.0.0.1",
        "::1",
        "fe80::1",
        "fd00::1",
        "::ffff:10.0.0.1",
        "64:ff9b:1::1",
        "64:ff9b::a00:1",
        "2002:a00:1::1",
    ],
)
def test_our_own_network_is_not_called(address: str) -> None:
    assert not may_be_called(address, allow_loopback=False)


def test_private_addresses_are_called_only_if_allowed() -> None:
    assert may_be_called("1.1.1.1", allow_loopback=False)
    assert may_be_called("2606:4700::1111", allow_loopback=False)
    assert may_be_called("127.0.0.1", allow_loopback=True)
    assert not may_be_called("10.0.0.1", allow_loopback=True)


async def test_loopback_name_is_refused_at_resolution() -> None:
    with pytest.raises(AddressRefused):
        await PublicResolver(allow_loopback=False).resolve("localhost", 80)
    assert await PublicResolver(allow_loopback=True).resolve("localhost", 80)


def test_an_address_needs_https() -> None:
    check_url("https://example.com/x", field="f", allow_loopback=False)
    check_url("http://localhost:9/x", field="f", allow_loopback=True)
    for url in ("http://example.com", "http://localhost:9/x", "https:///x", "https://a:b@example.com"):
        with pytest.raises(InvalidRequest, match="`f`"):
            check_url(url, field="f", allow_loopback=False)


@pytest.mark.parametrize(
    "host",
    [
        "0177.0.0.1",
        "2130706433",
        "127.1",
        "10.1",
        "127.0.0.1.",
        "[::ffff:127.0.0.1]",
        "[fe80::1%25eth0]",
        "１２７.0.0.1",
    ],
)
def test_our_own_network_in_other_spellings_is_refused(host: str) -> None:
    with pytest.raises(InvalidRequest, match=r"public network|this machine's own"):
        check_url(f"https://{host}/x", field="f", allow_loopback=False)


@pytest.mark.parametrize("url", ["https://example.com\\@127.0.0.1/", "https://[::1/", "https://a:b:c/", "no address"])
def test_unreadable_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="`f`"):
        check_url(url, field="f", allow_loopback=True)
