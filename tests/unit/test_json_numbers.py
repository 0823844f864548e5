"""Numbers of our own answers are written in full digits, and texts stay as they are."""

import time
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest

from api.native.audit import EventPageOut, event_out
from api.native.envelope import RawResponse, Success
from api.native.job_shapes import job_out
from domain.json_numbers import encode, encode_with_raw, in_full, json_number
from infra.raw_events import RawEvent
from projections.jobs import JobRow

TEXT = 'a cost of 2.2E-7, "quoted" \\ 3e-5, state-of-the-art'


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (Decimal("2.2E-7"), b"0.00000022"),
        (Decimal("1E+3"), b"1000"),
        (Decimal("0.0125"), b"0.0125"),
        (Decimal(0), b"0"),
        (-1e-5, b"-0.00001"),
        (1.5e-7, b"0.00000015"),
        (Decimal("1E-30"), b"0." + b"0" * 29 + b"1"),
        (7, b"7"),
        (None, b"null"),
    ],
)
def test_no_number_has_an_exponent(value: Decimal | float | None, written: bytes) -> None:
    assert encode([value, {"cost": value}]) == b"[" + written + b',{"cost":' + written + b"}]"


def test_a_text_that_looks_like_a_number_stays_as_it_is() -> None:
    told = {TEXT: TEXT, "cost": Decimal("1E-9"), "last": TEXT}
    assert msgspec.json.decode(encode(told)) == told | {"cost": 1e-9}
    assert encode(told).count(b"E-") == 3  # those of the texts


def test_a_number_is_written_in_full_as_a_part_of_what_another_encoder_writes() -> None:
    told = {"cost": json_number(Decimal("2.2E-7")), "unknown": json_number(None)}
    assert msgspec.json.encode(told) == b'{"cost":0.00000022,"unknown":null}'
    assert in_full(Decimal("1200.00")) == "1200"


@pytest.mark.parametrize("beyond", [b"1E-31", b"1E+31", b"1E-999999", b"-1.25E+99999999"])
def test_a_number_of_nobody_keeps_its_exponent(beyond: bytes) -> None:
    assert encode([Decimal(beyond.decode())]) == b"[" + beyond + b"]"


def test_many_digits_take_no_longer_than_they_are_long() -> None:
    digits = int("7" * 4_000)
    started_s = time.process_time()
    encode([1e-7, *[digits] * 100])
    assert time.process_time() - started_s < 1


AT = datetime(2026, 1, 1, tzinfo=UTC)
ODD = b'{"small": 1.50e-7,\n "zeros":1e-999999,"overflows":1e+99999999}'


def test_a_result_of_a_job_keeps_its_bytes_and_the_cost_is_in_full_digits() -> None:
    row = JobRow(
        job_id="job_1",
        project_id="prj_1",
        key_id="key_1",
        batch_id=None,
        custom_id=None,
        operation="chat",
        model="m",
        status="succeeded",
        accepted_at=AT,
        deadline=AT,
        started_at=AT,
        ended_at=AT,
        runs=1,
        request_id="req_1",
        result_blob_id="blob_1",
        result_expires_at=AT,
        error_code=None,
        error_message=None,
        error_status=None,
        webhook_url=None,
        told=None,
        told_status=None,
        cost_nano_usd=220,
    )
    shown = Success(data=job_out(row, msgspec.Raw(ODD)))
    assert b'"cost":0.00000022,"result":' + ODD + b"," in RawResponse(shown).render(shown)
    assert encode_with_raw(job_out(row, msgspec.Raw(ODD))) in RawResponse(shown).render(shown)


def test_an_event_is_shown_byte_for_byte() -> None:
    event = RawEvent(
        position=1,
        stream="request-1",
        version=1,
        type="RequestCompleted",
        project_id="prj_1",
        at=AT,
        data=ODD,
        digest=b"",
        chain=None,
    )
    page = Success(data=EventPageOut(events=[event_out(event)], next=1))
    assert b'"data":' + ODD + b"," in RawResponse(page).render(page)
