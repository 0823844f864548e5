"""A PDF counts by its pages and what is written on them; one that could say more than it seems to fills the window."""

import base64
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.canonical.chat import ChatRequest, File, FilePart, UserMessage
from domain.dialects.request_body import CanonicalRequest
from domain.image_size import TOKENS_PER_IMAGE
from domain.pdf_size import TOKENS_PER_PAGE, UNKNOWN, Pdf, pdf_of, pdf_tokens
from tests.unit.test_passthrough_request import chat, message

PAGE = b"BT /F1 12 Tf 50 700 Td (The quick brown fox) Tj ET"
MODEL = "claude-sonnet-4-5"


def stream(number: int, data: bytes, dictionary: bytes = b"", *, packed: bool = True) -> bytes:
    data = zlib.compress(data) if packed else data
    named = b"/Filter /FlateDecode " if packed else b""
    head = b"%d 0 obj\n<< %b%b/Length %d >>\nstream\n" % (number, named, dictionary, len(data))
    return head + data + b"\nendstream\nendobj\n"


def page(contents: bytes = b"9 0 R") -> bytes:
    return b"3 0 obj\n<< /Type /Page /Contents " + contents + b" >>\nendobj\n"


def pdf(*objects: bytes) -> str:
    return base64.b64encode(b"%PDF-1.7\n" + b"".join(objects) + b"%%EOF\n").decode()


@pytest.mark.parametrize("packed", [True, False])
def test_pages_and_the_bytes_on_them_are_counted(packed: bool) -> None:
    found = pdf_of(pdf(page(), page(b"[9 0 R 10 0 R]"), stream(9, PAGE, packed=packed), stream(10, b"more")))
    assert found.pages == 2
    assert 0 <= found.text_bytes - (2 * len(PAGE) + 4) <= 2  # a stream that is not packed ends with a line


def test_pages_may_be_packed_themselves() -> None:
    objects = stream(4, b"1 0 2 30 << /Type/Page /Contents 9 0 R >> << /Type/Pages /Count 1 >>", b"/Type /ObjStm ")
    assert pdf_of(pdf(objects, stream(9, PAGE))) == Pdf(pages=1, text_bytes=len(PAGE))


def test_the_larger_count_of_pages_is_the_files() -> None:
    assert pdf_of(pdf(b"2 0 obj\n<</Type /Pages /Count 7>>\nendobj\n", page(), stream(9, PAGE))).pages == 7


def test_pictures_and_fonts_are_no_text() -> None:
    picture = stream(5, bytes(900_000), b"/Type /XObject /Subtype /Image ")
    font = stream(6, bytes(60_000), b"/Length1 60000 ")
    photo = stream(7, b"\xff\xd8", b"/Subtype /Image /Filter /DCTDecode ", packed=False)
    assert pdf_of(pdf(page(), stream(9, PAGE), picture, font, photo)).text_bytes == len(PAGE)


def test_a_form_counts_as_often_as_anything_is_drawn() -> None:
    form = stream(5, b"(written on each page)Tj", b"/Subtype /Form ")
    found = pdf_of(pdf(page(), stream(9, b"/A Do /B Do /A Do"), form))
    assert found.text_bytes == 17 + 3 * 24


@pytest.mark.parametrize(
    "objects",
    [
        [stream(9, PAGE)],
        [page(), stream(9, PAGE), b"trailer << /Encrypt 4 0 R >>"],
        [page(), stream(9, bytes(2_000_000))],
        [page(), stream(9, PAGE, b"/Subtype /Image ")],
        [page(), stream(9, PAGE, b"/Length1 4 ")],
        [page(b"12 0 R"), stream(9, PAGE), b"12 0 obj\n[9 0 R 9 0 R 9 0 R]\nendobj\n"],
        [page(), stream(9, PAGE), stream(5, b"/F5 Do", b"/Subtype /Form ")],
        [page(), stream(9, PAGE), stream(5, b"begincmap <41> <" + b"0041" * 90 + b"> endbfchar")],
        [page(), stream(9, PAGE).replace(b"FlateDecode", b"LZWDecode")],
        [page(), stream(9, PAGE)[:-30] + b"endstream endobj"],
        [page(), stream(9, b"endstream" + PAGE, packed=False)],
        [page(), page().replace(b"/Contents", b"/Cont#65nts"), stream(9, PAGE)],
        [page(), stream(9, PAGE), b"2 0 obj\n<</Type /Pages /Count 99999>>\nendobj\n"],
        [page(), stream(9, PAGE), b"<</Type /Pages /Kids [3 0 R 3 0 R] /Count 1>>"],
        [page(), stream(9, PAGE), b"<</Type /Pages /Kids [3 0 R %]\n3 0 R] /Count 1>>"],
        [page(), stream(9, PAGE), b"<</Type /Pages /Kids 7 0 R>> 7 0 obj [3 0 R 3 0 R]"],
        [page(), stream(9, b"/Span /P BDC"), b"<</Properties <</P <</ActualText (a long text)>>>>>>"],
    ],
)
def test_a_file_that_may_say_more_than_it_seems_to_is_of_unknown_length(objects: list[bytes]) -> None:
    assert pdf_of(pdf(*objects)) == UNKNOWN


@pytest.mark.parametrize("content", ["", "data:,", "https://x/a.pdf", "!", "iVBORw0KGgo=", "JVBERi0="])
def test_what_is_no_pdf_is_of_unknown_length(content: str) -> None:
    assert pdf_of(content) == UNKNOWN


@given(st.binary(max_size=300), st.integers(0, 400))
def test_no_bytes_are_too_strange_to_be_looked_at(data: bytes, cut: int) -> None:
    written = base64.b64decode(pdf(page(), stream(9, PAGE), data))
    assert pdf_of(base64.b64encode(written[:cut]).decode()).pages >= 0
    assert pdf_of(base64.b64encode(b"%PDF-" + data).decode()).pages >= 0


@given(st.lists(st.text("abc (\\é", max_size=200), min_size=1, max_size=5), st.booleans())
def test_the_text_of_a_file_has_no_more_bytes_than_are_counted(texts: list[str], packed: bool) -> None:
    streams = [stream(9 + n, b"(" + text.encode() + b") Tj", packed=packed) for n, text in enumerate(texts)]
    found = pdf_of(pdf(*(page(b"%d 0 R" % (9 + n)) for n in range(len(texts))), *streams))
    assert found.pages == len(texts)
    assert found.text_bytes >= sum(len(text.encode()) for text in texts)


def test_a_file_is_no_longer_than_the_model_reads() -> None:
    assert pdf_tokens(Pdf(pages=2, text_bytes=500), 1_600, 200_000) == 2 * (1_600 + TOKENS_PER_PAGE) + 500
    assert pdf_tokens(Pdf(pages=900, text_bytes=500), 1_600, 200_000) == 200_000
    assert pdf_tokens(UNKNOWN, 1_600, 200_000) == 200_000


ONE_PAGE = pdf(page(), stream(9, PAGE))


@pytest.mark.parametrize(
    "part",
    [
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": ONE_PAGE}},
        {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "document", "source": {"data": ONE_PAGE}}]},
    ],
)
def test_a_page_in_a_message_counts_as_a_page(part: dict[str, Any]) -> None:
    found = message(part).token_bound(MODEL, None, is_builtin=True)
    assert 4_600 < found.media_tokens < found.input_tokens < 5_000
    assert found.item_tokens is not None
    assert found.item_tokens[0] > found.media_tokens
    assert message(part).token_bound(MODEL, None, is_builtin=False).input_tokens > 200_000


def test_a_page_counts_for_the_other_vendor_too() -> None:
    file = {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{ONE_PAGE}"}
    found = chat({"type": "file", "file": file}).token_bound("gpt-4o", None, is_builtin=True)
    assert 4_000 < found.media_tokens < 5_000
    address = chat({"type": "file", "file": {"file_url": "https://x/a.pdf"}})
    assert address.token_bound("gpt-4o", 128_000, is_builtin=True).media_tokens >= 128_000


def test_files_of_a_translated_request_count_by_their_pages() -> None:
    file = FilePart(file=File(url=f"data:application/pdf;base64,{ONE_PAGE}"))
    body = CanonicalRequest(ChatRequest(messages=[UserMessage(content=[file, file])]))
    few = body.token_bound(MODEL, None, is_builtin=True, image_tokens=lambda _: 1_600)
    assert 2 * 4_600 < few.media_tokens < few.input_tokens < 2 * 4_800
    unknown = body.token_bound(MODEL, None, is_builtin=True, image_tokens=lambda _: TOKENS_PER_IMAGE)
    assert 200_000 <= unknown.media_tokens <= unknown.input_tokens < 1_100_000
