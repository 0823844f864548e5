"""What `gateway audit verify` prints, and how it exits: 0 proven, 1 changed, 3 not proven."""

from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from cli.audit_evidence import EXIT_CODES
from domain.log_head import NO_HEAD, LogPosition, head_hash
from infra.audit_keys import AuditKey, TrustedKeys
from infra.head_verification import Anchors, Evidence, check_heads
from infra.log_verification import NO_EVIDENCE, Verification
from infra.settings import Settings, load_settings
from infra.verification_report import report as reported

KEY = AuditKey(b"k" * 32)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SETTINGS = load_settings({"GATEWAY_AUDIT_INTERVAL_S": "10"})
HEAD = KEY.sign(LogPosition(2, b"d" * 32), sequence=1, previous=NO_HEAD, at=NOW)
EVIDENCE = Evidence(keys=TrustedKeys([KEY.public]), heads=[HEAD])
FOUND = Verification(events=5, batches=2, head=b"h" * 32, report=check_heads(EVIDENCE))


def report(evidence: Evidence, found: Verification, settings: Settings, now: datetime) -> tuple[int, list[str]]:
    """Return the exit code and the lines."""
    verdict, lines = reported(evidence, found, settings, now)
    return EXIT_CODES[verdict], lines


def test_a_log_that_is_signed_is_intact() -> None:
    code, lines = report(EVIDENCE, FOUND, SETTINGS, NOW)
    assert (code, lines[0]) == (0, f"intact: 5 events in 2 batches, head {(b'h' * 32).hex()}")
    assert lines[1].startswith("signed: 1 heads, the newest at position 2 at ")
    assert lines[1].endswith(f"with key {KEY.key_id}; 3 events are newer")


def test_what_was_appended_a_moment_ago_need_not_be_signed_yet() -> None:
    recent = replace(FOUND, oldest_unsigned=NOW - timedelta(seconds=30))
    assert report(EVIDENCE, recent, SETTINGS, NOW)[0] == 0


def test_old_events_that_are_not_signed_are_told() -> None:
    code, lines = report(EVIDENCE, replace(FOUND, oldest_unsigned=NOW - timedelta(seconds=90)), SETTINGS, NOW)
    assert (code, lines[-1].startswith("UNSIGNED: nothing after position 2 is signed")) == (3, True)


def test_an_event_that_is_dated_in_the_future_is_unsigned_at_once() -> None:
    for ahead in (timedelta(minutes=2), timedelta(days=3_650)):
        for found in (
            replace(FOUND, oldest_unsigned=NOW + ahead, newest_unsigned=NOW + ahead),
            replace(FOUND, oldest_unsigned=NOW, newest_unsigned=NOW + ahead),
        ):
            code, lines = report(EVIDENCE, found, SETTINGS, NOW)
            assert (code, "which is yet to come" in lines[-1]) == (3, True)


def test_clocks_may_differ_a_little() -> None:
    ahead = NOW + timedelta(seconds=30)
    assert report(EVIDENCE, replace(FOUND, oldest_unsigned=ahead, newest_unsigned=ahead), SETTINGS, NOW)[0] == 0


def test_without_a_public_key_nothing_is_proven() -> None:
    code, lines = report(NO_EVIDENCE, replace(FOUND, report=check_heads(NO_EVIDENCE)), SETTINGS, NOW)
    assert (code, "--public-key" in lines[-1]) == (3, True)


def test_heads_that_only_unknown_keys_have_signed_prove_nothing_and_are_no_change() -> None:
    other = AuditKey(b"o" * 32)
    for keys in (TrustedKeys([other.public]), TrustedKeys(())):
        evidence = Evidence(keys=keys, heads=[HEAD], anchors=[Anchors(source="a file", heads=[HEAD])])
        found = check_heads(evidence)
        assert (found.faults, found.unknown_keys, found.signed) == ([], [KEY.key_id], 0)
        code, lines = report(evidence, replace(FOUND, report=found), SETTINGS, NOW)
        assert (code, len(lines), lines[-1].startswith("UNSIGNED: ")) == (3, 2, True)
    code, lines = report(
        Evidence(keys=TrustedKeys([other.public]), heads=[HEAD]), replace(FOUND, report=found), SETTINGS, NOW
    )
    named = (KEY.key_id, other.key_id, "GATEWAY_AUDIT_PUBLIC_KEYS", "--public-key")
    assert [text for text in named if text not in lines[-1]] == []


def test_a_head_of_an_unknown_key_beside_one_of_a_known_key_is_a_fault() -> None:
    other = AuditKey(b"o" * 32)
    forged = other.sign(LogPosition(3, b"e" * 32), sequence=2, previous=head_hash(HEAD), at=NOW)
    in_database = check_heads(Evidence(keys=EVIDENCE.keys, heads=[HEAD, forged]))
    in_anchors = check_heads(
        Evidence(keys=EVIDENCE.keys, heads=[forged], anchors=[Anchors(source="a file", heads=[HEAD])])
    )
    for found in (in_database, in_anchors):
        assert any(f"unknown key, {other.key_id}" in fault.reason for fault in found.faults)
    assert (in_database.signed, in_anchors.signed) == (2, 0)


def test_a_changed_log_is_broken_whatever_is_signed() -> None:
    code, lines = report(EVIDENCE, replace(FOUND, first_bad=4, reason="it was rewritten"), SETTINGS, NOW)
    assert (code, lines) == (1, ["BROKEN at position 4: it was rewritten"])


def test_a_restore_is_told_every_time() -> None:
    restore = KEY.sign(
        LogPosition(2, b"d" * 32), sequence=3, previous=NO_HEAD, at=NOW, resumes_after=1, reason="the disk failed"
    )
    evidence = Evidence(keys=EVIDENCE.keys, heads=[HEAD, restore])
    code, lines = report(evidence, replace(FOUND, report=check_heads(evidence)), SETTINGS, NOW)
    assert (code, lines[1].startswith("restored: head 3")) == (0, True)
    assert lines[1].endswith("gives up what was signed after head 1 (the disk failed)")
