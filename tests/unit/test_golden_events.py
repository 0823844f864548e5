"""Stored events can always be read: a frozen sample of every event, with every field set."""

from pathlib import Path

import msgspec
import pytest

from domain.events import EVENT_TYPES

SAMPLES = Path(__file__).parent.parent / "golden" / "events"
_encode = msgspec.json.Encoder(decimal_format="string").encode


def test_every_event_has_a_sample() -> None:
    assert {path.stem for path in SAMPLES.glob("*.json")} == set(EVENT_TYPES)


@pytest.mark.parametrize("name", sorted(EVENT_TYPES))
def test_a_sample_reads_and_writes_as_it_did(name: str) -> None:
    written = msgspec.json.decode((SAMPLES / f"{name}.json").read_bytes())
    event = msgspec.convert(written, EVENT_TYPES[name], strict=True)
    assert msgspec.json.decode(_encode(event)) == written
    assert _encode(msgspec.json.decode(_encode(event), type=EVENT_TYPES[name])) == _encode(event)


@pytest.mark.parametrize("name", sorted(EVENT_TYPES))
def test_old_event_gets_defaults_of_new_fields(name: str) -> None:
    written = msgspec.json.decode((SAMPLES / f"{name}.json").read_bytes())
    required = {field.encode_name for field in msgspec.structs.fields(EVENT_TYPES[name]) if field.required}
    oldest = {field: value for field, value in written.items() if field in required}
    assert isinstance(msgspec.convert(oldest, EVENT_TYPES[name]), EVENT_TYPES[name])
    assert required <= set(written)
