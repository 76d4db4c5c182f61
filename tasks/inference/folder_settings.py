"""Model folder settings beside shape and weights: token ids, labels, settings of generation."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.inference.task_file import read_task
from tasks.tokenizer.encoding import ends_of, pad_of, start_of, stop_ids, vocabulary_size
from tasks.tokenizer.told_tokens import read_object

if TYPE_CHECKING:
    import tokenizers

GENERATION = "generation_config.json"
MADE_BY = ("_from_model_config", "transformers_version")  # the first makes transformers forget what config.json does not say
KEPT_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")


@dataclass(frozen=True)
class SpecialTokens:
    """Token ids by which a model begins, ends and pads its texts."""

    start: int
    ends: frozenset[int]
    pad: int


def folder_settings(source: Path, tokenizer: "tokenizers.Tokenizer", size: int) -> dict[str, object]:
    """What config.json says besides the shape: ids that lie in the vocabulary, where it has none the tokenizer's; labels."""
    read = read_json(source / "config.json")
    told = {**read, **read_json(source / GENERATION)}
    settings: dict[str, object] = {name: read[name] for name in ("id2label",) if name in read}
    for name in KEPT_IDS:
        ids = [number for number in _as_ids(told.get(name)) if number < size]
        if ids:
            settings[name] = ids[0] if len(ids) == 1 else ids
    around = (start_of(tokenizer, "MODEL"), next(iter(ends_of(tokenizer, "MODEL")), None), pad_of(tokenizer))
    found = zip(KEPT_IDS, around, strict=False)
    settings |= {name: number for name, number in found if name not in settings and number is not None}
    task = read_task(source)
    if task is not None and task.is_chat:
        settings["eos_token_id"] = answer_ends(source, tokenizer)
    return settings


def answer_ends(source: Path, tokenizer: "tokenizers.Tokenizer") -> int | list[int]:
    """What ends the answers of a model tuned on instructions, as in `generate`: what `source` tells, the end of a turn and of a text."""
    size = vocabulary_size(tokenizer)
    ends = sorted({number for number in told_ends(source) if number < size} | stop_ids(tokenizer))
    return ends[0] if len(ends) == 1 else ends


def told_ends(folder: Path) -> frozenset[int]:
    """The tokens that end what the model writes, by the folder: a chat model's answers have one of their own."""
    named = [read_json(folder / name).get("eos_token_id") for name in ("config.json", GENERATION)]
    return frozenset(number for value in named for number in _as_ids(value))


def special_tokens_of(settings: Mapping[str, object]) -> SpecialTokens:
    starts = [*_as_ids(settings.get("decoder_start_token_id")), *_as_ids(settings.get("bos_token_id")), 0]
    ends = _as_ids(settings.get("eos_token_id"))
    return SpecialTokens(starts[0], frozenset(ends), [*_as_ids(settings.get("pad_token_id")), *ends, -1][0])


def _as_ids(value: object) -> list[int]:
    """An id, several, or none."""
    values: list[object] = list(value) if isinstance(value, list) else [value]
    return [number for number in values if isinstance(number, int) and not isinstance(number, bool) and number >= 0]


def read_json(path: Path) -> dict[str, object]:
    """Settings, none where there is no such file. UserError for one that is no JSON object."""
    return read_object(path) if path.is_file() else {}


def write_generation_settings(source: Path, folder: Path, settings: Mapping[str, object]) -> None:
    """generation_config.json: what the source sets, such as a temperature, and the token ids of `settings`."""
    told = read_json(source / GENERATION)
    kept = {name: value for name, value in told.items() if not name.endswith("_id") and name not in MADE_BY}
    write_json(folder / GENERATION, {**kept, **{name: settings[name] for name in KEPT_IDS if settings.get(name) is not None}})


def write_json(path: Path, values: Mapping[str, object]) -> None:
    path.write_text(json.dumps(values, ensure_ascii=False, indent=2, sort_keys=True) + "\n", encoding="utf-8")
