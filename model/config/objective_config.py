"""Pretraining objectives: what a model may be trained to do. Imports no torch: the command line reads this on every start."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from model.config.checks import one_of, within
from model.config.model_config import DECODERS, ENCODERS, FORBID_UNKNOWN_KEYS, RECURRENT, ModelConfig

Kind = Literal["causal", "masked", "restore", "spans"]
Unit = Literal["token", "word", "sentence"]

LEGAL_FAMILIES: dict[Kind, tuple[str, ...]] = {
    "causal": (*DECODERS, *RECURRENT),
    "masked": ENCODERS,
    "restore": (*DECODERS, *RECURRENT, "seq2seq"),
    "spans": (*DECODERS, *RECURRENT, "seq2seq"),
}
UNITS: dict[Kind, tuple[Unit, ...]] = {
    "causal": ("token",),
    "masked": ("token", "word"),
    "restore": ("token", "word", "sentence"),
    "spans": ("token", "word"),
}


@dataclass(frozen=True)
class ObjectiveConfig:
    """causal: the next token. masked: the tokens behind masks, from both sides (BERT, arXiv 1810.04805).

    restore: a text from itself with its spans in another order (as BART's sentences, arXiv 1910.13461). spans: the tokens
    that sentinels stand for (T5, arXiv 1910.10683). A decoder reads restore and spans as `changed <|sep|> answer`, and is
    scored on the answer; seq2seq reads the changed text and writes the answer.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = FORBID_UNKNOWN_KEYS

    kind: Kind = "causal"
    rate: float | None = None  # masked, spans: share of the units that are hidden, 0.15; restore: of the spans that move, 1
    mask_share: float = 0.8  # masked: of the hidden tokens, these become <|mask|>,
    random_share: float = 0.1  # these some other token, and the rest stay as they are
    unit: Unit = "token"  # what is hidden or moved whole; masked by word is whole-word masking
    words: str | None = field(default=None, metadata={"is_placement": True})  # of Han text: jieba, or a file, a word a line
    span_length: float | None = None  # restore, spans: units of a span, on average; 3, and 1 sentence

    def __post_init__(self) -> None:
        """Raises ValueError for a value out of bounds, and for an option that the kind would ignore."""
        one_of("kind", self.kind, get_args(Kind))
        one_of("unit", self.unit, get_args(Unit))
        if self.rate is not None:
            within("rate", self.rate, 0.0, 1.0, includes_low=False, includes_high=self.kind == "restore")
        within("mask_share", self.mask_share, 0.0, 1.0)
        within("random_share", self.random_share, 0.0, 1.0)
        if self.mask_share + self.random_share > 1:
            raise ValueError(f"mask_share {self.mask_share} and random_share {self.random_share} add up to more than 1; lower one")
        if self.span_length is not None:
            within("span_length", self.span_length, 1.0, 1e6)
        for name, is_set, kinds in (
            ("rate", self.rate is not None, ("masked", "restore", "spans")),
            ("mask_share", self.mask_share != 0.8, ("masked",)),
            ("random_share", self.random_share != 0.1, ("masked",)),
            ("span_length", self.span_length is not None, ("restore", "spans")),
        ):
            if is_set and self.kind not in kinds:
                raise ValueError(f"{name}: objective {self.kind} has no such option; leave it out, or set kind to {_listed(kinds)}")
        if self.unit not in UNITS[self.kind]:
            raise ValueError(f"unit {self.unit!r}: objective {self.kind} goes by {_listed(UNITS[self.kind])}")
        if self.words is not None and self.unit != "word":
            raise ValueError(f"words {self.words!r} tells where Chinese words end, so it goes with unit word")

    @property
    def share(self) -> float:
        """`rate` with the default resolved."""
        if self.rate is not None:
            return self.rate
        return 1.0 if self.kind == "restore" else 0.15

    @property
    def mean_span(self) -> float:
        """`span_length` with the default resolved."""
        return self.span_length or (1.0 if self.unit == "sentence" else 3.0)

    def most_spans(self, tokens: int) -> int:
        """Spans that `spans` hides in a text of so many tokens: the sentinels that it needs. One may be cut in two by an end."""
        return max(1, round(round(tokens * self.share) / self.mean_span)) + 1


def check_pair(config: ModelConfig, objective: ObjectiveConfig) -> None:
    """Raises ValueError, with the fix, for a model that cannot learn the objective."""
    families = LEGAL_FAMILIES[objective.kind]
    if config.family in families:
        return
    others = [kind for kind, legal in LEGAL_FAMILIES.items() if config.family in legal]
    reason = {
        "causal": "sees the token that it would predict" if config.family in ENCODERS else "needs a source to read from",
        "masked": "does not see what comes behind a mask",
        "restore": "writes no text",
        "spans": "writes no text",
    }[objective.kind]
    raise ValueError(
        f"objective {objective.kind} does not go with family {config.family}, which {reason}; set model.family to "
        f"{_listed(families)}, or pretrain.objective.kind to {_listed(others)}"
    )


def needed_context(config: ModelConfig, objective: ObjectiveConfig, tokens: int) -> int:
    """Positions that a model needs for texts of so many tokens."""
    if objective.kind == "restore":
        return tokens if config.family == "seq2seq" else 2 * tokens
    if objective.kind == "spans":
        spans = objective.most_spans(tokens)
        answer = round(tokens * objective.share) + spans + 1
        return max(tokens, answer) if config.family == "seq2seq" else tokens + 2 * spans + 2
    return tokens


def longest_text(config: ModelConfig, objective: ObjectiveConfig) -> int:
    """Tokens of the longest text that the model has positions for."""
    return max((n for n in range(1, config.context + 1) if needed_context(config, objective, n) <= config.context), default=1)


def check_context(config: ModelConfig, objective: ObjectiveConfig, tokens: int) -> None:
    """Raises ValueError, with the fix, when rows of so many tokens do not fit the model in the objective's form."""
    needed = needed_context(config, objective, tokens)
    if needed > config.context:
        raise ValueError(
            f"objective {objective.kind} puts {needed} positions to a row of {tokens} tokens, but model.context is "
            f"{config.context}; set model.context to {needed}, or shards.context to {longest_text(config, objective)} or less"
        )


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + (" or " if len(words) > 1 else "") + words[-1]
