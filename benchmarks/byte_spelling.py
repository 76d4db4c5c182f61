"""Byte spelling by tokenizer and text: where the bound comes from beyond which a base's tokenizer does not fit (docs/continue.md).

    python benchmarks/byte_spelling.py --english NOVEL --chinese NOVEL --history BOOK --other ARTICLES

Text files, plain or .gz. The beginning of each is held out, the rest is learned from; code is the standard library's.
"""

import argparse
import ast
import gzip
import inspect
import unittest.case
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.sampling import SampledDocument
from tasks.tokenizer.byte_spelling import Fit, measure_fit
from tasks.tokenizer.encoding import Encoder, vocabulary_size
from tasks.tokenizer.vocabulary import complete, learn_merges_fast, new_tokenizer, special_names

if TYPE_CHECKING:
    import tokenizers

SIZES = (1_024, 2_048, 4_096, 8_192, 16_384)  # tokens
HELD = 100_000  # characters
PART = 2_000  # characters of a document
CHINESE_SHARES = (0.01, 0.05, 0.2)  # of the text, beside English


def read(path: Path) -> str:
    """A text file, packed or not."""
    return gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text(encoding="utf-8")


def parts(text: str) -> list[str]:
    """Documents of like length."""
    return [text[start : start + PART] for start in range(0, len(text), PART)]


def trained(text: str, size: int) -> "tokenizers.Tokenizer":
    """Byte pairs of the text."""
    specials, tokenizer = special_names("bpe"), new_tokenizer("bpe")
    learn_merges_fast(tokenizer, "mixed", lambda: iter(parts(text)), size, specials)
    complete(tokenizer, specials)
    return tokenizer


def mixtures(learned: Mapping[str, str]) -> dict[str, str]:
    """What tokenizers learn from, by name."""
    english, chinese = learned["english"] + learned["other"], learned["chinese"] + learned["history"]
    mixed = {f"English, {share:.0%} Chinese": english + chinese[: round(len(english) * share / (1 - share))] for share in CHINESE_SHARES}
    return {"code and English": learned["code"] + learned["other"], "English": english, **mixed, "Chinese": chinese}


def measured(tokenizer: "tokenizers.Tokenizer", held: Mapping[str, str]) -> Sequence[Fit]:
    """The fit to each held-out text."""
    documents = [SampledDocument(f"{name}{n}", name, part, "held") for name, text in held.items() for n, part in enumerate(parts(text))]
    return [one for one in measure_fit(Encoder(tokenizer, None, vocabulary_size(tokenizer)), None, documents) if not one.source]


def main() -> None:
    """Print a line for each tokenizer: bytes a token, and share of the text in bytes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("english", "chinese", "history", "other"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    texts = {name: read(path) for name, path in vars(parser.parse_args()).items()}
    texts["code"] = "\n".join(inspect.getsource(module) for module in (ast, inspect, argparse, unittest.case)) * 2
    held, learned = ({name: text[part] for name, text in texts.items()} for part in (slice(HELD), slice(HELD, None)))
    for name, text in mixtures(learned).items():
        for size in SIZES:
            told = (f"{fit.language} {fit.bytes_per_token:.2f} {fit.share:.0%}" for fit in measured(trained(text, size), held))
            print(f"{name:22} {size:6}  {'  '.join(told)}", flush=True)


if __name__ == "__main__":
    main()
