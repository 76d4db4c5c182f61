"""Bad files: groups 1 (packed streams), 2 (bombs), 3 (charsets), 5 (sizes) and 7 (rows and files) of the torture set.

Each group is one function in `GROUPS`. Beside every bad file lies a good one, or a good row beside every bad row, and its
text must come out untouched.
"""

import bz2
import gzip
import json
import lzma
import os
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

GOOD = "The ferry left the harbour an hour before dawn, with two cars and eleven passengers on board."
CHINESE = "渡船在天亮前一个小时离开了港口，船上有两辆车和十一位乘客。谁也没有说话，直到灯塔落在我们的后面。"
TRADITIONAL = "渡船在天亮前一個小時離開了港口，船上有兩輛車和十一位乘客。誰也沒有說話，直到燈塔落在我們的後面。"
JAPANESE = "渡し船は夜明けの一時間前に港を出た。船には二台の車と十一人の乗客が乗っていた。だれも何も言わなかった。"
FRENCH = "Le bac a quitté le port une heure avant l’aube, avec deux voitures et onze passagers à bord. Où étaient-ils allés ?"


@dataclass(frozen=True)
class Expected:
    """What must come of a case.

    `kept` are texts of documents, all of them; `begins` stands for a single document of which only the start is known.
    `rejects` counts reasons; `repairs` are flags that some document carries; `error` is part of a UserError instead.
    """

    kept: tuple[str, ...] = ()
    rejects: Mapping[str, int] = field(default_factory=dict[str, int])
    repairs: tuple[str, ...] = ()
    error: str = ""
    begins: str | None = None


@dataclass(frozen=True)
class Case:
    """Bad input: a source in the words of a recipe, its files and what must come of it."""

    name: str
    group: int
    files: tuple[Path, ...]
    source: Mapping[str, object]
    expected: Expected


class Writer:
    """Writes the files of a group, each case in a folder of its own."""

    def __init__(self, folder: Path, group: int, size: int) -> None:
        self.folder, self.group, self.size = folder, group, size

    def case(self, name: str, kind: str, files: Mapping[str, bytes], expected: Expected, **settings: object) -> Case:
        """A case whose files lie in one folder, which is what the source names unless it names paths itself."""
        place = self.folder / f"{self.group}-{name}"
        place.mkdir(parents=True)
        for file, raw in files.items():
            (place / file).write_bytes(raw)
        source = {"kind": kind, "name": name.replace("_", "-"), "paths": [str(place)], **settings}
        return Case(name, self.group, tuple(place / file for file in files), source, expected)

    def text(self, name: str, raw: bytes, expected: Expected, file: str = "bad.txt", **settings: object) -> Case:
        """A text file beside a good one."""
        beside = Expected((*expected.kept, GOOD), expected.rejects, expected.repairs, expected.error, expected.begins)
        return self.case(name, "text", {file: raw, "good.txt": GOOD.encode()}, beside, **settings)

    def rows(self, name: str, bad: list[bytes], expected: Expected, **settings: object) -> Case:
        """Rows of JSON Lines among three good ones."""
        good = [json.dumps({"text": f"{GOOD} {n}", "id": f"good {n}"}).encode() for n in range(3)]
        kept = (f"{GOOD} 0", *expected.kept, f"{GOOD} 1", f"{GOOD} 2")
        raw = b"\n".join([good[0], *bad, *good[1:]]) + b"\n"
        beside = Expected(kept, expected.rejects, expected.repairs, expected.error)
        return self.case(name, "jsonl", {"rows.jsonl": raw}, beside, **settings)


def write_file_cases(folder: Path, size: int) -> list[Case]:
    """All cases of these groups below `folder`. `size` is that of the gigantic ones, in bytes."""
    return [case for group, write in GROUPS for case in write(Writer(folder, group, size))]


def noise(rows: int = 400) -> list[str]:
    """Rows that hardly pack, so that a cut falls inside a stream."""
    chance = random.Random(7)
    return [f"{number} " + " ".join(f"{chance.random():.16f}" for _ in range(20)) for number in range(rows)]


def as_rows(texts: list[str]) -> bytes:
    return b"".join(json.dumps({"text": text}).encode() + b"\n" for text in texts)


def stream_cases(write: Writer) -> Iterator[Case]:
    """Group 1: packed streams that are cut, damaged, joined or not packed at all, and odd line ends."""
    raw = GOOD.encode()
    packed = gzip.compress(raw)
    yield write.text("gzip_by_content", packed, Expected((GOOD,)), "packed.txt")
    yield write.text("gzip_by_name_only", raw, Expected((GOOD,)), "plain.txt.gz")
    yield write.text("gzip_twice", gzip.compress(packed), Expected((GOOD,)), "twice.txt.gz")
    yield write.text("gzip_three_times", gzip.compress(gzip.compress(packed)), Expected(rejects={"archive": 1}), "bad.gz")
    yield write.text("gzip_in_two_members", packed + gzip.compress(b" And back."), Expected((GOOD + " And back.",)))
    yield write.text("gzip_padded_with_zeros", packed + bytes(512), Expected((GOOD,)))
    yield write.text("gzip_with_junk_behind", packed + b"junk", Expected((GOOD,), {"trailing_junk": 1}))
    wrong = packed[:-8] + b"\1\2\3\4" + packed[-4:]
    yield write.text("gzip_wrong_checksum", wrong, Expected((GOOD,), {"wrong_checksum": 1}))
    lines = noise()
    whole = as_rows(lines)
    yield from cut_cases(write, lines, whole)
    head, tail = as_rows(lines[:200]), as_rows(lines[200:])
    damaged = bytearray(gzip.compress(head))
    damaged[20] ^= 0xFF
    members = {"rows.jsonl.gz": bytes(damaged[:10]) + b"\xff" * 64 + gzip.compress(tail)}
    yield write.case("gzip_damaged_member", "jsonl", members, Expected(tuple(lines[200:]), {"damaged_stream": 1}))
    pages = [gzip.compress(web_record(n, f"<p>{GOOD} {n}</p>")) for n in range(4)]
    pages[1] = pages[1][:30] + b"\xff" * 40 + pages[1][70:]
    kept = tuple(f"<p>{GOOD} {n}</p>" for n in (0, 2, 3))
    yield write.case("warc_damaged_member", "warc", {"a.warc.gz": b"".join(pages)}, Expected(kept, {"damaged_stream": 1}))
    yield write.text("empty_file", b"", Expected(rejects={"empty_text": 1}))
    yield write.text("only_a_newline", b"\n", Expected(rejects={"empty_text": 1}))
    yield write.text("no_final_newline", b"one\ntwo", Expected(("one\ntwo",)))
    for name, end in {"crlf": "\r\n", "lone_cr": "\r"}.items():
        cut = {"split": "heading", "heading": "^Chapter"}
        texts = [f"Chapter {n}{end}{GOOD}" for n in range(2)]
        yield write.text(name, (end * 2).join(texts).encode(), Expected(tuple(texts)), **cut)
    yield write.text("line_separator", "one\u2028two\x0bthree".encode(), Expected(("one\u2028two\x0bthree",)))
    yield write.case("empty_rows_file", "jsonl", {"a.jsonl": b"", "b.jsonl": as_rows([GOOD])}, Expected((GOOD,), {"empty_file": 1}))


def web_record(number: int, page: str) -> bytes:
    """A response of a web archive."""
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + page.encode()
    head = f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://x/{number}\r\nContent-Length: {len(http)}\r\n"
    return head.encode() + b"Content-Type: application/http\r\n\r\n" + http + b"\r\n\r\n"


def cut_cases(write: Writer, lines: list[str], whole: bytes) -> Iterator[Case]:
    """Streams that break off: their first rows are kept, how many depends on the format's blocks."""
    from backports import zstd

    packers: dict[str, Callable[[bytes], bytes]] = {
        "gz": gzip.compress,
        "bz2": lambda raw: bz2.compress(raw, 1),
        "xz": lzma.compress,
        "zst": zstd.compress,
    }
    for ending, pack in packers.items():
        packed = pack(whole)
        cut = {f"rows.jsonl.{ending}": packed[: len(packed) * 9 // 10]}
        yield write.case(f"{ending}_cut", "jsonl", cut, Expected(begins=lines[0], rejects={"truncated_stream": 1}))
        joined = {f"rows.jsonl.{ending}": packed + pack(as_rows([GOOD]))}
        yield write.case(f"{ending}_in_two_streams", "jsonl", joined, Expected((*lines, GOOD)))


def bomb_cases(write: Writer) -> Iterator[Case]:
    """Group 2: files that unpack to more than any text would, and archives."""
    bomb = gzip.compress(b"spam" * (25 * 2**20), 9)
    limit, both = {"max_document_bytes": 1 << 20}, {"too_large": 1, "bomb": 1}
    yield write.text("gzip_bomb", bomb, Expected(rejects=both), "bomb.txt.gz", **limit)
    yield write.text("gzip_bomb_in_gzip", gzip.compress(bomb, 9), Expected(rejects=both), "bomb.txt.gz", **limit)
    yield write.text("gzip_of_zeros", gzip.compress(bytes(1 << 22)), Expected(rejects={"not_text": 1}), "zeros.txt.gz")
    yield write.text("zip_archive", b"PK\x03\x04" + bytes(100), Expected(rejects={"archive": 1}), "files.zip")
    tar = bytes(257) + b"ustar\x0000" + bytes(1000)
    yield write.text("tar_in_gzip", gzip.compress(tar), Expected(rejects={"archive": 1}), "files.tar.gz")


def encoding_cases(write: Writer) -> Iterator[Case]:
    """Group 3: charsets declared, not declared and declared wrongly; bytes and escapes without a meaning."""
    for name, (text, codec) in {
        "gb18030": (CHINESE, "gb18030"),
        "big5": (TRADITIONAL, "big5"),
        "shift_jis": (JAPANESE, "cp932"),
        "latin": (FRENCH, "cp1252"),
        "utf16_marked": (CHINESE, "utf-16"),
        "utf32_marked": (FRENCH, "utf-32"),
        "utf16_unmarked": (GOOD, "utf-16-le"),
        "utf16_chinese_unmarked": (CHINESE, "utf-16-be"),
        "utf32_unmarked": (CHINESE, "utf-32-be"),
    }.items():
        yield write.text(name, text.encode(codec), Expected((text,)))
        page = f"<html><body><p>{text}</p></body></html>"
        yield write.case(f"page_in_{name}", "html", {"page.html": page.encode(codec)}, Expected((page,)))
    yield write.text("utf8_marked", b"\xef\xbb\xbf" + CHINESE.encode(), Expected((CHINESE,), repairs=("bom",)))
    declared = f'<meta charset="big5"><p>{CHINESE}</p>'
    lie = {"page.html": declared.encode("gb18030")}
    yield write.case("page_that_lies", "html", lie, Expected((declared,), repairs=("wrong_charset",)))
    mixed = f"{CHINESE}\n".encode() + CHINESE.encode("gb18030") + f"\n{GOOD}".encode()
    yield write.text("two_charsets", mixed, Expected((f"{CHINESE}\n{CHINESE}\n{GOOD}",), repairs=("mixed_encodings",)))
    stray = CHINESE.encode() + b" \xff " + CHINESE.encode()
    yield write.text("stray_byte", stray, Expected((f"{CHINESE} \ufffd {CHINESE}",), repairs=("replaced",)))
    overlong = CHINESE.encode() + b"\xc0\xaf" + CHINESE.encode()
    yield write.text("overlong_form", overlong, Expected((f"{CHINESE}\ufffd\ufffd{CHINESE}",), repairs=("replaced",)))
    picture = b"\x89PNG\r\n\x1a\n" + random.Random(3).randbytes(5_000)
    yield write.text("binary_file", picture, Expected(rejects={"not_text": 1}), "picture.png")
    yield write.rows("lone_surrogate", [b'{"text": "a \\ud800 b"}'], Expected(("a \ufffd b",), repairs=("surrogate",)))
    halves = b'{"text": "' + "\ud83d".encode("utf-8", "surrogatepass") + "\ude00".encode("utf-8", "surrogatepass") + b'"}'
    yield write.rows("surrogates_as_bytes", [halves], Expected(("😀",), repairs=("surrogate",)))
    yield write.rows("row_in_gb18030", [json.dumps({"text": CHINESE}, ensure_ascii=False).encode("gb18030")], Expected((CHINESE,)))
    yield write.rows("row_of_noise", [b'{"text": "\x90\x81\x8f\x8d\x9d\x83\x98"}'], Expected(rejects={"not_text": 1}))
    yield write.case(
        "parquet_with_bad_text",
        "parquet",
        {"rows.parquet": bad_parquet(write)},
        Expected((GOOD, f"{GOOD} \ufffd", CHINESE), {"unknown_charset": 1}, ("replaced",)),
    )


def bad_parquet(write: Writer) -> bytes:
    """Four rows: good, one stray byte, noise, good."""
    values = [GOOD.encode(), GOOD.encode() + b" \xff", b"\x90\x81\x8f\x8d\x9d\x83\x98", CHINESE.encode()]
    binary = pa.array(values, pa.binary())
    text = pa.Array.from_buffers(pa.string(), len(values), binary.buffers())
    path = write.folder / "bad.parquet"
    pq.write_table(pa.table({"text": text}), path)
    raw = path.read_bytes()
    path.unlink()
    return raw


def gigantic_cases(write: Writer) -> Iterator[Case]:
    """Group 5: lines, words, pages and blank stretches without end. What is longer than its source allows is passed over."""
    limit = {"max_document_bytes": 1 << 16}
    long = b"x" * write.size
    yield write.rows("gigantic_line", [b'{"text": "' + long + b'"}'], Expected(rejects={"too_large": 1}), **limit)
    yield write.text("gigantic_word", long + b"\n" + b"short", Expected(("short",), {"too_large": 1}), **limit)
    yield write.text("empty_lines_without_end", b"\n" * (write.size // 8) + b"end", Expected(("end",)))
    inside = f"start{chr(10) * 101}end"
    yield write.text("empty_lines_inside", b"start" + b"\n" * (write.size // 8) + b"end", Expected((inside,)), "a.txt")
    pages = {"big.html": b"<p>" + long, "good.html": GOOD.encode()}
    yield write.case("gigantic_page", "html", pages, Expected((GOOD,), {"too_large": 1}), **limit)
    values = b'[{"text": "' + long + b'"},\n{"text": "short"}]'
    yield write.case("gigantic_value", "json", {"a.json": values}, Expected(("short",), {"too_large": 1}), **limit)
    table = b"text,n\n" + b'"' + long + b'",1\nshort,2\n'
    yield write.case("gigantic_field", "csv", {"a.csv": table}, Expected(("short",), {"too_large": 1}), **limit)
    open_quote = b'text,n\n"never closed,1\nshort,2\nlast,3\n'
    yield write.case("quote_never_closed", "csv", {"a.csv": open_quote}, Expected(("short", "last"), {"malformed": 1}))


def row_cases(write: Writer) -> Iterator[Case]:
    """Group 7, rows: ids, keys, numbers and text fields that are not as they should be."""
    ids = {"id_field": "id"}
    twice = [b'{"text": "a", "id": 1}', b'{"text": "b", "id": "1"}', b'{"text": "c", "id": 2}']
    yield write.rows("ids_twice_and_of_other_type", twice, Expected(("a", "c"), {"duplicate_id": 1}), **ids)
    missing = [b'{"text": "a"}', b'{"text": "b", "id": null}', b'{"text": "c", "id": [1]}']
    yield write.rows("ids_missing", missing, Expected(("a", "b", "c"), repairs=("missing_id",)), **ids)
    huge = [
        b'{"text": "a", "id": 123456789012345678901234567890}',
        b'{"text": "b", "id": 123456789012345678901234567891}',
    ]
    yield write.rows("huge_ids_one_apart", huge, Expected(("a", "b")), **ids)
    yield write.rows("key_twice", [b'{"text": "a", "text": "b"}'], Expected(("b",), repairs=("duplicate_key",)))
    yield write.rows("not_a_number", [b'{"text": "a", "n": NaN}', b'{"text": NaN}'], Expected(("a",), {"not_text": 1}))
    wrong = [b'{"other": 1}', b'{"text": null}', b'{"text": ["a"]}', b'{"text": 3}', b'{"text": " "}']
    many = [json.dumps({"text": f"more {n}"}).encode() for n in range(4)]
    reasons = {"missing_field": 1, "not_text": 2, "empty_text": 2}
    yield write.rows("text_of_other_kinds", wrong + many, Expected(tuple(f"more {n}" for n in range(4)), reasons))
    broken = [b"not json", b"[1]", b'{"text": "open', b'{"a":' * 5_000]
    yield write.rows("malformed", broken, Expected(rejects={"malformed": 4}))
    array = {"rows.jsonl": b'[{"text": "a"},\n {"text": "b"}]'}
    yield write.case("list_in_jsonl", "jsonl", array, Expected(("a", "b")))
    values = {"a.json": b'[{"text": "a"}, {"text": }, {"text": "b, [c] {"}'}
    yield write.case("json_broken_inside", "json", values, Expected(("a", "b, [c] {"), {"malformed": 1}))
    uneven = {"a.csv": b"text,n\na,1\nb,c,2\nd\n"}
    yield write.case("csv_of_uneven_rows", "csv", uneven, Expected(("a",), {"uneven_row": 2}))


def file_cases(write: Writer) -> Iterator[Case]:
    """Group 7, files: of another shape than their neighbours, listed twice, linked in a circle, unreadable."""
    good = as_rows([GOOD])
    drift = {"a.jsonl": good, "b.jsonl": b'{"text": "b", "n": {"deep": 1}}\n{"text": "c", "n": "one"}\n'}
    yield write.case("schema_drift", "jsonl", drift, Expected((GOOD, "b", "c")))
    yield write.case(
        "field_missing_in_a_file",
        "jsonl",
        {"a.jsonl": good * 2, "b.jsonl": b'{"body": "b"}\n'},
        Expected((GOOD, GOOD), {"missing_field": 1}),
    )
    yield write.case("field_missing_in_all_files", "jsonl", {"a.jsonl": b'{"body": "b"}\n'}, Expected(error="text_field"))
    table = parquet_bytes(write, pa.table({"text": [GOOD]}))
    empty = parquet_bytes(write, pa.table({"text": pa.array([], pa.string())}))
    rows = {"a.parquet": table, "b.parquet": empty}
    yield write.case("parquet_without_rows", "parquet", rows, Expected((GOOD,), {"empty_file": 1}))
    cut = {"a.parquet": table, "b.parquet": table[:-20], "c.parquet": b"no Parquet at all"}
    yield write.case("parquet_without_its_end", "parquet", cut, Expected((GOOD,), {"unreadable_file": 2}))
    big = parquet_bytes(write, pa.table({"text": noise()}), row_group_size=100)
    damaged = big[:1_000] + bytes(2_000) + big[3_000:]
    yield write.case("parquet_damaged_rows", "parquet", {"a.parquet": damaged}, Expected(tuple(noise()[100:]), {"damaged_rows": 1}))
    twice = write.case("file_listed_twice", "jsonl", {"a.jsonl": good}, Expected((GOOD,)))
    path = str(twice.files[0])
    yield Case(twice.name, 7, twice.files, {**twice.source, "paths": [path, path, str(twice.files[0].parent)]}, twice.expected)
    loop = write.case("links_in_a_circle", "jsonl", {"z.jsonl": good}, Expected((GOOD,)))
    place = loop.files[0].parent
    for link, target in {"one": place, "two": place, "again.jsonl": loop.files[0], "self": place / "self"}.items():
        os.symlink(target, place / link)
    yield Case(loop.name, 7, loop.files, {**loop.source, "paths": [str(place / "**" / "*.jsonl")]}, loop.expected)


def parquet_bytes(write: Writer, table: pa.Table, row_group_size: int | None = None) -> bytes:
    path = write.folder / "made.parquet"
    pq.write_table(table, path, row_group_size=row_group_size, compression="zstd")
    raw = path.read_bytes()
    path.unlink()
    return raw


GROUPS: tuple[tuple[int, Callable[[Writer], Iterator[Case]]], ...] = (
    (1, stream_cases),
    (2, bomb_cases),
    (3, encoding_cases),
    (5, gigantic_cases),
    (7, row_cases),
    (7, file_cases),
)
