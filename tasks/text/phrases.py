"""Phrase counting: a user's words and phrases in text, in linear time."""

from collections.abc import Iterable, Sequence


class PhraseCounter:
    """Counts occurrences, letters of any case; an entry that begins or ends in a Latin letter or digit is matched as a word."""

    def __init__(self, entries: Sequence[str]) -> None:
        import re2

        parts = [_pattern(entry) for entry in sorted(entries, key=len, reverse=True)]
        options = re2.Options()
        options.max_mem = 256 * 2**20
        options.case_sensitive = False
        options.log_errors = False
        self._expression = re2.compile("|".join(parts), options) if parts else None

    def count(self, texts: Iterable[str]) -> list[int]:
        """Occurrences in each text, left to right without overlap."""
        if self._expression is None:
            return [0 for _ in texts]
        return [sum(1 for _ in self._expression.finditer(text)) for text in texts]


def _pattern(entry: str) -> str:
    """The entry as it stands; white space in it matches any white space."""
    import re2

    body = r"\s+".join(re2.escape(word) for word in entry.split())
    before = r"\b" if entry[0].isascii() and entry[0].isalnum() else ""
    after = r"\b" if entry[-1].isascii() and entry[-1].isalnum() else ""
    return f"{before}{body}{after}"
