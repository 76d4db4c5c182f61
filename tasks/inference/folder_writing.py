"""Folder writing: what stands beside a model's weights, by one hand for fine-tuned models, their adapters and exports."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.inference.folder_settings import read_json, write_json
from tasks.inference.task_file import ModelTask
from tasks.tokenizer.encoding import CHAT_TOKENS, UNKNOWN, ends_of, first_id, mask_of, pad_of, start_of
from tasks.tokenizer.vocabulary import CHAT_TEMPLATE

if TYPE_CHECKING:
    import tokenizers

TOKENIZER_CONFIG, TOKENS_MAP, TEMPLATE_FILE = "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"
LISTED = ("additional_special_tokens", "extra_special_tokens")
# All else is an order to a class to make another tokenizer than tokenizer.json says.
KEPT = ("chat_template", "padding_side", "truncation_side", "model_input_names")


def write_tokenizer(
    tokenizer: "tokenizers.Tokenizer", source: Path, folder: Path, context: int, task: ModelTask | None, is_pair: bool
) -> None:
    """tokenizer.json and its settings, from those in `source`, so that transformers gives the same ids and text.

    A model that was tuned for conversations gets the template that renders what it learned from, and no other; one that was
    tuned for anything else, or is an encoder-decoder (`is_pair`), gets none.
    """
    is_chat = task is not None and task.is_chat and not is_pair
    start = start_of(tokenizer, "MODEL")
    begins = None if start is None else tokenizer.id_to_token(start)
    definition = tokenizer.to_str()
    mapped = {name: token for name, token in read_json(source / TOKENS_MAP).items() if token is not None}
    told = {**read_json(source / TOKENIZER_CONFIG), **mapped}
    settings: dict[str, object] = {name: told[name] for name in KEPT if name in told}
    settings |= _named(tokenizer, told) | {name: _listed(tokenizer, told[name]) for name in LISTED if name in told}
    if is_chat:
        definition = _bare(definition, (*CHAT_TOKENS, str(begins)))
        settings |= {"chat_template": CHAT_TEMPLATE, "bos_token": begins}
    elif task is not None:
        settings.pop("chat_template", None)
    elif (source / TEMPLATE_FILE).is_file():
        (folder / TEMPLATE_FILE).write_bytes((source / TEMPLATE_FILE).read_bytes())
    # Classes with names of their own, as LlamaTokenizer, take the vocabulary alone and put their own rules around it.
    settings |= {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, "model_max_length": context}
    (folder / "tokenizer.json").write_text(definition, encoding="utf-8")
    write_json(folder / TOKENIZER_CONFIG, settings)


def _named(tokenizer: "tokenizers.Tokenizer", told: dict[str, object]) -> dict[str, object]:
    """The tokens by their names: as `told`, else what stands for them here; a name for none that the tokenizer lacks."""
    end, pad = next(iter(ends_of(tokenizer, "MODEL")), None), pad_of(tokenizer)
    here = {
        "bos_token": start_of(tokenizer, "MODEL"),
        "eos_token": end,
        "pad_token": end if pad is None else pad,
        "unk_token": first_id(tokenizer, ("[UNK]", "<unk>", UNKNOWN)),
        "cls_token": tokenizer.token_to_id("[CLS]"),
        "sep_token": tokenizer.token_to_id("[SEP]"),
        "mask_token": mask_of(tokenizer),
    }
    found = dict[str, object]()
    for name, number in here.items():
        token = _known(tokenizer, told.get(name))
        if token is None and number is not None and (name not in told or name == "pad_token"):
            token = tokenizer.id_to_token(number)
        if token is not None:
            found[name] = token
    return found


def _listed(tokenizer: "tokenizers.Tokenizer", told: object) -> object:
    """Other special tokens, in a list or by names of their own."""
    if isinstance(told, dict):
        return {name: token for name, value in told.items() if (token := _known(tokenizer, value)) is not None}
    return [token for value in told if (token := _known(tokenizer, value)) is not None] if isinstance(told, list) else []


def _known(tokenizer: "tokenizers.Tokenizer", told: object) -> str | None:
    token = _spelling(told)
    return None if token is None or tokenizer.token_to_id(token) is None else token


def _spelling(told: object) -> str | None:
    """A token that is told by its spelling, or with all its properties, which are those of tokenizer.json."""
    token = told.get("content") if isinstance(told, dict) else told
    return token if isinstance(token, str) else None


def _bare(definition: str, tokens: Sequence[str]) -> str:
    """The same tokenizer, but that these tokens take nothing of the text beside them."""
    told = json.loads(definition)
    for token in told["added_tokens"]:
        if token["content"] in tokens:
            token.update(lstrip=False, rstrip=False, single_word=False, normalized=False)
    return json.dumps(told, ensure_ascii=False, indent=2)
