"""PII: personal data and secrets in a text, found, counted, masked.

RE2 looks for anything that might be one in a single pass of linear time; the exact expressions then look only there.
"""

import bisect
import functools
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple, get_args

from pydantic import Field

from tasks.settings import Section
from tasks.text.pii_patterns import SCANNER, Form, Kind, forms

KINDS: tuple[Kind, ...] = get_args(Kind)
PLACEHOLDERS: Mapping[Kind, str] = {kind: f"<{kind.upper()}>" for kind in KINDS}
PASSES = 4  # a mask can set free what stood against it
GAP = 64  # characters: hits nearer than this are looked at together

Treatment = Literal["keep", "mask", "drop"]


class PiiConfig(Section):
    """What is done with each kind: `keep` counts it, `mask` puts `<KIND>` in its place, `drop` drops the document.

    Each is masked by default: no model should learn to recite any of them, and a mask costs the text one word. Private,
    reserved and documentation addresses are no personal data and are not counted.
    """

    email: Treatment = Field(default="mask", description="mail addresses, full-width ones too")
    phone: Treatment = Field(default="mask", description="international, North American, Chinese and other national forms")
    id_card: Treatment = Field(default="mask", description="Chinese resident identity and US social security numbers")
    bank_card: Treatment = Field(default="mask", description="12 to 19 digits, issuer's prefix and Luhn checksum")
    ip: Treatment = Field(default="mask", description="public IPv4 and IPv6 addresses")
    secret: Treatment = Field(default="mask", description="private keys, service tokens, passwords set in code")


class Match(NamedTuple):
    """`text[start:end]` is one `kind`."""

    kind: Kind
    start: int
    end: int


class Masked(NamedTuple):
    """`counts` hold each kind found, kept ones too; `drops` the kinds for which the document is to be dropped."""

    text: str
    counts: Mapping[str, int]
    drops: tuple[Kind, ...]


def find_pii(text: str) -> list[Match]:
    """All matches by position; none overlaps another."""
    found: list[tuple[int, Match]] = []
    for seen_as, start, end in _windows(text):
        for rank, form in enumerate(forms()):
            if form.seen_as == seen_as:
                before, after = form.reach
                matches = _matches(form, text, max(0, start - before), min(len(text), end + after))
                found.extend((rank, match) for match in matches)
    return _without_overlaps(found)


def find_pii_plainly(text: str) -> list[Match]:
    """The same by Python's `re` over the whole text: the reference, some fifty times slower."""
    return _without_overlaps([(rank, match) for rank, form in enumerate(forms()) for match in _matches(form, text, 0, len(text))])


class PiiMasker:
    """Masks as the config says. Masking twice changes nothing; a mask depends on its match alone."""

    def __init__(self, config: PiiConfig) -> None:
        treatments: dict[Kind, Treatment] = {kind: getattr(config, kind) for kind in KINDS}
        self._masked = frozenset(kind for kind, treatment in treatments.items() if treatment != "keep")
        self._dropping = frozenset(kind for kind, treatment in treatments.items() if treatment == "drop")

    def apply(self, text: str) -> Masked:
        """The text with masks; a document to be dropped is masked as well, for it is kept among the dropped."""
        matches = find_pii(text)
        if not matches:
            return Masked(text, {}, ())
        counts: Counter[Kind] = Counter(match.kind for match in matches)
        for _ in range(PASSES):
            masked = self._mask(text, matches)
            if masked == text:
                break
            text, matches = masked, find_pii(masked)
            counts.update(match.kind for match in matches if match.kind in self._masked)
        return Masked(text, {**counts}, tuple(kind for kind in KINDS if kind in counts and kind in self._dropping))

    def _mask(self, text: str, matches: list[Match]) -> str:
        parts: list[str] = []
        last = 0
        for kind, start, end in matches:
            if kind in self._masked:
                parts += (text[last:start], PLACEHOLDERS[kind])
                last = end
        return "".join(parts) + text[last:] if parts else text


@functools.cache
def _scanner():  # google-re2 names no public type
    import re2

    options = re2.Options()
    options.never_capture = True
    return re2.compile(SCANNER, options)


Seen = Literal["number", "at", "secret"]


def _windows(text: str) -> Iterator[tuple[Seen, int, int]]:
    """What the scanner saw and where; neighbouring hits of a sort are one window, so that nothing is read twice."""
    pending: dict[Seen, tuple[int, int]] = {}
    ascii_only = text.isascii()
    for hit in _scanner().finditer(text.encode() if ascii_only else text):
        start, end = hit.span()
        seen = _seen_as(text, start)
        if seen is None:
            continue
        before = pending.get(seen)
        if before and start - before[1] <= GAP:
            pending[seen] = (before[0], end)
            continue
        if before:
            yield seen, *before
        pending[seen] = (start, end)
    for seen, window in pending.items():
        yield seen, *window


def _seen_as(text: str, start: int) -> Seen | None:
    first = text[start]
    if first in "@＠":  # decorators and handles have nothing before it
        return "at" if start and (text[start - 1].isalnum() or text[start - 1] in "._%+-．＿－") else None
    return "number" if first.isdecimal() else "secret"


def _matches(form: Form, text: str, start: int, end: int) -> Iterator[Match]:
    for found in form.pattern.finditer(text, start, end):
        span = found.span(found.lastgroup) if found.lastgroup in ("a", "b", "c") else found.span()
        if form.check(text, *span):
            yield Match(form.kind, *span)


def _without_overlaps(found: list[tuple[int, Match]]) -> list[Match]:
    """Of matches that overlap the one whose form comes first, then the one that starts first."""
    starts: list[int] = []
    kept: list[Match] = []
    for _, match in sorted(set(found), key=lambda entry: (entry[0], entry[1].start)):
        at = bisect.bisect(starts, match.start)
        if (at and kept[at - 1].end > match.start) or (at < len(kept) and kept[at].start < match.end):
            continue
        starts.insert(at, match.start)
        kept.insert(at, match)
    return kept
