"""Mojibake: its sequences are what UTF-8 allows, and a text of many doubtful ones is no slow one."""

import itertools
import time

from tasks.text.mojibake import _sequence, without_mojibake  # pyright: ignore[reportPrivateUsage]


def _is_one_character(raw: bytes) -> bool:
    try:
        return len(raw.decode()) == 1
    except UnicodeDecodeError:
        return False


def test_a_sequence_is_what_decodes_to_one_character_and_nothing_else():
    trails = (0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0)
    for length in (2, 3, 4):
        for raw in map(bytes, itertools.product(range(0xC0, 0xF8), *[trails] * (length - 1))):
            assert bool(_sequence().fullmatch(raw.decode("latin-1"))) == _is_one_character(raw), raw


def test_french_capitals_before_points_are_read_fast_and_kept():
    line = "Il a crié : AU CAFÉ… puis il est parti, l’été suivant, chez Élodie. Ça va à l’île, dit-elle.\n"
    text = line * 20_000
    start = time.process_time()
    assert without_mojibake(text) == text
    assert time.process_time() - start < 2  # 0.1 s; 2 MB
