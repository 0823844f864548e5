"""What the database's owner does to the log is found: by signed heads, their copies, and positions that were kept."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from domain.errors import InvalidRequest
from domain.events import ProjectCreated
from domain.log_head import LogPosition, SignedHead, decode_head, encode_head, parse_position
from infra.audit_keys import AuditKey, TrustedKeys
from infra.event_log import Commit
from infra.head_anchors import AnchorFile, read_anchors
from infra.head_verification import Anchors, Evidence
from infra.log_verification import Verification, verify
from infra.restores import declare_restore
from infra.settings import load_settings
from infra.signed_heads import add_head, heads_from
from infra.verification_report import Verdict, report
from projections.head_signer import HeadSigner
from tests.support.ledger import RealLedger
from tests.support.owner import DatabaseOwner

AT = datetime(2026, 3, 1, tzinfo=UTC)
KEY, OTHER_KEY = AuditKey(b"k" * 32), AuditKey(b"o" * 32)


class Installation:
    """A log with its signer, and what somebody outside knows of it."""

    def __init__(self, ledger: RealLedger, file: Path) -> None:
        self.ledger = ledger
        self.file = file
        self.owner = DatabaseOwner(ledger.owner)
        self.signer = self.new_signer()

    def new_signer(self, *, key: AuditKey = KEY, trusted: tuple[AuditKey, ...] = (KEY,)) -> HeadSigner:
        """Return the signer of a process that has just started."""
        return HeadSigner(
            self.ledger.pool,
            key=key,
            trusted=TrustedKeys([one.public for one in trusted]),
            interval_s=60,
            now=lambda: datetime.now(UTC),
            file=AnchorFile(self.file),
        )

    async def append(self, *names: str) -> None:
        """Append a batch with an event for each name, and sign the head."""
        await asyncio.gather(*(self.ledger.log.append(_commit(name)) for name in names))
        await self.signer.sign()

    async def heads(self) -> list[SignedHead]:
        return [head async for head in heads_from(self.ledger.pool, 1)]

    async def evidence(
        self, *, with_anchors: bool = False, kept: tuple[LogPosition, ...] = (), trusted: tuple[AuditKey, ...] = (KEY,)
    ) -> Evidence:
        anchors = [Anchors(source="the file", heads=read_anchors(self.file).heads)] if with_anchors else []
        return Evidence(
            keys=TrustedKeys([one.public for one in trusted]), heads=await self.heads(), anchors=anchors, kept=kept
        )

    async def verified(self, **evidence: object) -> Verification:
        return await verify(self.ledger.pool, await self.evidence(**evidence))  # type: ignore[arg-type]


def _commit(name: str) -> Commit:
    return Commit(
        stream=f"s-{name}", expected_version=0, project_id="prj_1", at=AT, events=(ProjectCreated(name=name),)
    )


@pytest.fixture
async def installation(ledger: RealLedger, tmp_path: Path) -> Installation:
    """Return an installation with three batches, 1 to 2, 3 to 4, 5 to 6, and a signed head after each."""
    opened = Installation(ledger, tmp_path / "anchors")
    for batch in range(3):
        await opened.append(f"{batch}-a", f"{batch}-b")
    return opened


async def test_each_head_is_signed_and_names_the_one_before_it(installation: Installation) -> None:
    found = await installation.verified(with_anchors=True)
    assert (found.first_bad, found.report.anchored, found.oldest_unsigned) == (None, 3, None)
    assert [(head.sequence, head.position) for head in await installation.heads()] == [(1, 2), (2, 4), (3, 6)]


async def test_a_head_that_has_not_moved_is_not_signed_again(installation: Installation) -> None:
    await installation.signer.sign()
    await installation.new_signer().sign()
    assert len(await installation.heads()) == 3


async def test_one_head_in_an_interval_is_enough_for_all_signers(installation: Installation) -> None:
    await installation.ledger.log.append(_commit("new"))
    await installation.signer.sign_if_due()
    assert len(await installation.heads()) == 3
    await installation.signer.sign()
    assert len(await installation.heads()) == 4


async def test_two_signers_give_each_sequence_once(installation: Installation, tmp_path: Path) -> None:
    other = Installation(installation.ledger, tmp_path / "other")
    for n in range(5):
        await installation.ledger.log.append(_commit(f"both-{n}"))
        await asyncio.gather(installation.signer.sign(), other.signer.sign())
    assert [head.sequence for head in await installation.heads()] == list(range(1, 9))
    assert (await installation.verified(with_anchors=True)).first_bad is None
    assert (await other.verified(with_anchors=True)).first_bad is None


async def test_a_cut_tail_is_found_by_the_signed_heads(installation: Installation) -> None:
    await installation.owner.run(
        "DELETE FROM events WHERE position > 4",
        "UPDATE log_head SET position = 4, digest = (SELECT chain FROM events WHERE position = 4)",
    )
    found = await installation.verified()
    assert found.first_bad == 5
    assert "its end was cut off" in (found.reason or "")


async def test_a_tail_that_is_cut_with_its_heads_is_found_by_the_anchors(installation: Installation) -> None:
    await installation.owner.cut_after(4)
    assert (await installation.verified()).first_bad is None  # nothing inside the database can show it
    found = await installation.verified(with_anchors=True)
    assert found.first_bad == 5
    assert "its end was cut off" in (found.reason or "")


async def test_a_signer_that_refuses_or_cannot_anchor_says_so_until_it_can_again(installation: Installation) -> None:
    signer = installation.signer
    assert (signer.state, signer.signed_position) == ("ok", 6)
    kept = installation.file.rename(installation.file.with_name("kept"))
    installation.file.mkdir()
    await installation.append("not anchored")
    assert (signer.state, signer.not_anchored, signer.signed_position) == ("not anchored", {"file"}, 7)
    installation.file.rmdir()
    kept.rename(installation.file)
    await signer.sign()
    assert signer.state == "ok"
    await installation.owner.cut_after(4)
    await signer.sign()
    assert (signer.state, "does not go on" in (signer.refused or "")) == ("refused", True)


async def test_a_tail_that_is_cut_and_appended_to_again_is_found(installation: Installation) -> None:
    await installation.owner.cut_after(4)
    await installation.ledger.log.append(_commit("instead-a"))
    await installation.ledger.log.append(_commit("instead-b"))
    found = await installation.verified(with_anchors=True)
    assert found.first_bad == 6
    assert "it was rewritten" in (found.reason or "")


async def test_a_chain_that_is_computed_anew_is_found_by_the_signed_heads(installation: Installation) -> None:
    await installation.owner.rewrite(3, '{"name":"forged"}')
    assert (await verify(installation.ledger.pool)).first_bad is None  # it agrees with itself
    found = await installation.verified()
    assert found.first_bad == 4
    assert "it was rewritten" in (found.reason or "")


async def test_a_chain_computed_anew_without_its_heads_is_found_by_anchors_and_kept_positions(
    installation: Installation,
) -> None:
    kept = parse_position(
        str(LogPosition((await installation.heads())[1].position, (await installation.heads())[1].digest))
    )
    await installation.owner.rewrite(3, '{"name":"forged"}')
    await installation.owner.run("DELETE FROM log_heads")
    assert (await installation.verified(with_anchors=True)).first_bad == 4
    by_kept = await installation.verified(kept=(kept,))
    assert (by_kept.first_bad, "it was rewritten" in (by_kept.reason or "")) == (4, True)


async def test_a_kept_position_that_the_log_still_has_is_no_fault(installation: Installation) -> None:
    written = installation.ledger.log.newest_position
    assert written is not None
    assert (await installation.verified(kept=(parse_position(written),))).first_bad is None


async def test_removed_heads_are_found_by_the_anchors(installation: Installation) -> None:
    await installation.owner.run("DELETE FROM log_heads WHERE sequence = 3")
    found = await installation.verified(with_anchors=True)
    assert found.first_bad == 6
    assert "the database does not have head 3" in (found.reason or "")


async def test_a_removed_head_between_others_is_found_without_anchors(installation: Installation) -> None:
    await installation.owner.run("DELETE FROM log_heads WHERE sequence = 2")
    assert "head 3 follows head 1: those between are missing" in ((await installation.verified()).reason or "")


async def test_without_any_signed_head_the_first_event_is_the_oldest_unsigned(installation: Installation) -> None:
    await installation.owner.run("DELETE FROM log_heads")
    assert (await installation.verified()).oldest_unsigned == AT


async def test_a_log_without_heads_is_unsigned_whatever_the_times_of_its_events_say(installation: Installation) -> None:
    now = datetime.now(UTC)
    later = Commit(
        stream="s-later",
        expected_version=0,
        project_id="prj_1",
        at=now + timedelta(days=3_650),
        events=(ProjectCreated(name="later"),),
    )
    await installation.ledger.log.append(later)
    await installation.owner.run("DELETE FROM log_heads")
    evidence = await installation.evidence()
    found = await installation.verified()
    assert (found.first_bad, found.oldest_unsigned, found.newest_unsigned) == (None, AT, later.at)
    assert report(evidence, found, load_settings({}), datetime.now(UTC))[0] is Verdict.UNSIGNED
    in_future = msgspec.structs.replace(found, oldest_unsigned=later.at)
    assert report(evidence, in_future, load_settings({}), datetime.now(UTC))[0] is Verdict.UNSIGNED


async def test_a_head_that_was_signed_with_another_key_is_found(installation: Installation) -> None:
    (last,) = [head for head in await installation.heads() if head.sequence == 3]
    forged = OTHER_KEY.sign(LogPosition(last.position, last.digest), sequence=3, previous=last.previous, at=last.at)
    await installation.owner.run("DELETE FROM log_heads WHERE sequence = 3")
    assert await add_head(installation.ledger.pool, forged)
    assert f"signed with an unknown key, {OTHER_KEY.key_id}" in ((await installation.verified()).reason or "")


@pytest.mark.parametrize(
    "change",
    ["digest = sha256('')", "position = 4", "at = at + interval '1 day'", "signature = sha256('')", "reason = 'x'"],
)
async def test_a_changed_head_is_found(installation: Installation, change: str) -> None:
    await installation.owner.run(f"UPDATE log_heads SET {change} WHERE sequence = 3")
    assert "head 3 has a signature that is not key" in ((await installation.verified()).reason or "")


async def test_signed_heads_cannot_be_rewritten_by_mistake(installation: Installation) -> None:
    with pytest.raises(Exception, match="never rewritten"):
        await installation.ledger.owner.execute("DELETE FROM log_heads")


async def test_former_keys_still_verify_what_they_signed(installation: Installation) -> None:
    installation.signer = installation.new_signer(key=OTHER_KEY, trusted=(KEY, OTHER_KEY))
    await installation.append("after the rotation")
    assert (await installation.heads())[-1].key_id == OTHER_KEY.key_id
    assert (await installation.verified(with_anchors=True, trusted=(KEY, OTHER_KEY))).first_bad is None
    assert (await installation.verified(trusted=(OTHER_KEY,))).first_bad == 2


@pytest.mark.parametrize("position", [7, 1_000, -5])
async def test_an_event_that_was_never_appended_is_found(installation: Installation, position: int) -> None:
    await installation.owner.add_beyond_head(
        position, "ProjectCreated", '{"name":"planted"}', project_id="prj_1", stream="planted"
    )
    found = await installation.verified()
    assert found.first_bad == position
    assert ("beyond the head" if position > 0 else "before the first position") in (found.reason or "")


async def test_the_head_moved_on_is_found(installation: Installation) -> None:
    await installation.owner.run("UPDATE log_head SET position = 9")
    assert (await installation.verified()).reason == "events are missing at the end"


async def test_a_missing_head_row_is_found(installation: Installation) -> None:
    await installation.owner.run("DELETE FROM log_head")
    assert (await installation.verified()).reason == "the head of the log is missing"


async def test_an_event_beyond_the_head_is_not_in_the_log(installation: Installation) -> None:
    ledger = installation.ledger
    await ledger.fold()
    await installation.owner.add_beyond_head(
        9, "ProjectSettingsChanged", '{"name":"planted"}', project_id="prj_1", stream="s-0-a-planted"
    )
    await ledger.fold()
    assert await ledger.pool.fetchval("SELECT max(position) FROM projection_checkpoints") == 6
    assert await ledger.log.read_stream("s-0-a-planted") == []
    assert [stored.position for stored in await ledger.log.read_after(0)] == [1, 2, 3, 4, 5, 6]


async def test_an_append_onto_a_planted_event_says_what_is_wrong(installation: Installation) -> None:
    await installation.owner.add_beyond_head(
        7, "ProjectCreated", '{"name":"planted"}', project_id="prj_1", stream="planted"
    )
    with pytest.raises(Exception, match="beyond its head"):
        await installation.ledger.log.append(_commit("after"))


async def test_a_signer_does_not_sign_a_log_that_was_cut(installation: Installation) -> None:
    await installation.owner.cut_after(4)
    await installation.ledger.log.append(_commit("instead"))
    await installation.signer.sign()
    await installation.new_signer().sign()
    assert len(await installation.heads()) == 2


async def test_a_signer_does_not_sign_a_log_that_was_rewritten(installation: Installation) -> None:
    await installation.owner.rewrite(3, '{"name":"forged"}')
    await installation.append("after")
    assert len(await installation.heads()) == 3


async def test_a_signer_does_not_go_on_from_a_head_of_another_key(installation: Installation) -> None:
    installation.file.unlink()
    installation.signer = installation.new_signer(key=OTHER_KEY, trusted=(OTHER_KEY,))
    await installation.append("after")
    assert len(await installation.heads()) == 3


async def test_a_restore_is_declared_and_the_log_goes_on(installation: Installation) -> None:
    await installation.owner.cut_after(4)
    evidence = await installation.evidence(with_anchors=True)
    head = await declare_restore(installation.ledger.pool, KEY, evidence, "the disk failed", datetime.now(UTC))
    assert (head.sequence, head.position, head.resumes_after) == (4, 4, 2)
    await installation.append("after")
    found = await installation.verified(with_anchors=True)
    assert (found.first_bad, found.report.given_up) == (None, 1)
    assert [head.reason for head in found.report.restores] == ["the disk failed"]
    installation.signer = installation.new_signer()
    await installation.append("after a start")
    assert [head.sequence for head in await installation.heads()] == [1, 2, 4, 5, 6]


async def test_a_position_that_a_restore_gave_up_is_not_confirmed(installation: Installation) -> None:
    given_up = parse_position(installation.ledger.log.newest_position or "")
    await installation.owner.cut_after(4)
    evidence = await installation.evidence(with_anchors=True)
    await declare_restore(installation.ledger.pool, KEY, evidence, "the disk failed", datetime.now(UTC))
    assert (await installation.verified(with_anchors=True, kept=(given_up,))).first_bad == 5


async def test_without_a_restore_there_is_none_to_declare(installation: Installation) -> None:
    evidence = await installation.evidence(with_anchors=True)
    with pytest.raises(InvalidRequest, match="no restore to declare"):
        await declare_restore(installation.ledger.pool, KEY, evidence, "to hide something", datetime.now(UTC))


async def test_nobody_declares_a_restore_without_the_key(installation: Installation) -> None:
    await installation.owner.cut_after(4)
    evidence = await installation.evidence(with_anchors=True)
    await declare_restore(installation.ledger.pool, OTHER_KEY, evidence, "nothing happened", datetime.now(UTC))
    assert (await installation.verified(with_anchors=True)).first_bad is not None


async def test_a_line_that_was_cut_while_it_was_written_costs_only_itself(installation: Installation) -> None:
    whole = installation.file.read_bytes()
    installation.file.write_bytes(whole[:-20])
    await installation.append("after the crash")
    read = read_anchors(installation.file)
    assert ([head.sequence for head in read.heads], read.unreadable) == ([1, 2, 4], 1)
    assert (await installation.verified(with_anchors=True)).first_bad is None


async def test_the_anchor_file_is_its_owners_alone(installation: Installation) -> None:
    assert installation.file.stat().st_mode & 0o777 == 0o600


async def test_a_file_that_cannot_be_written_does_not_stop_the_signing(ledger: RealLedger, tmp_path: Path) -> None:
    opened = Installation(ledger, tmp_path / "absent" / "anchors")
    await opened.append("a")
    assert len(await opened.heads()) == 1
    (tmp_path / "absent").mkdir()
    await opened.signer.sign()
    assert [head.sequence for head in read_anchors(opened.file).heads] == [1]


async def test_a_head_is_the_same_after_its_way_through_a_line_and_the_database(installation: Installation) -> None:
    for head in await installation.heads():
        assert decode_head(encode_head(head)) == head
    moved = KEY.sign(
        LogPosition(1, b"d" * 32),
        sequence=9,
        previous=b"p" * 32,
        at=datetime.now(UTC) - timedelta(days=1),
        resumes_after=0,
        reason="a reason",
    )
    assert await add_head(installation.ledger.pool, moved)
    assert [head async for head in heads_from(installation.ledger.pool, 9)] == [moved]
