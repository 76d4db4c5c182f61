"""Training the tokenizer: byte-level BPE over a sample of the corpus, or an existing one taken in; measured either way."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from tasks.artifacts import Corpus, file_digest
from tasks.encoding import ASSISTANT, BOS, END, EOS, PAD, SPECIAL_TOKENS, USER, encode_documents, load_tokenizer
from tasks.errors import UserError
from tasks.ledger import Ledger, StageOutcome
from tasks.sampling import SampledDocument, sample_documents
from tasks.settings import Json, Placement, Section

if TYPE_CHECKING:
    from collections.abc import Iterator

    import tokenizers

BYTE_ALPHABET = 256
MIN_PAIR_COUNT = 2  # a pair seen once is not worth a token
QUALITY_BYTES = 2_000_000  # of validation text
USAGE_BYTES = 4_000_000  # of training text in which unused tokens are looked for
LONGEST_SHOWN = 20

# Where a text may be cut into tokens. A word takes one space before it, so that a word is the same token in the middle
# of a line and behind an indent; Chinese runs are bounded, or whole sentences would become tokens; digits go by threes.
PIECES = (
    r"'(?:[sdmt]|ll|re|ve)(?!\p{L})"
    r"| ?[\p{L}\p{M}&&[^\p{Han}]]+"
    r"|\p{Han}{1,8}"
    r"|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{M}\p{N}]{1,16}"
    r"|[\r\n]+(?:[^\S\r\n]*(?= [^\s\p{N}\p{Han}])|[^\S\r\n]*)"  # line breaks with the indent behind them
    r"|[^\S\r\n]+(?= [^\s\p{N}\p{Han}])"  # all but the space that the next word takes
    r"|[^\S\r\n]+"
)

# One turn as the fine-tuning stage writes it: <|bos|><|user|>prompt<|assistant|>response<|end|>
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '" + USER + "' + message['content'] }}"
    "{% elif message['role'] == 'assistant' %}{{ '" + ASSISTANT + "' + message['content'] + '" + END + "' }}"
    "{% else %}{{ raise_exception('roles are user and assistant, found ' + message['role']) }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '" + ASSISTANT + "' }}{% endif %}"
)


class TokenizerConfig(Section):
    """Which tokenizer the models read through."""

    revision: Literal[1] = 1
    vocab_size: int = Field(
        default=4096,
        le=1_000_000,
        description="Tokens, bytes and special tokens included; a small corpus may give fewer",
    )
    sample_bytes: int = Field(
        default=20_000_000,
        ge=1_000,
        description="Bytes of training text to learn from, shared equally by the languages",
    )
    seed: int = Field(default=1, ge=0, lt=2**63, description="Chooses the sample")
    existing: Annotated[str | None, Placement()] = Field(
        default=None,
        description="Folder with a tokenizer.json to take instead of training one; its content is the identity",
    )

    @model_validator(mode="after")
    def _check(self) -> "TokenizerConfig":
        least = BYTE_ALPHABET + len(SPECIAL_TOKENS)
        if self.vocab_size < least:
            raise ValueError(
                f"vocab_size {self.vocab_size} is smaller than the byte alphabet ({BYTE_ALPHABET}) plus "
                f"{len(SPECIAL_TOKENS)} special tokens; make it {least} or more"
            )
        useless = sorted({"vocab_size", "sample_bytes"} & self.model_fields_set) if self.existing is not None else []
        if useless:
            raise ValueError(
                f"existing takes a finished tokenizer, so {' and '.join(useless)} would change nothing; leave out"
            )
        return self


def existing_digests(config: TokenizerConfig) -> dict[str, str]:
    """Content digest of the `existing` tokenizer, to enter the fingerprint as an input; empty when one is trained."""
    if config.existing is None:
        return {}
    path = Path(config.existing).expanduser() / "tokenizer.json"
    if not path.is_file():
        raise UserError(
            f"tokenizer.existing: {config.existing} has no tokenizer.json, expected a Hugging Face tokenizer folder. "
            "Fix: name another folder, or leave the key out to train one."
        )
    return {"existing": file_digest(path)}


def new_tokenizer() -> "tokenizers.Tokenizer":
    """An untrained byte-level tokenizer: any text round-trips, nothing is normalised."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers

    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def learn_merges(tokenizer: "tokenizers.Tokenizer", texts: "Iterator[str]", vocab_size: int) -> None:
    """Train on `texts`; the special tokens get the first ids, then the bytes. Equal texts give equal merges."""
    from tokenizers import pre_tokenizers, trainers

    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=MIN_PAIR_COUNT,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)


def complete(tokenizer: "tokenizers.Tokenizer") -> list[str]:
    """Adds the special tokens that are missing, and <|bos|> in front of what other tools encode; returns those added."""
    from tokenizers import AddedToken, processors

    missing = [token for token in SPECIAL_TOKENS if tokenizer.token_to_id(token) is None]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    bos = tokenizer.token_to_id(BOS)
    assert bos is not None
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, bos)]
    )
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return missing


def tokenizer_settings() -> dict[str, Json]:
    """Content of tokenizer_config.json, by which transformers opens the folder."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": PAD,
        "additional_special_tokens": [USER, ASSISTANT, END],
        "clean_up_tokenization_spaces": False,
        "padding_side": "right",
        "chat_template": CHAT_TEMPLATE,
    }


@dataclass
class Quality:
    """Counts over a validation sample, by language."""

    bytes: Counter[str] = field(default_factory=Counter[str])
    tokens: Counter[str] = field(default_factory=Counter[str])
    documents: int = 0
    inexact: int = 0  # documents that did not come back the same
    used: set[int] = field(default_factory=set[int])

    def add(self, tokenizer: "tokenizers.Tokenizer", documents: Sequence[SampledDocument]) -> None:
        """Count a batch."""
        encoded = encode_documents(tokenizer, [document.text for document in documents])
        for document, ids in zip(documents, encoded, strict=True):
            self.documents += 1
            self.bytes[document.language] += len(document.text.encode())
            self.tokens[document.language] += len(ids)
            self.used.update(ids)
            self.inexact += tokenizer.decode(ids, skip_special_tokens=False) != document.text


def measure(tokenizer: "tokenizers.Tokenizer", documents: "Iterator[SampledDocument]") -> Quality:
    """How well the tokenizer does on text it has not learned from."""
    quality, pending = Quality(), list[SampledDocument]()
    for document in documents:
        pending.append(document)
        if len(pending) == 256:
            quality.add(tokenizer, pending)
            pending = []
    quality.add(tokenizer, pending)
    return quality


def plain_ids(tokenizer: "tokenizers.Tokenizer") -> list[int]:
    """All ids but those of the special tokens."""
    return sorted(set(range(tokenizer.get_vocab_size())) - {tokenizer.token_to_id(token) for token in SPECIAL_TOKENS})


def never_used(tokenizer: "tokenizers.Tokenizer", training: "Iterator[SampledDocument]") -> int:
    """Tokens that a sample of the training text does not contain, special ones aside."""
    return len(set(plain_ids(tokenizer)) - measure(tokenizer, training).used)


def bytes_per_token(quality: Quality) -> dict[str, float]:
    """By language: the more, the shorter the sequences."""
    return {name: quality.bytes[name] / count for name, count in sorted(quality.tokens.items()) if count}


def quality_report(tokenizer: "tokenizers.Tokenizer", quality: Quality, unused: int) -> dict[str, Json]:
    """Content of quality.json."""
    size = tokenizer.get_vocab_size()
    spelled = [(tokenizer.decode([number], skip_special_tokens=False), number) for number in plain_ids(tokenizer)]
    longest = sorted(spelled, key=lambda item: (-len(item[0].strip().encode()), item[1]))[
        :LONGEST_SHOWN
    ]  # white space aside
    return {
        "vocab_size": size,
        "sample_documents": quality.documents,
        "sample_bytes": sum(quality.bytes.values()),
        "bytes_per_token": {name: round(rate, 4) for name, rate in bytes_per_token(quality).items()},
        "never_used": unused,
        "inexact_round_trips": quality.inexact,
        "longest_tokens": [text for text, _ in longest],
    }


def train_tokenizer(config: TokenizerConfig, corpus: Corpus, out: Path) -> StageOutcome:
    """Write tokenizer.json, tokenizer_config.json and quality.json."""
    notes: dict[str, str] = {}
    if config.existing is None:
        sample = sample_documents(corpus.path, "train-*.parquet", config.sample_bytes, config.seed)
        tokenizer = new_tokenizer()
        learn_merges(tokenizer, (document.text for document in sample), config.vocab_size)
        complete(tokenizer)
        if tokenizer.get_vocab_size() < config.vocab_size:
            notes["vocabulary"] = (
                f"the corpus gave {tokenizer.get_vocab_size()} tokens of the {config.vocab_size} asked for: "
                f"no other pair occurs {MIN_PAIR_COUNT} times"
            )
    else:
        tokenizer = load_tokenizer(Path(config.existing).expanduser())
        added = complete(tokenizer)
        notes["existing"] = f"an existing tokenizer; special tokens added: {', '.join(added) or 'none'}"
    quality = measure(tokenizer, sample_documents(corpus.path, "validation.parquet", QUALITY_BYTES, config.seed))
    unused = never_used(tokenizer, sample_documents(corpus.path, "train-*.parquet", USAGE_BYTES, config.seed))
    if quality.inexact:
        notes["round_trip"] = f"{quality.inexact} of {quality.documents} documents do not decode to themselves"
    _write(tokenizer, quality_report(tokenizer, quality, unused), out)
    figures = _figures(tokenizer, quality, unused)
    return StageOutcome(Ledger(rows_out=tokenizer.get_vocab_size()), (), figures, notes)


def _write(tokenizer: "tokenizers.Tokenizer", report: Mapping[str, Json], out: Path) -> None:
    (out / "tokenizer.json").write_text(tokenizer.to_str(pretty=False), encoding="utf-8")
    for name, value in (("tokenizer_config.json", tokenizer_settings()), ("quality.json", report)):
        (out / name).write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _figures(tokenizer: "tokenizers.Tokenizer", quality: Quality, unused: int) -> dict[str, float]:
    figures = {"vocab_size": float(tokenizer.get_vocab_size()), "never_used": float(unused)}
    tokens = sum(quality.tokens.values())
    if tokens:
        figures["bytes_per_token"] = sum(quality.bytes.values()) / tokens
    return figures | {f"bytes_per_token_{name}": rate for name, rate in bytes_per_token(quality).items()}
