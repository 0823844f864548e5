"""`fallbacks`, as a list of names, is the gateway's own and is not passed on; a vendor's own form of it is."""

import pytest

from api.vendors.reading import without_fallbacks
from domain.decoding import MAX_JSON_VALUES
from domain.errors import BodyTooLarge, InvalidRequest


@pytest.mark.parametrize(
    ("body", "left", "names"),
    [
        (b'{"model":"a","fallbacks":["b","c"],"n":1}', b'{"model":"a","n":1}', ["b", "c"]),
        (b'{"fallbacks":["b"]}', b"{}", ["b"]),
        (b'{"model":"a"}', b'{"model":"a"}', None),
        (b'{"fallbacks":[]}', b'{"fallbacks":[]}', None),
        (b'{"fallbacks":"default"}', b'{"fallbacks":"default"}', None),
        (b'{"fallbacks":[{"model":"b"}]}', b'{"fallbacks":[{"model":"b"}]}', None),
        (b'{"input":"\\"fallbacks\\" [\\"b\\"]"}', b'{"input":"\\"fallbacks\\" [\\"b\\"]"}', None),
        (b'{"fallbacks":', b'{"fallbacks":', None),
    ],
)
def test_names_are_taken_out_and_everything_else_stays(body: bytes, left: bytes, names: list[str] | None) -> None:
    assert without_fallbacks(body) == (left, names)


@pytest.mark.parametrize("names", ['["a","b","c","d","e"]', '["a\\u0000"]', '[""]'])
def test_too_many_names_and_what_is_no_name_are_refused(names: str) -> None:
    with pytest.raises(InvalidRequest, match="fallbacks"):
        without_fallbacks(b'{"fallbacks":%s}' % names.encode())


def test_a_list_of_too_many_values_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(BodyTooLarge):
        without_fallbacks(b'{"fallbacks":[%s]}' % b",".join([b'"gpt-4o"'] * (MAX_JSON_VALUES + 1)))
