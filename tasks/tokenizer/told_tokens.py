"""Told tokens: those that a folder itself names to begin, end, pad and mask its texts. They are data: each must be in the vocabulary."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import UserError

if TYPE_CHECKING:
    import tokenizers

TOKENIZER_FILES = ("special_tokens_map.json", "tokenizer_config.json")  # which name tokens; the former counts first, as in transformers
MODEL_FILES = ("config.json", "generation_config.json")  # which give ids
START_NAMES, END_NAMES = ("bos_token", "cls_token"), ("eos_token", "sep_token")
PAD_NAMES, MASK_NAMES = ("pad_token",), ("mask_token",)
KEPT_AS = "told_tokens"  # in the dictionary of the tokenizer itself, which goes wherever the tokenizer goes

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ToldTokens:
    """What the folder says."""

    start: int | None = None
    ends: tuple[int, ...] = ()  # the first of them is written behind a text, each of them ends one
    unknown_start: str = ""  # why none of those that the folder names can be it; empty where it names none
    unknown_end: str = ""
    pad: int | None = None
    mask: int | None = None


def told_tokens(tokenizer: "tokenizers.Tokenizer") -> ToldTokens:
    """Nothing for a tokenizer that no folder was read for."""
    return vars(tokenizer).get(KEPT_AS, ToldTokens())


def copied(tokenizer: "tokenizers.Tokenizer") -> "tokenizers.Tokenizer":
    """Another that can be changed by itself, with what the folder says."""
    copy = type(tokenizer).from_str(tokenizer.to_str())
    vars(copy)[KEPT_AS] = told_tokens(tokenizer)
    return copy


def ask_folder(folder: Path, tokenizer: "tokenizers.Tokenizer") -> None:
    """Reads what the folder, or the model in it, says, for `told_tokens`. UserError for a file that is no JSON object.

    Files are asked in the order of the lists above. Where several name an end, all of them are ends. Padding and masks are never
    learned from, so that an unknown name for them is told of and no more.
    """
    places = [path for part in (folder, folder / "model") for name in TOKENIZER_FILES if (path := part / name).is_file()]
    models = [path for part in (folder, folder / "model") for name in MODEL_FILES if (path := part / name).is_file()]
    told = {path: read_object(path) for path in (*places, *models)}
    size = max(tokenizer.get_vocab().values(), default=-1) + 1
    starts, ends, pads, masks = (_Found() for _ in range(4))
    roles = ((START_NAMES, starts), (END_NAMES, ends), (PAD_NAMES, pads), (MASK_NAMES, masks))
    for path in places:
        for names, found in roles:
            _ask_names(path, told[path], names, tokenizer, found)
    asked = [(names, found) for names, found in roles if not found.why]  # else it is not the model's
    for path in models:
        if told[path].get("model_type") != "bert":  # whose class has neither: the ids of some are those of [PAD] and [unused]
            for names, found in asked:
                _ask_ids(path, told[path], names, size, found)
    for found in (starts, ends, pads, masks):
        for problem in found.problems if found.ids or found in (pads, masks) else ():
            logger.warning("%s: it is not used", problem)
    vars(tokenizer)[KEPT_AS] = ToldTokens(starts.first, tuple(ends.ids), starts.why, ends.why, pads.first, masks.first)


class _Found:
    """Ids in the order in which they were found, and what was named but is not in the vocabulary."""

    def __init__(self) -> None:
        self.ids: dict[int, None] = {}
        self.problems: list[str] = []

    @property
    def first(self) -> int | None:
        """The one that counts."""
        return next(iter(self.ids), None)

    @property
    def why(self) -> str:
        """Empty where there are ids, or nothing was named."""
        return "" if self.ids else "; ".join(self.problems)


def _ask_names(path: Path, told: Mapping[str, object], names: tuple[str, ...], tokenizer: "tokenizers.Tokenizer", found: _Found) -> None:
    """The first that the file gives."""
    for name in names:
        value = told.get(name)
        token = value.get("content") if isinstance(value, dict) else value
        if token is None or token == "":
            continue
        number = tokenizer.token_to_id(token) if isinstance(token, str) else None
        if number is not None:
            found.ids[number] = None
            return
        found.problems.append(f"{path}: {name} is {token!r}, expected a token of tokenizer.json")


def _ask_ids(path: Path, told: Mapping[str, object], names: tuple[str, ...], size: int, found: _Found) -> None:
    """All that stand under the first key that the file gives."""
    for name in names:
        value = told.get(f"{name}_id")
        if value is None:
            continue
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < size:
                found.ids[number] = None
            elif names == PAD_NAMES and number == -1:  # how Llama's first folders say that there is none
                continue
            else:
                found.problems.append(f"{path}: {name}_id is {number!r}, expected an id of tokenizer.json, 0 to {size - 1}")
        return


def read_object(path: Path) -> dict[str, object]:
    """A JSON file of settings. UserError for one that is no JSON object."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}), expected an object. Fix: copy the file again.") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: found {type(values).__name__}, expected an object. Fix: copy the file again.")
    return values
