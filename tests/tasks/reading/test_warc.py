"""Web archives: documents out of responses, everything else counted, and damage costs one record only."""

import gzip
import os
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import brotli
import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.reading.documents import Refused
from tasks.reading.faults import Fault
from tasks.reading.read import list_files, read_file
from tasks.reading.sources import WarcSource
from tasks.reading.warc import Archived, PassedOver, read_warc

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


def text(number: int, body: bytes, *headers: str) -> bytes:
    return record(number, http(body, "Content-Type: text/plain; charset=utf-8", *headers))


def texts(*chunks: bytes) -> list[str]:
    return [one.page.decoded.text for one in read(*chunks)[0]]


PROSE = "The miller went down to the river.\r\n\r\nNobody saw him there, and the barge was gone.\r\n"


def test_conversions_are_documents_with_the_language_that_the_record_names():
    wet = record(1, "渡船在天亮前离开".encode(), "conversion", media="text/plain").replace(
        b"Content-Type", b"WARC-Identified-Content-Language: zho,eng\r\nContent-Type"
    )
    documents, faults = read(wet + page(2))
    assert [(one.url, one.language, one.page.is_html) for one in documents] == [("http://x/1", "zho,eng", False), ("http://x/2", "", True)]
    assert faults == []


def test_records_whose_content_lies_elsewhere_are_refused_by_name_and_those_without_documents_passed_over():
    cut = page(3).replace(b"WARC-Type", b"WARC-Segment-Number: 1\r\nWARC-Type")
    odd = [record(1, b"", "revisit"), record(2, b"more", "continuation"), cut, record(4, b"x", "screenshot"), record(5, b"", "request")]
    found = list(read_warc(iter([b"".join(odd)]), 1 << 20))
    assert [one.reason if isinstance(one, Fault) else one for one in found[:-1]] == ["revisit", "segment", "segment", "unknown_record"]
    assert isinstance(found[-1], PassedOver)
    assert found[-1].kind == "request"


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\nContent-Type: text/plain\nServer: old\n\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\nServer: mixed\n\r\n",
        b"HTTP/1.1 200 OK\r\r\nContent-Type: text/plain\r\r\n\r\r\n",
        b"HTTP/1.1 200\r\nContent-Type:\r\n text/plain;\r\n\tcharset=utf-8\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n",  # no end: the body begins where no field is
        b"HTTP/1.1 200 OK\r\nno field at all\r\nContent-Type: text/plain\r\n\r\n",
        b"Content-Type: text/plain\r\nServer: without status\r\n\r\n",
        b":status: 200\r\ncontent-type: text/plain\r\n\r\n",
        b"HTTP/2 200\r\ncontent-type: text/plain\r\n\r\n",
        b"\r\nHTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n",
        b"HTTP/1.0 200 Connection established\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-\xe9: \xe9\0\r\nContent-Type: text/plain\r\n\r\n",
    ],
)
def test_a_body_is_whole_however_the_lines_of_its_header_end(head: bytes):
    assert texts(record(1, head + PROSE.encode())) == [PROSE]


def test_a_body_that_is_not_made_of_chunks_stands_as_it_is():
    chunked = "Transfer-Encoding: chunked"
    kept = [
        f"1984\n{PROSE * 100}",
        f"1984\r\n{PROSE * 100}",
        f"5\r\n{PROSE}",
        f"3\r\nabc\r\n{PROSE}",
        "5\r\nhello\r\n0\r\n\r\nmore",
        "0\r\n\r\n",
        "2\r\n10\r\n",
    ]
    assert texts(b"".join(text(n, body.encode(), chunked) for n, body in enumerate(kept))) == kept


def test_chunks_that_break_off_are_put_together_and_noted():
    body = PROSE.encode()
    cut = b"%x;name=value\r\n%s\r\n%x\r\n%s" % (len(body), body, 500, body)
    documents, _ = read(text(1, cut, "Transfer-Encoding: chunked") + text(2, cut[: len(body) + 20], "Transfer-Encoding: chunked"))
    assert [(one.page.decoded.text, one.notes) for one in documents] == [(PROSE * 2, ("truncated",)), (PROSE, ("truncated",))]
    trailed = b"%X\r\n%s\r\n0\r\nExpires: never\r\n\r\n" % (len(body), body)
    assert texts(text(1, trailed, "Transfer-Encoding: Chunked")) == [PROSE]


def raw_deflate(data: bytes) -> bytes:
    return zlib.compress(data)[2:-4]


@pytest.mark.parametrize(
    ("token", "pack"),
    [
        ("br", brotli.compress),
        ("zstd", zstd.compress),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("GZIP", gzip.compress),
        ("x-gzip", gzip.compress),
        ("gzip, gzip", lambda data: gzip.compress(gzip.compress(data))),
        ("gzip, br", lambda data: brotli.compress(gzip.compress(data))),
        ("utf-8", gzip.compress),
    ],
)
def test_a_packed_body_is_unpacked_and_one_that_is_not_packed_stands_as_it_is(token: str, pack: Callable[[bytes], bytes]):
    raw = PROSE.encode()
    both = text(1, pack(raw), f"Content-Encoding: {token}") + text(2, raw, f"Content-Encoding: {token}")
    assert texts(both) == [PROSE, PROSE]


@pytest.mark.parametrize("token", ["none", "utf-8", "identity", "8bit", "*", "sdch", "compress", "gzip", "deflate", "br"])
@pytest.mark.parametrize("start", ["S", "c", ";", "x^2 ", "<p>", "渡船"])
def test_a_token_never_changes_a_body_that_is_text(token: str, start: str):
    assert texts(text(1, (start + PROSE).encode(), f"Content-Encoding: {token}")) == [start + PROSE]


def test_what_came_out_of_a_body_that_breaks_off_is_kept_and_noted():
    long = "".join(f"The miller sold {number} sacks of grain.\n" for number in range(2_000))
    for token, pack in (("gzip", gzip.compress), ("br", brotli.compress), ("deflate", raw_deflate)):
        packed = pack(long.encode())
        (found,), _ = read(text(1, packed[: len(packed) * 3 // 4], f"Content-Encoding: {token}"))
        assert long.startswith(found.page.decoded.text[:100])
        assert found.notes == ("truncated",)
    (found,), _ = read(text(1, gzip.compress(long.encode()) + b"junk", "Content-Encoding: gzip"))
    assert (found.page.decoded.text, found.notes) == (long, ("trailing_junk",))
    folder = gzip.compress(b"PK\x03\x04" + bytes(100))
    assert read(text(1, folder) + text(2, zstd.compress(long.encode())[:50]))[1] == ["damaged_record"] * 2
    assert read(text(1, os.urandom(4) + bytes(range(256)), "Content-Encoding: dcb"))[1] == ["unknown_encoding"]
    assert read(text(1, brotli.compress(bytes(1 << 22)), "Content-Encoding: br"))[1] == ["too_large"]


@pytest.mark.parametrize(
    ("kind", "is_html"),
    [
        ("text/html, text/html", True),
        ("TEXT/HTML;charset", True),
        ("text/html; charset='utf-8'", True),
        ('image/png, text/html; charset="utf-8"', True),
        ("text/html charset=utf-8", True),  # no type: the body tells
        ("application/xhtml+xml", True),
        ("*/*", True),
        ("text/plain; charset=utf-8, text/plain", False),
    ],
)
def test_odd_content_types_are_read_as_browsers_do(kind: str, is_html: bool):
    (found,), _ = read(record(1, http(b"<!-- cached -->\n<!doctype html><p>\xc3\xa9</p>", f"Content-Type: {kind}")))
    assert (found.page.is_html, "é" in found.page.decoded.text) == (is_html, True)


def test_a_body_without_a_type_is_told_by_the_archive_or_by_its_start():
    typed = record(4, http(b"words")).replace(b"WARC-Type", b"WARC-Identified-Payload-Type: image/svg+xml\r\nWARC-Type")
    xhtml = b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><body/></html>'
    bodies = [b"\xef\xbb\xbf <title>x</title>", b"just words", b"%PDF-1.7 x", xhtml, b"<?xml version='1.0'?><rss/>", b"\0\1\2\3"]
    documents, faults = read(b"".join(record(n, http(body)) for n, body in enumerate(bodies)) + typed)
    assert [(one.url[-1], one.page.is_html) for one in documents] == [("0", True), ("1", False), ("3", True)]
    assert faults == ["not_text_type"] * 4


def test_a_record_that_its_crawler_cut_is_noted():
    (found,), _ = read(page(1).replace(b"WARC-Type", b"WARC-Truncated: length\r\nWARC-Type"))
    assert found.notes == ("truncated",)


@pytest.mark.parametrize("between", [b"", b"\n", b"\r\n", b"\r\n" * 3, b"\r\n" * 5_000, b"\n\n"])
def test_records_are_read_however_many_empty_lines_lie_between(between: bytes):
    documents, faults = read(b"".join(text(n, PROSE.encode()).removesuffix(b"\r\n\r\n") + between for n in range(10)))
    assert (len(documents), faults) == (10, [])


def test_a_mark_before_the_first_record_and_zeros_behind_one_cost_no_record():
    documents, faults = read(b"\xef\xbb\xbf" + page(1) + bytes(512) + page(2))
    assert [(one.url[-1], one.notes) for one in documents] == [("1", ()), ("2", ())]
    assert faults == ["damaged_record"]


def test_a_page_whose_record_ends_in_front_of_what_is_no_record_is_noted():
    cut = text(1, PROSE.encode(), "Content-Encoding: none")
    size = cut.index(b"\r\n\r\nNobody") - cut.index(b"HTTP/1.1")
    at = cut.index(b"Content-Length: ")
    cut = cut[:at] + b"Content-Length: %d" % size + cut[cut.index(b"\r\n", at) :]
    documents, faults = read(cut + page(2))
    assert [(one.url[-1], one.notes) for one in documents] == [("1", ("truncated",)), ("2", ())]
    assert faults == ["damaged_record"]


@pytest.mark.parametrize("version", ["WARC/0.17", "WARC/0.18", "WARC/1.0", "WARC/1.1"])
def test_header_names_are_read_in_any_case_and_lines_that_end_in_lf(version: str):
    head = f"{version}\nwarc-type: Response\nWARC-TARGET-URI: <http://x/1>\ncontent-type:\n application/http\ncontent-length:"
    block = http(b"<p>x</p>", "Content-Type: text/html")
    (found,), faults = read(f"{head} {len(block)}, {len(block)}\n\n".encode() + block + b"\n\n")
    assert (found.url, faults) == ("http://x/1", [])


@pytest.mark.parametrize("length", ["", "-5", "many", "1e3", "9" * 30, "9" * 5_000, "7, 8", "٣"])
@pytest.mark.parametrize("separator", ["", "\r\n\r\n"])
def test_a_length_that_is_none_costs_one_record_with_its_bytes(length: str, separator: str):
    bad = record(2, http(b"<p>bad</p>", "Content-Type: text/html")).removesuffix(b"\r\n\r\n") + separator.encode()
    at = bad.index(b"Content-Length: ") + 16
    bad = bad[:at] + length.encode() + bad[bad.index(b"\r\n", at) :]
    found = list(read_warc(iter([page(1) + bad + page(3)]), 1 << 20))
    assert [one.url[-1] if isinstance(one, Archived) else (one.bytes, type(one)) for one in found] == ["1", (len(bad), Fault), "3"]


def test_a_header_that_never_ends_costs_one_record():
    endless = b"WARC/1.0\r\nWARC-Type: response\r\nX: " + b"y" * (10 << 20) + b"\r\n"
    documents, faults = read(page(1) + endless + page(3))
    assert (numbers(documents), faults) == (["1", "3"], ["damaged_record"])


def test_arc_and_files_that_are_no_archive_are_refused_by_name():
    arc = b"filedesc://a.arc 0.0.0.0 20080101000000 text/plain 76\n1 0 X\nURL IP-address Archive-date\n\n" + PROSE.encode() * 100
    (fault,) = read_warc(iter([arc]), 1 << 20)
    assert isinstance(fault, Fault)
    assert (fault.reason, fault.bytes, "ARC" in fault.evidence) == ("unreadable_file", len(arc), True)
    (fault,) = read_warc(iter([b'{"text": "a row"}\n']), 1 << 20)
    assert isinstance(fault, Fault)
    assert fault.evidence == 'expected WARC records, found none; it begins with \'{"text": "a row"}\\n\''


def test_a_file_of_requests_says_what_it_holds(tmp_path: Path):
    path = tmp_path / "a.warc"
    path.write_bytes(record(1, b"software: x\r\n", "warcinfo") + record(2, b"GET / HTTP/1.1\r\n\r\n", "request") * 2)
    source = WarcSource(name="s", kind="warc", paths=[str(path)])
    (found,) = read_file(source, list_files(source)[0])
    assert isinstance(found, Refused)
    assert (found.fault.reason, found.fault.evidence) == ("no_pages", "nothing but records of other types: 2 request, 1 warcinfo")


SOUND = [
    page(1),
    text(2, PROSE.encode(), "Transfer-Encoding: chunked"),
    text(3, gzip.compress(PROSE.encode()), "Content-Encoding: gzip"),
    text(4, brotli.compress(PROSE.encode()), "Content-Encoding: br"),
    record(5, PROSE.encode(), "conversion", media="text/plain"),
    record(6, b"GET / HTTP/1.1\r\n\r\n", "request"),
    record(7, b"", "revisit"),
]
PIECES = [b"", b"\n", b"\r\n\r\n", b"WARC/1.0\r\n", b"Content-Length: ", b"\0" * 40, b"-1", b"HTTP/1.1 200 OK\r\n", b"99999"]
CHANGES = st.lists(st.tuples(st.integers(0, 4_000), st.integers(0, 400), st.sampled_from(PIECES) | st.binary(max_size=20)), max_size=4)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(SOUND), max_size=6), CHANGES, st.integers(1, 3_000))
def test_every_byte_of_a_damaged_archive_is_part_of_what_is_given(records: list[bytes], changes: list[tuple[int, int, bytes]], step: int):
    raw = b"".join(records)
    for at, size, put in changes:
        raw = raw[:at] + put + raw[at + size :]
    found = list(read_warc((raw[start : start + step] for start in range(0, len(raw), step)), 2_000))
    assert sum(one.bytes for one in found) == len(raw)
