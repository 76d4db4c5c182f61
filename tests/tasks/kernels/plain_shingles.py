"""Units, runs of units and keys in plain Python: the reference of tasks/kernels/shingles.py."""

import unicodedata

from tests.tasks.kernels.plain_figures import LETTERS, kind


def folded(text: str) -> str:
    """Small letters, character by character; full-width letters and digits as plain ones."""
    small = (c if ord(c) >= 0x2D30 and not "！" <= c <= "～" else c.lower() if len(c.lower()) == 1 else c for c in text)
    return "".join(unicodedata.normalize("NFKC", c).lower() if c in FULL_WIDTH else c for c in small)


FULL_WIDTH = "".join(chr(c) for c in [*range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B)])


def units_of(text: str) -> list[tuple[str, int, int]]:
    """Each unit as it counts, and where it lies in the UTF-8 bytes."""
    found: list[tuple[str, int, int]] = []
    at, is_open = 0, False
    for character in text:
        what, size = kind(character), len(character.encode())
        counts_as = "0" if what == "digit" else folded(character)
        if what in ("han", "kana"):
            found.append((counts_as, at, at + size))
            is_open = False
        elif what in LETTERS or what == "digit":
            if is_open:
                unit, start, _ = found[-1]
                found[-1] = (unit + counts_as, start, at + size)
            else:
                found.append((counts_as, at, at + size))
            is_open = True
        else:
            is_open = False
        at += size
    return found


def spaceless_units_of(text: str) -> list[str]:
    """Each unit where a letter of a script without spaces is one by itself, with the marks behind it."""
    found: list[str] = []
    open_script = ""  # which kind of unit the next character may go on with
    for character in text:
        what, is_mark = kind(character), unicodedata.category(character)[0] == "M"
        is_spaceless = unicodedata.name(character, "").split(" ")[0] in ("THAI", "KHMER", "MYANMAR") and what in LETTERS
        if what in ("han", "kana"):
            found.append(character)
            open_script = ""
        elif is_spaceless and is_mark and open_script:
            found[-1] += character
        elif is_spaceless:
            found.append(character)
            open_script = "spaceless"
        elif what in LETTERS or what == "digit":
            if open_script == "spaced":
                found[-1] += character
            else:
                found.append(character)
            open_script = "spaced"
        else:
            open_script = ""
    return found


def runs_of(text: str, n: int) -> list[tuple[str, ...]]:
    """Every run of n units, in order."""
    units = [unit for unit, _, _ in units_of(text)]
    return [tuple(units[at : at + n]) for at in range(len(units) - n + 1)]


def key_of(text: str) -> tuple[str, ...]:
    """What the key stands for: the text without case, parted at white space."""
    blank = "".join(" " if kind(c) in ("space", "newline") else c for c in folded(text))
    return tuple(word for word in blank.split(" ") if word)


def resemblance(one: str, other: str, n: int) -> float:
    """Share of their runs that two texts have in common (Jaccard)."""
    ones, others = set(runs_of(one, n)), set(runs_of(other, n))
    return len(ones & others) / max(1, len(ones | others))
