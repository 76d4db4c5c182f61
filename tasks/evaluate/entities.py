"""Entity F1: whole entities of tagged tokens, counted as conlleval and seqeval count them, by type and both ends.

N items.
"""

import re
from collections.abc import Sequence

import numpy as np

from tasks.items import Floats

TAG = re.compile(r"([BIESLUM])-(.+)", re.DOTALL)
OPENS, CLOSES = frozenset("BSU"), frozenset("ESLU")  # an entity, whatever stands before or behind it

Entity = tuple[str, int, int]  # type, first token, last token


def entities(tags: Sequence[str]) -> set[Entity]:
    """The entities of one text's tags, whatever their scheme: IOB1, IOB2, BIOES, BILOU, and what a model makes of them.

    A tag opens an entity if it says so, if its type is not that of the token before, or if that token has none or closes its own;
    what is no tag is outside. Source: startOfChunk and endOfChunk of conlleval (CoNLL-2000 shared task).
    """
    found, opened = set[Entity](), -1
    before = ("", "")
    for at, tag in enumerate((*tags, "O")):
        match = TAG.fullmatch(tag)
        here = ("", "") if match is None else (match[1], match[2])
        goes_on = opened >= 0 and here[1] == before[1] and here[0] not in OPENS and before[0] not in CLOSES
        if opened >= 0 and not goes_on:
            found.add((before[1], opened, at - 1))
            opened = -1
        if here[0] and opened < 0:
            opened = at
        before = here
    return found


def entity_columns(found: Sequence[Sequence[str]], wanted: Sequence[Sequence[str]]) -> Floats:
    """Of each text's tags: twice the entities that are right, and all that were found or wanted; their ratio is F1. [N, 2]."""
    pairs = [(entities(guess), entities(truth)) for guess, truth in zip(found, wanted, strict=True)]
    return np.array([(2 * len(guess & truth), len(guess) + len(truth)) for guess, truth in pairs], np.float64).reshape(len(pairs), 2)
