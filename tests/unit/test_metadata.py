"""Metadata that the log could not keep, or a reader not follow, is refused by its name."""

from types import SimpleNamespace
from typing import Any

import pytest

from api.large_requests import LargeRequests
from api.requests import MAX_METADATA_DEPTH, metadata_of
from domain.errors import InvalidRequest


def read(header: bytes | None = None, body: dict[str, Any] | None = None) -> dict[str, Any] | None:
    headers = {"x-gateway-metadata": header.decode("latin-1")} if header is not None else {}
    return metadata_of(SimpleNamespace(headers=headers), body)  # type: ignore[arg-type]


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("levels", [MAX_METADATA_DEPTH, 300, 970])
def test_metadata_is_nested_so_deep_and_no_deeper(levels: int) -> None:
    with pytest.raises(InvalidRequest, match="levels deep"):
        read(body={"a": nested(levels)})
    with pytest.raises(InvalidRequest, match="levels deep"):
        read(b'{"a": ' + b"[" * levels + b"1" + b"]" * levels + b"}")
    assert read(body={"a": nested(MAX_METADATA_DEPTH - 1)})


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**3_999])
def test_a_number_that_no_message_can_hold_is_refused(number: int) -> None:
    for found in ({"a": number}, {"a": [{"b": number}]}):
        with pytest.raises(InvalidRequest, match="64 bits"):
            read(body=found)
    with pytest.raises(InvalidRequest, match="64 bits"):
        read(b'{"a": %d}' % number)


@pytest.mark.parametrize(
    "header",
    [b'{"a": "\xff"}', b'{"a": ' + b"9" * 5_000 + b"}", b"{" * 5_000, b'{"a\\n": 1}', b'{"a\\u001b": 1}', b"[]", b'"'],
    ids=["no UTF-8", "5,000 digits", "deeper than Python goes", "a line end", "an escape", "a list", "no JSON"],
)
def test_a_header_that_is_no_metadata_is_refused(header: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read(header)


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63), 1.5, "9" * 4_000, True, None])
def test_other_values_are_kept_as_they_are(value: Any) -> None:
    assert read(body={"a": value}) == {"a": value}


@pytest.mark.parametrize("size_bytes", [100, 10**6])
async def test_a_request_that_is_too_deep_for_a_step_is_refused(size_bytes: int) -> None:
    def follow() -> None:
        follow()

    with pytest.raises(InvalidRequest, match="nested too deeply"):
        await LargeRequests().run("project", size_bytes, follow)
