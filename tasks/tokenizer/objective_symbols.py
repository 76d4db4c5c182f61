"""Special tokens of an objective in a tokenizer: ours where they were reserved, else those of other families."""

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from model.config.model_config import ModelConfig
from model.config.objective_config import ObjectiveConfig, longest_text
from tasks.errors import UserError
from tasks.tokenizer.encoding import MASK_TOKENS, SPECIAL_TOKENS, text_ids, vocabulary_size

if TYPE_CHECKING:
    import tokenizers

    from model.objectives.corruption import Symbols

SEPARATORS = ("<|sep|>", "[SEP]")
SENTINELS = ("<|span_{}|>", "<extra_id_{}>")  # ours; T5's


def forms_of(objective: ObjectiveConfig, model: ModelConfig, tokens: int) -> list[tuple[str, ...]]:
    """Each special token that rows of `tokens` need, by all names that it may have; ours first."""
    forms: list[tuple[str, ...]] = [MASK_TOKENS] if objective.kind == "masked" else []
    if objective.kind in ("restore", "spans") and model.family != "seq2seq":
        forms.append(SEPARATORS)
    if objective.kind == "spans":
        forms += [tuple(name.format(n) for name in SENTINELS) for n in range(objective.most_spans(tokens))]
    return forms


def check_reserved(forms: list[tuple[str, ...]], known: Collection[str]) -> None:
    """Raises ValueError, with the line for the recipe, when a needed token is not among the `known` names."""
    missing = [names[0] for names in forms if not any(name in known for name in names)]
    if missing:
        listed = ", ".join(f'"{name}"' for name in missing)
        raise ValueError(
            f"pretrain.objective: the tokenizer lacks {len(missing)} special token{'s' * (len(missing) > 1)} that it needs. "
            f"Fix: add to tokenizer.reserve: [{listed}]"
        )


def longest_asked(tokenizer: "tokenizers.Tokenizer", objective: ObjectiveConfig, model: ModelConfig) -> int:
    """Tokens of the longest text that the model has positions for, and the tokenizer sentinels."""
    size, known = longest_text(model, objective), tokenizer.get_vocab()
    if objective.kind == "spans":
        names = forms_of(objective, model, size)
        sentinels = sum(any(name in known for name in forms) for forms in names if forms != SEPARATORS)
        while size > 1 and objective.most_spans(size) > sentinels:
            size -= 1
    return size


def objective_symbols(
    tokenizer: "tokenizers.Tokenizer", objective: ObjectiveConfig, model: ModelConfig, tokens: int, vocab_size: int
) -> "Symbols":
    """The ids, for a model of `vocab_size` tokens. UserError, naming the recipe's key, when one is missing."""
    from model.objectives.corruption import Symbols

    forms = forms_of(objective, model, tokens)
    known = tokenizer.get_vocab()
    try:
        check_reserved(forms, known)
    except ValueError as error:
        raise UserError(f"{error}.") from error
    found = {names[0]: next(known[name] for name in names if name in known) for names in forms}
    text = text_ids(tokenizer, "pretrain")
    is_special = np.zeros(max(vocab_size, vocabulary_size(tokenizer)), np.bool_)
    is_special[vocabulary_size(tokenizer) :] = True  # rows of padding, which stand for nothing
    is_special[[n for n, token in tokenizer.get_added_tokens_decoder().items() if token.special]] = True
    is_special[[known[name] for name in SPECIAL_TOKENS if name in known]] = True
    is_special[[text.bos, text.eos, text.pad, *found.values()]] = True
    sentinels = tuple(found[names[0]] for names in forms if names not in (MASK_TOKENS, SEPARATORS))
    return Symbols(text.bos, text.eos, text.pad, is_special, found.get(MASK_TOKENS[0]), found.get(SEPARATORS[0]), sentinels)
