"""What the token benchmarks work on: a corpus as the stages read it, a tokenizer learned from it, and rows of real tokens."""

import random
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.corpus_texts import Language, Source, first, write_tables

if TYPE_CHECKING:
    from tasks.artifacts import Corpus

LANGUAGES: tuple[Language, Language] = ("en", "zh")
HELD_OUT = 20  # every so many documents one is validation
WIDTH = 2_049  # tokens of a row: a context of 2,048 and the target of the last


@dataclass(frozen=True)
class Material:
    """The text of one run of the benchmarks, in a folder of its own."""

    source: Source
    folder: Path
    vocab_size: int
    megabytes: float  # that the tokenizer learns from, half in each language

    @cached_property
    def tokenizer(self) -> Path:
        """Folder of a tokenizer as the stage writes it, learned from both languages."""
        from tasks.tokenizer.tokenizer import TokenizerConfig, train_tokenizer

        out = self.folder / "tokenizer"
        out.mkdir(parents=True)
        corpus = write_corpus(self.mixed(self.megabytes), self.folder / "learned")
        config = TokenizerConfig(vocab_size=self.vocab_size, sample_bytes=round(self.megabytes * 1e6))
        train_tokenizer(config, corpus, out)
        return out

    def mixed(self, megabytes: float) -> list[str]:
        """Documents of both languages, half of the bytes each, shuffled."""
        documents = [text for language in LANGUAGES for text in self.source.at_least(language, megabytes / 2)[0]]
        random.Random(5).shuffle(documents)
        return documents

    def distinct(self, megabytes: float) -> list[str]:
        """Up to so much text of both languages, none of it twice, shuffled."""
        documents = [text for language in LANGUAGES for text in first(self.source.distinct(language), megabytes / 2)]
        random.Random(6).shuffle(documents)
        return documents

    @cached_property
    def pool(self) -> Path:
        """A .npy of uint16: the tokens of the text once over, <|bos|> and <|eos|> around each document."""
        from tasks.tokenizer.encoding import open_encoder, special_ids

        encoder = open_encoder(self.tokenizer)
        special = special_ids(encoder.tokenizer, str(self.tokenizer))
        encoded = encoder.encode(self.mixed(self.megabytes))
        stream = np.concatenate([part for ids in encoded for part in ([special.bos], ids, [special.eos])])
        path = self.folder / "pool.npy"
        np.save(path, stream.astype(np.uint16))
        return path


def write_corpus(documents: list[str], folder: Path) -> "Corpus":
    """Documents as the finished artifact that the tokenizer and shards stages read, one in twenty as validation."""
    from tasks.artifacts import Corpus, Workspace, describe
    from tasks.ledger import Ledger, StageOutcome

    workspace, fingerprint = Workspace(folder).open(), "benchmark"
    built = workspace.begin("corpus", fingerprint, keep=False)
    training = [text for number, text in enumerate(documents) if number % HELD_OUT]
    for name, texts in (("train-000", training), ("validation", documents[::HELD_OUT])):
        (table,) = write_tables(texts, "und", folder / name)
        table.rename(built / f"{name}.parquet")
    outcome = StageOutcome(Ledger(rows_in=len(documents), rows_out=len(documents)))
    return Corpus(str(workspace.publish(describe("corpus", fingerprint, {}, {}, built, outcome, 0.0))), fingerprint)


def repeated_rows(pool: Path, rows: int) -> NDArray[np.uint16]:
    """Rows of the pool's tokens [rows, 2,049], one behind the other, from its beginning again at its end."""
    tokens = np.load(pool)
    return np.resize(tokens, rows * WIDTH).reshape(rows, WIDTH)
