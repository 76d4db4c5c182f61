"""Documents and refused records: what reading a source gives, and when one becomes the other."""

import hashlib
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NoReturn, cast

from tasks.documents import stable_id
from tasks.errors import UserError
from tasks.reading.encodings import has_surrogates, mend_surrogates
from tasks.reading.faults import Fault, shown_text
from tasks.reading.json_values import MAX_DEPTH
from tasks.reading.lines import too_much_replaced
from tasks.reading.rows import MANY_ROWS, Record
from tasks.reading.sources import CsvSource, RowSource, Source, place_of

WRONG_FIELD = ("missing_field", "not_text")  # more than half of a file's rows: the recipe names the wrong field
MAX_META_CHARS = 65_536  # of one value
OWN_NOTES = ("charset", "contaminated", "format", "repaired")  # in meta; what stages go by, so no row may set them
ESCAPED = "field."  # stands before the name of a row's own field where that would be one of them
SHORT = reprlib.Repr()
SHORT.maxlevel, SHORT.maxdict, SHORT.maxstring = 4, 16, 256
HEADERLESS = ", or header: false when the first line is a row"
MAX_SHOWN_CHARS = 200  # of a row's field names in a message


def meta_key(field_name: str) -> str:
    """The name in meta of a row's own field."""
    return f"{ESCAPED}{field_name}" if field_name in OWN_NOTES or field_name.startswith(ESCAPED) else field_name


@dataclass(frozen=True, slots=True)
class Found:
    """A document before it is written. `path` is the file and record it came from."""

    id: str
    text: str
    source: str
    path: str
    language: str
    meta: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that is no document."""

    id: str
    source: str
    path: str
    fault: Fault


@dataclass(frozen=True)
class Origin:
    """What a document's bytes were in, when not UTF-8, and what had to be mended in them."""

    charset: str | None = None
    repairs: Iterable[str] = ()
    replaced: int = 0  # characters that stand for bytes without a meaning


PLAIN = Origin()


def document(source: Source, path: str, text: str, meta: Mapping[str, str], key: Iterable[str], origin: Origin = PLAIN) -> Found | Refused:
    """A document, unless too little of its text could be read. `key` is what its id is made of, beside the source's name."""
    document_id = stable_id(source.name, *map(mend_surrogates, key))
    repairs = list(dict.fromkeys(origin.repairs)) if origin.repairs else []
    if has_surrogates(text):
        text = mend_surrogates(text)
        repairs.append("surrogate")
    if origin.replaced and too_much_replaced(text, origin.replaced):
        return Refused(document_id, source.name, path, Fault("not_text", len(text.encode()), shown_text(text)))
    if origin.charset is not None or repairs:
        noted = {"charset": origin.charset or "", "repaired": ",".join(repairs)}
        meta = {**meta, **{name: value for name, value in noted.items() if value}}
    language = "und" if source.language == "auto" else source.language
    return Found(document_id, text, source.name, path, language, meta)


def refused(source: Source, path: str, fault: Fault, *key: str) -> Refused:
    """A refused record under an id of its own."""
    return Refused(stable_id(source.name, *key), source.name, path, fault)


class RowReader:
    """Turns a file's rows into documents; an id that the file gave before is refused.

    Ids that were seen are kept as 8 bytes each, the only thing that grows with a file.
    """

    def __init__(self, source: RowSource, name: str) -> None:
        self.source, self.name = source, name
        self._position = position_name(name)
        self._seen: set[int] = set()

    def read(self, record: Record) -> Found | Refused:
        """A row's document."""
        source, fields = self.source, record.fields
        path = f"{self.name}:{record.place}"
        value = fields.get(source.text_field)
        if not isinstance(value, str) or not value or value.isspace():
            fault = field_fault(fields, source.text_field) or Fault("empty_text", 0, "")
            return refused(source, path, replace(fault, bytes=fault.bytes or record.bytes), self.name, f"refused {record.place}")
        key = (self._position, record.place)
        repairs = record.repairs
        if source.id_field is not None:
            given = _id_of(fields.get(source.id_field))
            if given is None:
                repairs = (*repairs, "missing_id")
            elif self._is_known(given):
                fault = Fault("duplicate_id", len(value.encode("utf-8", "replace")), shown_text(given))
                return refused(source, path, fault, self.name, f"refused {record.place}")
            else:
                key = ("id", given)
        meta = self._meta(fields) if source.meta_fields else {}
        if isinstance(meta, Fault):
            return refused(source, path, replace(meta, bytes=record.bytes), self.name, f"refused {record.place}")
        if not repairs and record.charset is None:
            return document(source, path, value, meta, key)
        replaced = value.count("\ufffd") if "replaced" in repairs else 0
        return document(source, path, value, meta, key, Origin(record.charset, repairs, replaced))

    def _is_known(self, given: str) -> bool:
        digest = int.from_bytes(hashlib.blake2b(given.encode("utf-8", "replace"), digest_size=8).digest(), "little")
        known = digest in self._seen
        self._seen.add(digest)
        return known

    def _meta(self, fields: Mapping[str, object]) -> dict[str, str] | Fault:
        meta: dict[str, str] = {}
        for name in self.source.meta_fields:
            value = fields.get(name)
            if isinstance(value, Fault):
                return value
            if is_nested_deep(value):
                return Fault("malformed", 0, shown_text(f"field {name!r} is nested too deep: {SHORT.repr(value)}"))
            if value is not None:
                meta[meta_key(name)] = mend_surrogates(str(value)[:MAX_META_CHARS])
        return meta


def position_name(name: str) -> str:
    """A file's name as part of the ids of what lies in it; none of them is the word before a row's own id."""
    return "./id" if name == "id" else name


def is_nested_deep(value: object) -> bool:
    """Whether lists and objects lie so deep in one another that Python may not show them."""
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        parts: list[object] = []
        for one in level:
            if isinstance(one, list):
                parts += cast("list[object]", one)
            elif isinstance(one, dict):
                parts += cast("dict[str, object]", one).values()
        if not parts:
            return False
        level = parts
    return True


def shown_fields(fields: Mapping[str, object]) -> str:
    """A row's fields, however deep, as the start of a text that can be stored."""
    return shown_text(SHORT.repr(dict(fields)))


def _id_of(value: object) -> str | None:
    """A row's name as text; None for what names nothing. 1 and "1" are one name."""
    if value is None or value == "" or isinstance(value, list | dict) or value != value:
        return None
    return str(value)


def field_fault(fields: Mapping[str, object], text_field: str) -> Fault | None:
    """Why a row has no text."""
    value = fields.get(text_field)
    if isinstance(value, str):
        return None if value.strip() else Fault("empty_text", len(value.encode("utf-8", "replace")), "")
    if isinstance(value, Fault):
        return value
    if value is None:
        return Fault("empty_text" if text_field in fields else "missing_field", 0, shown_fields(fields))
    return Fault("not_text", 0, shown_fields(fields))


@dataclass
class FieldCount:
    """How many rows of a file lack the field that should hold the text, or hold something else in it."""

    text_field: str
    rows: int = 0
    wrong: int = 0
    number: str = ""  # of the first such row
    fields: str = ""  # that it has

    def add(self, found: Found | Refused | None, fields: Mapping[str, object] = MappingProxyType({})) -> None:
        """A row that was read, and its fields."""
        self.rows += 1
        if isinstance(found, Refused) and found.fault.reason in WRONG_FIELD:
            self.wrong += 1
            if self.wrong == 1:
                self.number, self.fields = found.path.rpartition(":")[2], told_fields(fields, self.text_field)

    def check(self, source: Source, url: str) -> None:
        """UserError when a large file is mostly of such rows: nobody wants to wait for the others then.

        A small one is a matter of its rows, as long as other files of the source have the field (`refuse_field`).
        """
        if self.rows >= MANY_ROWS and self.wrong * 2 > self.rows:
            refuse_field(source, f"{url}:{self.number}", self.text_field, self.wrong, self.rows, f"this row has {self.fields}")


def told_fields(fields: Mapping[str, object], text_field: str) -> str:
    """The names of a row's fields; of the one that should hold the text what it holds."""
    value = fields.get(text_field)
    kinds: dict[type, str] = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    kind = kinds.get(type(value), type(value).__name__)
    told = ", ".join(f"{name} ({kind})" if name == text_field else str(name) for name in fields)
    return (told if len(told) <= MAX_SHOWN_CHARS else f"{told[:MAX_SHOWN_CHARS]} …") or "no fields"


def refuse_field(source: Source, place: str, text_field: str, wrong: int, rows: int, found: str) -> NoReturn:
    """UserError: most rows have no text in the field, so it is the recipe that is wrong."""
    raise UserError(
        f"{place_of(source)}: {place}: {wrong} of {rows} rows have no text in field {text_field!r}; {found}. "
        f"Fix: set text_field to the field that holds the text{HEADERLESS if isinstance(source, CsvSource) and source.header else ''}."
    )
