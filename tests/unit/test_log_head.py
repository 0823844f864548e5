"""A head of the log is written in one way only, and a position proves something or is refused."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from msgspec.structs import replace

from domain.log_head import NO_HEAD, LogPosition, decode_head, encode_head, head_hash, one_line, parse_position
from infra.audit_keys import AuditKey, TrustedKeys, decode_key, encode_key
from infra.head_verification import link_fault

KEY = AuditKey(b"k" * 32)
AT = datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=UTC)
FIRST = KEY.sign(LogPosition(5, b"d" * 32), sequence=1, previous=NO_HEAD, at=AT)
SECOND = KEY.sign(LogPosition(9, b"e" * 32), sequence=2, previous=head_hash(FIRST), at=AT)
RESTORE = KEY.sign(
    LogPosition(5, b"d" * 32), sequence=3, previous=head_hash(SECOND), at=AT, resumes_after=1, reason="x"
)


def test_a_position_is_written_with_half_of_its_digest() -> None:
    written = str(LogPosition(1234, bytes(range(32))))
    assert written == "1234:000102030405060708090a0b0c0d0e0f"
    assert parse_position(written) == LogPosition(1234, bytes(range(16)))
    assert parse_position(f" {written.upper()}0\n") == LogPosition(1234, bytes(range(16)))


@pytest.mark.parametrize("text", ["", "12", "12:", "12:abc", "12:" + "g" * 16, "-1:" + "0" * 16, "1:" + "0" * 65])
def test_a_position_that_proves_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="POSITION:DIGEST"):
        parse_position(text)


@pytest.mark.parametrize("head", [FIRST, SECOND, RESTORE])
def test_a_line_has_the_whole_head(head) -> None:  # type: ignore[no-untyped-def]
    line = encode_head(head)
    assert b"\n" not in line
    assert decode_head(line) == head
    assert TrustedKeys([KEY.public]).fault_of(decode_head(line)) is None


@pytest.mark.parametrize(
    "line",
    [b"", b"{}", b"[]", b"\xff", encode_head(FIRST)[:-1], encode_head(FIRST).replace(b'"digest":"64', b'"digest":"zz')],
)
def test_what_is_no_line_of_a_head_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode_head(line)


def test_the_time_zone_of_the_reader_changes_no_signature() -> None:
    elsewhere = replace(FIRST, at=AT.astimezone(timezone(timedelta(hours=9))))
    assert TrustedKeys([KEY.public]).fault_of(elsewhere) is None


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (replace(FIRST, position=6), "not key"),
        (replace(FIRST, sequence=2), "not key"),
        (replace(FIRST, resumes_after=0), "not key"),
        (replace(FIRST, key_id="0" * 16), "unknown key"),
        (replace(FIRST, signature=b""), "not key"),
    ],
)
def test_a_signature_is_of_every_value(changed, reason: str) -> None:  # type: ignore[no-untyped-def]
    assert reason in (TrustedKeys([KEY.public]).fault_of(changed) or "")


def test_heads_follow_each_other_by_sequence_hash_and_position() -> None:
    assert link_fault(None, FIRST) is None
    assert link_fault(FIRST, SECOND) is None
    assert link_fault(FIRST, RESTORE) is None
    assert "missing" in (link_fault(None, SECOND) or "")
    assert "does not name" in (link_fault(FIRST, replace(SECOND, previous=NO_HEAD)) or "")
    assert "earlier position" in (link_fault(FIRST, replace(SECOND, position=4)) or "")
    assert "declares a restore after head 1" in (link_fault(SECOND, RESTORE) or "")


@pytest.mark.parametrize("reason", ["a\nb", "  a \t b ", "a\x00b", "x" * 300, "y " * 150, "\u202e name"])
def test_a_reason_is_one_line_and_stays_the_same(reason: str) -> None:
    written = one_line(reason)
    assert written.isprintable()
    assert len(written) <= 200
    assert one_line(written) == written


@pytest.mark.parametrize("text", ["", "short", encode_key(b"k" * 31), encode_key(b"k" * 33), "é" * 44])
def test_a_key_has_thirty_two_bytes(text: str) -> None:
    with pytest.raises(ValueError, match="32 bytes in base64"):
        decode_key(text)


def test_the_signing_key_is_in_no_repr() -> None:
    assert repr(KEY) == f"AuditKey({KEY.key_id})"
