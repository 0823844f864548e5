"""The fields that most requests have none of: if none is there, none is read."""

from typing import Any

import pytest

from domain.dialects.codec import Codec
from domain.dialects.passthrough.hosted import hosted_tools_of
from domain.dialects.passthrough.seldom import NOTHING_SELDOM, SELDOM_FIELDS, Seldom
from domain.dialects.registry import CODECS
from domain.hosted_tools import NO_TOOLS


class RecordingFields(dict[str, Any]):
    """Fields of which there are none, and the names that they were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __contains__(self, name: object) -> bool:
        self.names.add(str(name))
        return False

    def get(self, name: str, default: Any = None) -> Any:
        """None."""
        self.names.add(name)
        return default


def test_a_request_without_them_says_nothing_by_them() -> None:
    assert Seldom.of({}) == NOTHING_SELDOM


def test_the_set_of_rare_fields_has_every_field_that_is_read() -> None:
    fields = RecordingFields()
    Seldom.of(fields)
    assert {"modalities", "metadata", "truncation", "service_tier"} <= fields.names
    assert fields.names <= SELDOM_FIELDS


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: f"{codec.dialect}-{codec.operation}")
def test_whatever_names_stored_context_or_turns_on_a_tool_is_looked_for(codec: Codec) -> None:
    fields = RecordingFields()
    assert hosted_tools_of(fields, [], codec) is NO_TOOLS
    assert fields.names.union(codec.context_fields) <= SELDOM_FIELDS
