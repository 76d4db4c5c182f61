"""Streaming JSON: the values of a list, or values one behind the other, without holding the file."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import cast

import orjson

from tasks.reading.account import Account
from tasks.reading.encodings import has_surrogates, mend_surrogates
from tasks.reading.faults import Fault, shown
from tasks.reading.lines import STREAM_ENDS, too_large

OUTSIDE = re.compile(rb'["\[\]{},\n]')
INSIDE = re.compile(rb'[^"\\\n]*+(?:\\[^\n][^"\\\n]*+)*+')  # the rest of a string, up to its quote
STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
MAX_DEPTH = 128  # of what the fast parser does not read; the same wherever it is called from, unlike Python's own limit


def parse(raw: bytes | str) -> tuple[object, tuple[str, ...]]:
    """A value, and `surrogate` when lone halves were mended in it. ValueError when it is no JSON.

    What the fast parser refuses but others write is taken: NaN, numbers of any size, halves of surrogate pairs.
    """
    try:
        return orjson.loads(raw), ()
    except orjson.JSONDecodeError:
        pass
    text = raw if isinstance(raw, str) else raw.decode()
    if is_deep(text):
        raise ValueError("nested too deep")
    value: object = json.loads(text, parse_int=_number)
    mended = _mended(value)
    return (mended, ("surrogate",)) if mended != value else (value, ())


def is_deep(text: str) -> bool:
    """Whether lists and objects lie more than `MAX_DEPTH` deep in one another."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    depth = 0
    for bracket in STRING.sub(b"", text.encode("utf-8", "replace")):
        depth += (bracket in b"[{") - (bracket in b"]}")
        if depth > MAX_DEPTH:
            return True
    return False


def parse_exact(raw: bytes | str) -> tuple[object, bool]:
    """A value with its numbers as they were written, and whether an object in it has a key twice (the last one counts)."""
    twice = False

    def whole(pairs: list[tuple[str, object]]) -> dict[str, object]:
        nonlocal twice
        fields = dict(pairs)
        twice = twice or len(fields) < len(pairs)
        return fields

    value: object = json.loads(raw, parse_int=str, parse_float=str, object_pairs_hook=whole)
    return value, twice


def _number(digits: str) -> int | str:
    return int(digits) if len(digits) < 4000 else digits


def _mended(value: object) -> object:
    """The value without lone surrogates."""
    if isinstance(value, str):
        return mend_surrogates(value) if has_surrogates(value) else value
    if isinstance(value, list):
        return [_mended(entry) for entry in cast("list[object]", value)]
    if isinstance(value, dict):
        return {cast("str", _mended(key)): _mended(entry) for key, entry in cast("dict[str, object]", value).items()}
    return value


def split_values(chunks: Iterable[bytes | Fault], max_bytes: int, account: Account | None = None) -> Iterator[bytes | Fault]:
    """The bytes of each value that is an entry of the outermost list, or stands outside of one.

    Only brackets and strings are looked at: a value may still be malformed. A value with a
    line end inside a string ends there, so that a missing quote costs no other. What lies between is told to the account.
    """
    splitter = _Splitter(max_bytes, account or Account())
    for chunk in chunks:
        if isinstance(chunk, Fault):
            yield splitter.end_by(chunk)
        else:
            yield from splitter.split(chunk)
    yield from splitter.end()


class _Splitter:
    """Where in the text we are: how deep, in a string or not, and the value that is being collected."""

    def __init__(self, max_bytes: int, account: Account) -> None:
        self.max_bytes, self.account = max_bytes, account
        self._depth = 0
        self._in_list = self._in_string = self._is_escaped = False
        self._parts: list[bytes] = []
        self._size = 0

    def split(self, chunk: bytes) -> Iterator[bytes | Fault]:
        """The values that end in the chunk."""
        at = start = 0
        if self._is_escaped:
            at, self._is_escaped = 1, False
        while True:
            if self._in_string:
                at = self._string_end(chunk, at)
            found = OUTSIDE.search(chunk, at)
            if found is None:
                break
            at = found.end()
            match found.group():
                case b'"':
                    self._in_string = not self._in_string
                case b"\n" if self._in_string or (self._depth == 0 and not self._in_list):
                    self._in_string, self._depth = False, 0
                    start = yield from self._close(chunk, start, at)
                case b"," if self._depth == 0:
                    start = yield from self._close(chunk, start, at - 1, at)
                case b"[" if self._depth == 0 and not self._in_list and self._is_blank(chunk[start : at - 1]):
                    self.account.structure += at - start
                    self._in_list, start = True, at
                case b"[" | b"{":
                    self._depth += 1
                case b"]" if self._depth == 0:
                    start = yield from self._close(chunk, start, at - 1, at)
                    self._in_list = False
                case b"]" | b"}":
                    self._depth = max(0, self._depth - 1)
                    if self._depth == 0 and not self._in_list:
                        start = yield from self._close(chunk, start, at)
                case _:
                    pass
        self._hold(chunk[start:])

    def _string_end(self, chunk: bytes, at: int) -> int:
        """Where the quote or line end stands that ends the string; behind the chunk when it goes on."""
        match = INSIDE.match(chunk, at)
        end = match.end() if match else at
        if chunk[end : end + 1] == b"\\":  # what is escaped follows in the next chunk, or is a line end
            self._is_escaped = end + 1 == len(chunk)
            return end + 1
        return end

    def _is_blank(self, before: bytes) -> bool:
        return not self._size and not before.strip()

    def _hold(self, part: bytes) -> None:
        self._size += len(part)
        self._parts.append(part)
        if self._size > self.max_bytes:
            self._parts = [b"".join(self._parts)[:1024]]

    def _close(self, chunk: bytes, start: int, end: int, after: int | None = None) -> Iterator[bytes | Fault]:
        """Ends a value at `end`; the next begins at `after`."""
        self._hold(chunk[start:end])
        yield from self._taken()
        if after is None:
            return end
        self.account.structure += after - end
        return after

    def _taken(self) -> Iterator[bytes | Fault]:
        raw, size = b"".join(self._parts), self._size
        self._parts, self._size = [], 0
        if size > self.max_bytes:
            yield too_large(size, raw)
        elif raw.strip():
            yield raw
        else:
            self.account.structure += size

    def end_by(self, fault: Fault) -> Fault:
        """The fault of the stream, and with it the value that it cut."""
        raw, size = b"".join(self._parts), self._size
        if fault.reason not in STREAM_ENDS:
            return fault
        self.__init__(self.max_bytes, self.account)
        return Fault(fault.reason, fault.bytes + size, shown(raw), cut=size)

    def end(self) -> Iterator[bytes | Fault]:
        """What is left when the file ends: a value, or the start of one that never ended."""
        yield from self._taken()
