"""Adaptation of a base's tokenizer to a corpus: how well it fits is measured before anything is learned, and tokens are added if asked for.

A text that is spelled in bytes costs as many tokens as bytes, and the base has seen such spellings least of all. Measured by
benchmarks/byte_spelling.py (docs/continue.md): tokenizers that learned from a fifth of the language or more spell 2 to 54 % of its text
so, those that never saw it 78 to 100 %. So POOR lies between.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from model.config.objective_config import LEGAL_FAMILIES, Kind
from tasks.artifacts import Corpus, PretrainedModel
from tasks.errors import UserError
from tasks.inference.objective_file import read_kind
from tasks.ledger import StageOutcome
from tasks.pretrain.continued import TOKENIZER_FILES
from tasks.sampling import SampledDocument, sample_documents
from tasks.settings import Section
from tasks.tokenizer.byte_spelling import Fit, measure_fit, write_fit
from tasks.tokenizer.encoding import Encoder, load_tokenizer, open_encoder, text_ids, vocabulary_size
from tasks.tokenizer.new_tokens import Spelled, add_tokens, write_spelled
from tasks.tokenizer.tokenizer import Making, measure_tokenizer, unknown_token

if TYPE_CHECKING:
    import tokenizers

    from model.huggingface.folder_config import FolderDescription

POOR = 0.7  # of a language's text in bytes, beyond which a tokenizer does not fit
LEAST = 0.05  # of the corpus, from which on a language counts
FIT_BYTES = 2_000_000  # of held-out text


class AdaptConfig(Section):
    """How the tokenizer of a base is fitted to the corpus."""

    revision: Literal[1] = 1
    add_tokens: int = Field(
        default=0, ge=0, le=500_000, description="New tokens, learned on the corpus; each begins as the mean of those that spelled it"
    )
    sample_bytes: int = Field(
        default=20_000_000,
        ge=1_000,
        le=2_000_000_000,
        description="Bytes of training text to learn them from, shared equally by the languages",
    )
    allow_poor_fit: bool = Field(
        default=False,
        description="Go on though the tokenizer spells most of a language in bytes: long sequences, of which the base knows little",
    )
    seed: int = Field(default=1, ge=0, lt=2**63, description="Chooses the sample")


@dataclass(frozen=True)
class Adaptation:
    """What a continued pretraining asks of its base, beside the recipe's section."""

    adapt: AdaptConfig
    objective: Kind
    context: int  # tokens of a row
    general: tuple[str, ...]  # sources of general text: what is measured and learned from is all other text


def adapt_tokenizer(config: Adaptation, base: PretrainedModel, corpus: Corpus, out: Path) -> StageOutcome:
    """Write the base's tokenizer, with new tokens if asked for, and how it fits: fit.json, quality.json, encoding.json.

    UserError for a base that cannot go on as the recipe says, and for a corpus that its tokenizer spells in bytes.
    """
    check_base(config, base.path / "model")
    tokenizer, spelled = _with_tokens(config, load_tokenizer(base.path / "model"), corpus, out)
    text_ids(tokenizer, "base")
    for name in TOKENIZER_FILES:
        source = base.path / "model" / name
        if source.is_file() and not (out / name).exists():
            shutil.copyfile(source, out / name)
    algorithm = json.loads(tokenizer.to_str())["model"]["type"].lower()
    specials = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
    outcome = measure_tokenizer(tokenizer, Making(algorithm, "base", specials), corpus, config.adapt.seed, out)
    fit = _measured(config, open_encoder(out), corpus)
    write_fit(fit, out)
    check_fit(fit, config.adapt)
    told = {
        "fit": "; ".join(fit_text(one) for one in fit if not one.source),
        "trainer": "that of the base" + (f", with {len(spelled):,} new tokens learned on the corpus" if spelled else ""),
    }
    if len(spelled) < config.adapt.add_tokens:
        told["vocabulary"] = (
            f"the corpus gave {len(spelled):,} new tokens of the {config.adapt.add_tokens:,} asked for: nothing else occurs twice"
        )
    shares = {f"in_bytes_{one.language}": one.share for one in fit if not one.source}
    return replace(outcome, figures={**outcome.figures, **shares, "new_tokens": float(len(spelled))}, notes={**outcome.notes, **told})


def check_base(config: Adaptation, folder: Path) -> "FolderDescription":
    """What the base is. UserError where it has fewer tokens than its tokenizer, another objective, or too few positions."""
    from model.huggingface.huggingface_config import read_folder

    try:
        found = read_folder(folder)
    except ValueError as error:
        raise UserError(f"base: {error}") from error
    tokens = vocabulary_size(load_tokenizer(folder))
    if tokens > found.vocab_size:
        raise UserError(
            f"base: the tokenizer has {tokens:,} tokens, but the weights are for {found.vocab_size:,}. "
            "Fix: put the tokenizer there that the model was trained with."
        )
    learned = read_kind(folder, found.head)
    if learned is None:
        raise UserError(
            f"base: a model with the head {found.head!r} learned no text, expected one that writes or fills in. "
            "Fix: name the pretrained model that it was tuned from."
        )
    if learned != config.objective:
        raise UserError(
            f"base: it learned the objective {learned}, but pretrain.objective is {config.objective}. Fix: set pretrain.objective: "
            f"{{kind: {learned}}}, or name a base of family {' or '.join(LEGAL_FAMILIES[config.objective])} that learned it."
        )
    if config.context > found.model.context:
        raise UserError(
            f"base: it has positions for {found.model.context:,} tokens, but shards.context is {config.context:,}. "
            f"Fix: set shards.context to {found.model.context} or less."
        )
    return found


def _with_tokens(
    config: Adaptation, tokenizer: "tokenizers.Tokenizer", corpus: Corpus, out: Path
) -> "tuple[tokenizers.Tokenizer, Spelled]":
    """With new tokens, which are written; the same tokenizer where none are asked for."""
    if not config.adapt.add_tokens:
        return tokenizer, {}
    sample = partial(sample_documents, corpus.path, "train-*.parquet", config.adapt.sample_bytes, config.adapt.seed)
    grown = add_tokens(tokenizer, (one.text for one in _own(config, sample())), config.adapt.add_tokens)
    (out / "tokenizer.json").write_text(grown.tokenizer.to_str(pretty=False), encoding="utf-8")
    write_spelled(grown.spelled, out)
    return grown.tokenizer, grown.spelled


def _own(config: Adaptation, documents: Iterable[SampledDocument]) -> Iterator[SampledDocument]:
    return (one for one in documents if one.source not in config.general)


def _measured(config: Adaptation, encoder: Encoder, corpus: Corpus) -> tuple[Fit, ...]:
    """On held-out own text, which new tokens were not learned from, in its natural mixture."""
    unknown = unknown_token(encoder.tokenizer)
    number = None if unknown is None else encoder.tokenizer.token_to_id(unknown)
    documents = sample_documents(corpus.path, "validation.parquet", FIT_BYTES, config.adapt.seed, by_language=False)
    return measure_fit(encoder, number, _own(config, documents))


def check_fit(fit: Sequence[Fit], config: AdaptConfig) -> None:
    """UserError where most of a language that is a part of the corpus is spelled in bytes, unless that is allowed."""
    languages = [one for one in fit if not one.source]
    size = sum(one.bytes for one in languages)
    poor = [one for one in languages if one.share > POOR and one.bytes >= LEAST * size]
    if not poor or config.allow_poor_fit:
        return
    others = [fit_text(one) for one in languages if one not in poor]
    raise UserError(
        f"base: its tokenizer does not fit the corpus: {'; '.join(map(fit_text, poor))}, at most {POOR:.0%} is accepted"
        f"{' (' + '; '.join(others) + ')' if others else ''}. Fix: set adapt.add_tokens to some thousands, learned on the corpus; "
        "name a base that knows the language; or set adapt.allow_poor_fit: true."
    )


def fit_text(fit: Fit) -> str:
    """One language's fit, in words."""
    return f"{fit.language}: {fit.bytes_per_token:.2f} bytes a token, {fit.share:.0%} of the text in bytes or unknown"
