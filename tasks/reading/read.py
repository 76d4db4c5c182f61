"""Source reader, file by file: a pure function of the source's settings and the bytes of one file."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping

from tasks.reading import files
from tasks.reading.account import Account
from tasks.reading.csv_rows import Table
from tasks.reading.documents import FieldCount, Found, Origin, Refused, RowReader, document, refused
from tasks.reading.encodings import Decoded
from tasks.reading.faults import UNREADABLE, Fault, shown_text
from tasks.reading.files import Listing, SourceFile
from tasks.reading.hub import hub_digests, hub_files, read_hub
from tasks.reading.lines import Line, read_chunks, read_text, too_large
from tasks.reading.markdown import front_matter
from tasks.reading.pages import Page, html_page
from tasks.reading.records import Layout, read_records
from tasks.reading.sources import (
    AnySource,
    CsvSource,
    CutSource,
    FileSource,
    HtmlSource,
    HubSource,
    JsonLinesSource,
    JsonSource,
    MarkdownSource,
    ParquetSource,
    PythonSource,
    RowFileSource,
    TextSource,
    WarcSource,
    place_of,
)
from tasks.reading.splitting import TextPart, cut_parts
from tasks.reading.stdlib import python_digest, python_texts
from tasks.reading.warc import PassedOver, read_warc


def list_files(source: AnySource) -> list[SourceFile]:
    """What a source is read from, one task each. A data set and the standard library are one."""
    if isinstance(source, FileSource):
        return listing_of(source).files
    size = sum(file.bytes for file in hub_files(source)) if isinstance(source, HubSource) else 0
    return [SourceFile(source.name, source.path if isinstance(source, HubSource) else source.kind, size)]


def listing_of(source: FileSource) -> Listing:
    """What the paths of a source name, and what they pass over."""
    return files.list_files(place_of(source), source.paths)


def digests_of(source: AnySource) -> dict[str, str]:
    """What a source holds, by file name: the identity of the input, wherever it lies."""
    match source:
        case PythonSource():
            return {source.name: python_digest()}
        case HubSource():
            return hub_digests(source)
        case _:
            return {f"{source.name}/{file.name}": files.digest_of(file) for file in list_files(source)}


def read_file(source: AnySource, file: SourceFile, total: Account | None = None) -> Iterator[Found | Refused]:
    """One file's documents and refused records, in order; its bytes are added to the account of all files.

    UserError when the file may not be read, changes meanwhile, or shows that the recipe is wrong.
    """
    if file.fault:
        return iter([refused(source, file.name, Fault(file.fault, 0, file.evidence), file.name, file.fault)])
    total = total or Account()
    match source:
        case TextSource() | MarkdownSource():
            return _read_text(source, file, total)
        case HtmlSource():
            return _read_page(source, file, total)
        case WarcSource():
            return _read_archive(source, file, total)
        case HubSource():
            return read_hub(source)
        case PythonSource():
            return _read_python(source)
        case _:
            return _read_rows(source, file, total)


def _read_rows(source: RowFileSource, file: SourceFile, total: Account) -> Iterator[Found | Refused]:
    reader = RowReader(source, file.name)
    counts = FieldCount(source.text_field)
    position = 0
    for position, record in enumerate(read_records(file, _layout(source), total), 1):
        if isinstance(record, Fault):
            counts.add(None)
            path = file.name if record.reason == UNREADABLE else f"{file.name}:{record.number or position}"
            yield refused(source, path, record, file.name, f"fault {position}")
            continue
        found = reader.read(record)
        if isinstance(found, Refused):
            total.refuse(record.bytes)
        counts.add(None if isinstance(record.fields.get(source.text_field), Fault) else found, record.fields)
        yield found
    if position == 0:
        yield refused(source, file.name, Fault("empty_file", file.bytes, ""), file.name, "0")
    counts.check(source, file.url)


def _layout(source: RowFileSource) -> Layout:
    wanted = [source.text_field, source.id_field, *source.meta_fields]
    fields = [name for name in dict.fromkeys(wanted) if name is not None]
    match source:
        case CsvSource():
            table = Table(source.delimiter, source.header)
            return Layout("csv", table, source.encoding, source.max_document_bytes, fields)
        case JsonSource() | JsonLinesSource():
            return Layout(source.kind, Table(), source.encoding, source.max_document_bytes, fields)
        case ParquetSource():
            return Layout("parquet", Table(), "auto", source.max_document_bytes, fields)


def _read_text(source: CutSource, file: SourceFile, total: Account) -> Iterator[Found | Refused]:
    account = Account()
    lines = read_text(file, source.encoding, source.max_document_bytes, total=account)
    meta: dict[str, str] = {}
    if isinstance(source, MarkdownSource):
        fields, lines = front_matter(lines)
        meta = {"format": "markdown", **fields}
    mended = _MendedLines(lines)
    number = 0
    for number, part in enumerate(cut_parts(mended.texts(), source.split, source.window_chars, source.heading), 1):
        key = (file.name, str(number))
        yield document(source, f"{file.name}:{number}", part.text, meta, key, mended.origin(part))
    for position, fault in enumerate(mended.faults):
        key = "end" if position == 0 else f"end {position}"
        yield refused(source, f"{file.name}:{number + 1}", fault, file.name, key)
    if number == 0 and not mended.faults:
        account.refuse(account.records)
        yield refused(source, file.name, Fault("empty_text", file.bytes, ""), file.name, "0")
    account.check(file.url, total)


class _MendedLines:
    """Lines on their way to be cut; remembers where something was mended until the part around it is out."""

    def __init__(self, lines: Iterable[Line | Fault]) -> None:
        self._lines = lines
        self._mended: deque[tuple[int, int, tuple[str, ...], int]] = deque()  # start, end, repairs, characters replaced
        self.faults: list[Fault] = []
        self._charset: str | None = None

    def texts(self) -> Iterator[str]:
        position = 0
        for line in self._lines:
            if isinstance(line, Fault):
                self.faults.append(line)
                continue
            end = position + len(line.text)
            if line.repairs:
                self._mended.append((position, end, line.repairs, line.replaced))
            self._charset = line.charset or self._charset
            position = end
            yield line.text

    def origin(self, part: TextPart) -> Origin:
        """What was mended inside a part; what lies before its end is not kept."""
        repairs: list[str] = []
        replaced = 0
        for start, end, mended, characters in self._mended:
            if start >= part.end:
                break
            if end > part.start:
                repairs += mended
                replaced += characters
        while self._mended and self._mended[0][1] <= part.end:
            self._mended.popleft()
        return Origin(self._charset, repairs, min(replaced, part.text.count("\ufffd")))


def _read_page(source: HtmlSource, file: SourceFile, total: Account) -> Iterator[Found | Refused]:
    """One page. What is left of one that breaks off is kept and flagged; the break is counted."""
    parts: list[bytes] = []
    faults: list[Fault] = []
    size = 0
    account = Account()
    for chunk in account.counted(read_chunks(file)):
        if isinstance(chunk, Fault):
            faults.append(account.add(chunk))
            continue
        size += len(chunk)
        if size <= source.max_document_bytes:
            parts.append(chunk)
    raw = b"".join(parts)
    if size > source.max_document_bytes:
        faults.append(account.add(too_large(size, raw)))
    elif size:
        account.records = size
        page = html_page(raw, None if source.encoding == "auto" else source.encoding)
        cut = ("truncated",) if any(fault.reason.startswith(("trunc", "damag")) for fault in faults) else ()
        found = _page_document(source, page, file.name, (file.name, "1"), {}, cut)
        if isinstance(found, Refused):
            account.refuse(size)
        yield found
    elif not faults:
        faults.append(Fault("empty_text", 0, ""))
    account.check(file.url, total)
    for position, fault in enumerate(faults):
        yield refused(source, file.name, fault, file.name, f"fault {position}")


def _page_document(
    source: FileSource, page: Page, path: str, key: tuple[str, ...], meta: Mapping[str, str], cut: tuple[str, ...] = ()
) -> Found | Refused:
    decoded: Decoded = page.decoded
    if decoded.fault is not None or not decoded.text.strip():
        return refused(source, path, Fault(decoded.fault or "empty_text", page.bytes, shown_text(decoded.text)), *key)
    charset = None if decoded.charset == "utf-8" else decoded.charset
    kept = {**meta, **({"format": "html"} if page.is_html else {})}
    return document(source, path, decoded.text, kept, key, Origin(charset, (*decoded.repairs, *cut)))


def _read_archive(source: WarcSource, file: SourceFile, total: Account) -> Iterator[Found | Refused]:
    position = 0
    passed_over: Counter[str] = Counter()
    account = Account()
    for found in read_warc(account.counted(read_chunks(file)), source.max_document_bytes):
        if isinstance(found, PassedOver):
            account.structure += found.bytes
            passed_over[found.kind] += 1
            continue
        position += 1
        if isinstance(found, Fault):
            path = file.name if found.reason == UNREADABLE else f"{file.name}:fault {position}"
            yield refused(source, path, account.add(found), file.name, f"fault {position}")
        else:
            account.records += found.bytes
            key = (file.name, str(found.number))
            meta = {"url": found.url} | ({"content_language": found.language} if found.language else {})
            one = _page_document(source, found.page, f"{file.name}:{found.number}", key, meta, found.notes)
            if isinstance(one, Refused):
                account.refuse(found.bytes)
            yield one
    account.check(file.url, total)
    if position == 0:
        held = ", ".join(f"{count} {kind}" for kind, count in sorted(passed_over.items()) if kind)
        evidence = f"nothing but records of other types: {held}" if held else ""
        yield refused(source, file.name, Fault("no_pages" if held else "empty_file", file.bytes, evidence), file.name, "0")


def _read_python(source: PythonSource) -> Iterator[Found | Refused]:
    numbers: Counter[str] = Counter()
    for text in python_texts(source.window_chars):
        numbers[text.path] += 1
        language = "code" if text.kind == "source" and source.language == "auto" else source.language
        meta = {"kind": text.kind} | ({"group": text.group} if text.group else {})
        declared = source.model_copy(update={"language": language})
        number = str(numbers[text.path])
        yield document(declared, f"{text.path}:{number}", text.text, meta, (text.path, number))
