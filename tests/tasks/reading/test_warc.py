"""Web archives: documents out of responses, everything else counted, and damage costs one record only."""

import gzip
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.reading.faults import Fault
from tasks.reading.warc import Archived, read_warc

PAGE = "<html><body><p>渡船在天亮前离开了港口，船上有十一位乘客。</p></body></html>"


def record(number: int, block: bytes, kind: str = "response", length: int | None = None, media: str = "") -> bytes:
    media = media or ("application/http; msgtype=response" if kind == "response" else "text/html")
    lines = ["WARC/1.0", f"WARC-Type: {kind}", f"WARC-Target-URI: http://x/{number}", f"Content-Type: {media}"]
    lines += [f"Content-Length: {len(block) if length is None else length}", "", ""]
    return "\r\n".join(lines).encode() + block + b"\r\n\r\n"


def http(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode() + body


def page(number: int, text: str = "", *headers: str) -> bytes:
    return record(number, http((text or f"<p>page {number}</p>").encode(), "Content-Type: text/html; charset=utf-8", *headers))


def read(*chunks: bytes | Fault, limit: int = 1 << 20) -> tuple[list[Archived], list[str]]:
    found = list(read_warc(iter(chunks), limit))
    documents = [one for one in found if isinstance(one, Archived)]
    return documents, [one.reason for one in found if isinstance(one, Fault)]


def numbers(documents: Iterable[Archived]) -> list[str]:
    return [document.url.removeprefix("http://x/") for document in documents]


@given(st.integers(1, 400))
def test_records_are_read_however_the_bytes_are_cut(size: int):
    info = record(0, b"software: x\r\n", "warcinfo", media="application/warc-fields")
    raw = info + page(1) + record(2, b"<p>resource</p>", "resource") + record(3, b"GET / HTTP/1.1\r\n\r\n", "request")
    documents, faults = read(*(raw[start : start + size] for start in range(0, len(raw), size)))
    assert [(one.number, one.url, one.page.decoded.text) for one in documents] == [
        (2, "http://x/1", "<p>page 1</p>"),
        (3, "http://x/2", "<p>resource</p>"),
    ]
    assert faults == []


@pytest.mark.parametrize("length", [0, 5, 70, 5_000, 1 << 30])
def test_a_wrong_length_costs_its_own_record_only(length: int):
    bad = record(2, http(b"<p>bad</p>", "Content-Type: text/html"), length=length)
    documents, faults = read(page(1) + bad + page(3) + page(4))
    assert numbers(documents) == ["1", "3", "4"]
    assert faults in (["damaged_record"], ["too_large"])


def test_noise_between_records_and_a_broken_header_are_counted():
    broken = b"WARC/1.0\r\nContent-Length: many\r\n\r\nbody\r\n\r\n"
    documents, faults = read(page(1) + b"noise\r\n" + page(2) + broken + page(3))
    assert numbers(documents) == ["1", "2", "3"]
    assert faults == ["damaged_record", "damaged_record"]


def test_a_stream_that_breaks_inside_a_record_is_one_fault_and_what_follows_is_read():
    documents, faults = read(page(1) + page(2)[:-30], Fault("damaged_stream", 9, ""), page(3))
    assert numbers(documents) == ["1", "3"]
    assert faults == ["damaged_stream"]
    assert read(page(1) + page(2)[:-30])[1] == ["truncated_record"]


def test_only_pages_and_plain_text_of_answers_that_succeeded_become_documents():
    others = [
        record(1, http(b"\x89PNG", "Content-Type: image/png")),
        record(2, http(b"<p>", "Content-Type: text/html", status="404 Not Found")),
        record(3, http(b"plain", "Content-Type: text/plain; charset=latin-1")),
        record(4, http(b"<!DOCTYPE html><p>x</p>")),
        record(5, b"no HTTP"),
        record(6, http(b"\x0b\xc2\x80not brotli\x03", "Content-Type: text/html", "Content-Encoding: br")),
    ]
    documents, faults = read(b"".join(others))
    assert [(one.url[-1], one.page.is_html) for one in documents] == [("3", False), ("4", True)]
    assert faults == ["not_text_type", "http_status", "damaged_record", "unknown_encoding"]


def test_chunks_and_packing_are_undone_and_headers_that_lie_about_them_ignored():
    body = PAGE.encode()
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:30], body[30:])) + b"0\r\n\r\n"
    packed = gzip.compress(body)
    headers = ["Content-Type: text/html", "Transfer-Encoding: chunked"]
    raw = [
        record(1, http(chunked, *headers)),
        record(2, http(body, *headers, "Content-Encoding: gzip")),
        record(3, http(b"%x\r\n%s\r\n0\r\n\r\n" % (len(packed), packed), *headers, "Content-Encoding: gzip")),
    ]
    documents, faults = read(b"".join(raw))
    assert [one.page.decoded.text for one in documents] == [PAGE] * 3
    assert faults == []
    bomb = http(gzip.compress(bytes(1 << 24)), "Content-Type: text/html", "Content-Encoding: gzip")
    assert read(record(1, bomb) + page(2))[1] == ["too_large"]


def test_a_page_is_read_by_its_header_then_its_markup_then_by_looks():
    raw = [
        record(1, http(PAGE.encode("gb18030"), "Content-Type: text/html; charset=GBK")),
        record(2, http(f'<meta charset="gb2312">{PAGE}'.encode("gb18030"), "Content-Type: text/html; charset=utf-8")),
        record(3, http(PAGE.encode("gb18030"), "Content-Type: text/html")),
    ]
    documents, _ = read(b"".join(raw))
    assert all(PAGE in one.page.decoded.text and one.page.decoded.charset == "gb18030" for one in documents)
    assert [one.page.decoded.repairs for one in documents] == [(), ("wrong_charset",), ()]


@given(st.binary(max_size=300))
def test_any_bytes_are_read_to_the_end(raw: bytes):
    documents, _ = read(raw + b"\r\n\r\n" + page(1))
    assert numbers(documents)[-1:] == ["1"]
