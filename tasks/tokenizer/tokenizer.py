"""Tokenizer: trained on a sample of the corpus, or taken in from elsewhere; checked and measured either way."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from tasks.artifacts import Corpus, file_digest
from tasks.errors import UserError
from tasks.ledger import Ledger, StageOutcome
from tasks.sampling import SampledDocument, sample_documents
from tasks.settings import Json, Placement, Section, given_path
from tasks.tokenizer.encoder_check import EncoderCheck, check_encoder
from tasks.tokenizer.encoding import Encoder, load_tokenizer, vocabulary_size
from tasks.tokenizer.pretokenizers import ALLOWED, Algorithm, Normalization, Pretokens
from tasks.tokenizer.tokenizer_quality import THIS, Measured, TokenizerQuality, longest_tokens, measure, never_used, write_quality
from tasks.tokenizer.vocabulary import (
    BYTE_ALPHABET,
    MIN_COUNT,
    Trainer,
    complete,
    learn_merges,
    learn_merges_fast,
    learn_vocabulary,
    new_tokenizer,
    smallest_vocabulary,
    special_names,
    tokenizer_settings,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import tokenizers

QUALITY_BYTES = 2_000_000  # of validation text
USAGE_BYTES = 4_000_000  # of training text in which unused tokens are looked for
CHECK_BYTES = 500_000  # of each, encoded by both paths
DOCUMENT_BYTES = 100_000  # of one document, as far as there are others
SPECIAL_FORM = re.compile(r"<\|[A-Za-z][A-Za-z0-9_]*\|>")
OF_TRAINING = ("algorithm", "normalization", "pieces", "sample_bytes", "trainer", "vocab_size")


class TokenizerConfig(Section):
    """Which tokenizer the models read through."""

    revision: Literal[4] = 4
    algorithm: Algorithm = Field(
        default="bpe",
        description="bpe: byte pairs, no text is unknown; unigram: likeliest tokens, bytes for the rest; "
        "wordpiece (BERT), word and character: what is not in the vocabulary becomes <|unk|>",
    )
    vocab_size: int = Field(
        default=4096, le=1_000_000, description="Tokens, bytes and special tokens included; a small corpus may give fewer"
    )
    normalization: Normalization = Field(
        default="none", description="Done to a text first, and not undone: Unicode nfc or nfkc; bert: lower case, no accents"
    )
    pieces: Pretokens | Literal["auto"] = Field(
        default="auto",
        description="Where text is cut before tokens are looked for; auto is the algorithm's first. bpe, unigram: mixed "
        "(English, Chinese, code: 8 Han characters, 3 digits), single_digits, single_han, gpt2; wordpiece, word: "
        "words (each Han character and sign alone), whitespace; character: characters",
    )
    reserve: tuple[str, ...] = Field(
        default=(), max_length=1_000, description="More special tokens, written <|name|>, that get an id and never stand for text"
    )
    trainer: Trainer | Literal["auto"] = Field(
        default="auto", description="Library that learns byte pairs; auto is rustbpe: equal quality in 0.6 of the time. Others: tokenizers"
    )
    sample_bytes: int = Field(
        default=20_000_000,
        ge=1_000,
        le=2_000_000_000,
        description="Bytes of training text to learn from, shared equally by the languages; memory grows with it",
    )
    seed: int = Field(default=1, ge=0, lt=2**63, description="Chooses the sample")
    existing: Annotated[str | None, Placement()] = Field(
        default=None, description="Folder with a tokenizer.json to take instead of training one; its content is the identity"
    )
    references: Annotated[tuple[str, ...], Placement()] = Field(
        default=(),
        max_length=20,
        description="Folders with a tokenizer.json each, to measure on the same text; their names and contents count",
    )

    @model_validator(mode="after")
    def _check(self) -> "TokenizerConfig":
        self._check_reserve()
        if self.existing is not None:
            useless = [name for name in OF_TRAINING if name in self.model_fields_set]
            if useless:
                raise ValueError(f"existing takes a finished tokenizer, so {' and '.join(useless)} would change nothing; leave out")
            return self
        allowed = ALLOWED[self.algorithm]
        if self.pieces != "auto" and self.pieces not in allowed:
            raise ValueError(f"pieces {self.pieces} do not go with algorithm {self.algorithm}; take {' or '.join(allowed)}")
        if self.normalization == "bert" and self.algorithm not in ("wordpiece", "word"):
            raise ValueError(
                f"normalization bert loses case and accents: it goes with wordpiece or word, not {self.algorithm}; take nfc, nfkc or none"
            )
        if self.trainer != "auto" and self.algorithm != "bpe":
            raise ValueError(f"trainer is for algorithm bpe; {self.algorithm} has but one, so leave trainer out")
        least, specials = smallest_vocabulary(self.algorithm, self.reserve), special_names(self.algorithm, self.reserve)
        if self.vocab_size < least:
            alphabet = f"the byte alphabet ({BYTE_ALPHABET})" if least - len(specials) > 1 else "one token"
            raise ValueError(
                f"vocab_size {self.vocab_size} is smaller than {alphabet} plus {len(specials)} special tokens; make it {least} or more"
            )
        return self

    def _check_reserve(self) -> None:
        ours = special_names("character")  # <|unk|> included
        for number, name in enumerate(self.reserve):
            if not SPECIAL_FORM.fullmatch(name):
                raise ValueError(f"reserve holds {name!r}, expected a name such as <|mask|>: a letter, letters, digits, _")
            if name in ours:
                raise ValueError(f"reserve holds {name}, which every tokenizer here has or may have; leave it out")
            if name in self.reserve[:number]:
                raise ValueError(f"reserve holds {name} twice; once is enough")

    def cut(self) -> Pretokens:
        """The pretokens that `auto` stands for, or those asked for."""
        return ALLOWED[self.algorithm][0] if self.pieces == "auto" else self.pieces


def existing_digests(config: TokenizerConfig) -> dict[str, str]:
    """Content digests of the `existing` tokenizer and of each reference, to enter the fingerprint as inputs."""
    digests = dict[str, str]()
    if config.existing is not None:
        digests["existing"] = _digest("existing", config.existing, "leave the key out to train one")
    for folder in config.references:
        name = reference_name(folder)
        if name == "this" or f"reference {name}" in digests:
            raise UserError(
                f"tokenizer.references: {folder} would stand in the table as {name!r}, as another row does. "
                "Fix: give its folder a name of its own."
            )
        digests[f"reference {name}"] = _digest("references", folder, "leave it out")
    return digests


def reference_name(folder: str) -> str:
    """What the quality table calls it."""
    return given_path(folder).resolve().name


def _digest(key: str, folder: str, otherwise: str) -> str:
    path = given_path(folder) / "tokenizer.json"
    if not path.is_file():
        raise UserError(
            f"tokenizer.{key}: {folder} has no tokenizer.json, expected a Hugging Face tokenizer folder. "
            f"Fix: name another folder, or {otherwise}."
        )
    return file_digest(path)


def learn(config: TokenizerConfig, corpus: Corpus) -> tuple["tokenizers.Tokenizer", dict[str, str]]:
    """A new tokenizer of the corpus, and what the report should say of it."""
    sample = partial(sample_documents, corpus.path, "train-*.parquet", config.sample_bytes, config.seed, document_bytes=DOCUMENT_BYTES)

    def texts() -> "Iterator[str]":
        return (document.text for document in sample())

    specials = special_names(config.algorithm, config.reserve)
    tokenizer = new_tokenizer(config.algorithm, config.cut(), config.normalization)
    trainer: Trainer = "tokenizers"
    if config.algorithm != "bpe":
        learn_vocabulary(tokenizer, config.algorithm, texts, config.vocab_size, specials)
    elif config.trainer == "tokenizers":
        learn_merges(tokenizer, texts(), config.vocab_size, specials)
    else:
        trainer = "rustbpe"
        learn_merges_fast(tokenizer, config.cut(), texts, config.vocab_size, specials)
    complete(tokenizer, specials)
    notes = {"trainer": trainer}
    if (size := tokenizer.get_vocab_size()) < config.vocab_size:
        unit = {"bpe": f"no other pair occurs {MIN_COUNT} times", "character": "it has no other characters"}
        reason = unit.get(config.algorithm, f"nothing else occurs {MIN_COUNT} times")
        notes["vocabulary"] = f"the corpus gave {size} tokens of the {config.vocab_size} asked for: {reason}"
    return tokenizer, notes


def take(config: TokenizerConfig, folder: Path) -> tuple["tokenizers.Tokenizer", dict[str, str]]:
    """An existing tokenizer, completed. UserError where its ids have gaps: models have one row for each token."""
    tokenizer = load_tokenizer(folder)
    if vocabulary_size(tokenizer) != tokenizer.get_vocab_size():
        raise UserError(
            f"tokenizer.existing: {folder} has {tokenizer.get_vocab_size()} tokens, but ids up to "
            f"{vocabulary_size(tokenizer) - 1}; expected one id after the other. Fix: take another, or train one."
        )
    added = complete(tokenizer, special_names("bpe", config.reserve))
    note = f"an existing tokenizer; special tokens added: {', '.join(added) or 'none'}"
    return tokenizer, {"trainer": "existing", "existing": note}


def unknown_token(tokenizer: "tokenizers.Tokenizer") -> str | None:
    """The token that stands for what the vocabulary does not have; None where there is none."""
    model = json.loads(tokenizer.to_str())["model"]
    if model["type"] == "Unigram":
        return None if model["unk_id"] is None else str(model["vocab"][model["unk_id"]][0])
    name = model.get("unk_token")
    return None if name is None or tokenizer.token_to_id(name) is None else str(name)


def measure_references(references: Sequence[str], validation: Sequence[SampledDocument]) -> dict[str, Measured]:
    """The reference tokenizers on the same documents, by the name of their folders."""
    found = dict[str, Measured]()
    for folder in references:
        tokenizer = load_tokenizer(given_path(folder))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        unknown = unknown_token(tokenizer)
        encoder = Encoder(tokenizer, None, vocabulary_size(tokenizer))
        found[reference_name(folder)] = measure(encoder, _id(tokenizer, unknown), validation)
    return found


def _id(tokenizer: "tokenizers.Tokenizer", token: str | None) -> int | None:
    return None if token is None else tokenizer.token_to_id(token)


def train_tokenizer(config: TokenizerConfig, corpus: Corpus, out: Path) -> StageOutcome:
    """Write tokenizer.json, tokenizer_config.json, quality.json and encoding.json."""
    existing = None if config.existing is None else given_path(config.existing)
    tokenizer, notes = learn(config, corpus) if existing is None else take(config, existing)
    algorithm = json.loads(tokenizer.to_str())["model"]["type"].lower() if existing else config.algorithm
    specials = special_names(config.algorithm, config.reserve)
    (out / "tokenizer.json").write_text(tokenizer.to_str(pretty=False), encoding="utf-8")
    _write_json(out / "tokenizer_config.json", tokenizer_settings(unknown_token(tokenizer), config.reserve))
    outcome = measure_tokenizer(tokenizer, Making(algorithm, notes["trainer"], specials), corpus, config.seed, out, config.references)
    return replace(outcome, notes={**notes, **outcome.notes})


@dataclass(frozen=True)
class Making:
    """How a tokenizer came about, and which of its tokens stand for no text."""

    algorithm: str
    trainer: str
    specials: Sequence[str]


def measure_tokenizer(
    tokenizer: "tokenizers.Tokenizer", making: Making, corpus: Corpus, seed: int, out: Path, references: Sequence[str] = ()
) -> StageOutcome:
    """Write quality.json and encoding.json: how well it fits the corpus beside the `references`, and by which path it encodes."""
    sample = partial(sample_documents, corpus.path, seed=seed)
    validation = list(sample("validation.parquet", budget_bytes=QUALITY_BYTES))
    tried = chain(sample("validation.parquet", budget_bytes=CHECK_BYTES), sample("train-*.parquet", budget_bytes=CHECK_BYTES))
    encoder, check = check_encoder(tokenizer, (document.text for document in tried))
    quality = measure(encoder, _id(tokenizer, unknown_token(tokenizer)), validation)
    plain = sorted(set(range(encoder.vocab_size)) - {tokenizer.token_to_id(token) for token in making.specials})
    unused = never_used(encoder, plain, sample("train-*.parquet", budget_bytes=USAGE_BYTES))
    table = [*quality.table(THIS)]
    for name, reference in measure_references(references, validation).items():
        table += reference.table(name)
    told = TokenizerQuality(
        vocab_size=encoder.vocab_size,
        algorithm=making.algorithm,
        trainer=making.trainer,
        encoder=check.path,
        sample_documents=quality.total("documents"),
        sample_bytes=quality.total("bytes"),
        bytes_per_token={name: round(rate, 4) for name, rate in quality.bytes_per_token().items()},
        never_used=unused,
        inexact_round_trips=quality.total("inexact"),
        longest_tokens=tuple(longest_tokens(tokenizer, plain)),
        table=tuple(table),
    )
    write_quality(told, out)
    _write_json(out / "encoding.json", check.content())
    figures = _figures(encoder.vocab_size, quality, unused)
    return StageOutcome(Ledger(rows_out=encoder.vocab_size), (), figures, _notes(quality, check))


def _notes(quality: Measured, check: EncoderCheck) -> dict[str, str]:
    notes = {"encoder": f"{check.path}: {check.why}"}
    if quality.total("inexact"):
        documents = quality.total("documents")
        notes["round_trip"] = f"{quality.total('inexact')} of {documents} documents do not decode to themselves"
    if quality.total("unknown"):
        notes["unknown"] = f"{quality.total('unknown')} of {quality.total('tokens')} tokens stand for text not known"
    return notes


def _write_json(path: Path, value: Mapping[str, Json]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _figures(vocab_size: int, quality: Measured, unused: int) -> dict[str, float]:
    figures = {"vocab_size": float(vocab_size), "never_used": float(unused)}
    if tokens := quality.total("tokens"):
        figures["bytes_per_token"] = quality.total("bytes") / tokens
    return figures | {f"bytes_per_token_{name}": rate for name, rate in quality.bytes_per_token().items()}
