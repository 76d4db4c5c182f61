"""Name patterns, ordered, as in file names: `*.attention.*`, `trunk.stack.blocks.[01].*`. The last that matches decides."""

import difflib
import fnmatch
from collections.abc import Iterable, Sequence

CLOSE_NAMES = 4  # shown where a pattern matches none


def last_match(name: str, patterns: Sequence[str]) -> int | None:
    """Index of the last pattern that matches `name`; None where none does."""
    matching = [at for at, pattern in enumerate(patterns) if fnmatch.fnmatchcase(name, pattern)]
    return matching[-1] if matching else None


def check_patterns(what: str, patterns: Iterable[str], names: Sequence[str]) -> None:
    """Each pattern matches one of the names. Raises ValueError, with names near it, for one that matches none."""
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            close = difflib.get_close_matches(pattern, names, CLOSE_NAMES, cutoff=0.0)
            raise ValueError(f"{what} {pattern!r} matches nothing; names near it: {', '.join(close) or 'there are none'}")
