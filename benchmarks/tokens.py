"""The figures of tokenizer, shards and loader, against the libraries that do the same, or against a target.

    python benchmarks/tokens.py --data TEXTS --nanogpt NANOGPT --json rows.json
    python benchmarks/tokens.py --quick --rows encode-en,packing

Without --data it works on the installed Python's documentation and on made-up Chinese. Processor seconds of one process with
one thread are compared, pairs taking turns; a ratio above 1 is in our favour; start-up counts for neither side.
`prepare-vs-nanogpt` runs the script of a checkout of nanoGPT, and is left out without one.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # run as a script, Python looks beside it, not where `tasks` and `benchmarks` are

from benchmarks import tokens_encoding, tokens_loader, tokens_memory, tokens_packing, tokens_prepare, tokens_training  # noqa: E402
from benchmarks.corpus import show  # noqa: E402
from benchmarks.corpus_texts import Source  # noqa: E402
from benchmarks.sides import Row  # noqa: E402
from benchmarks.tokens_texts import Material  # noqa: E402

PEER_PACKAGES = ("datatrove==0.10.1", "tokenizers>=0.21", "pyarrow>=18", "orjson")
PREPARE_SCRIPT = Path("data/openwebtext/prepare.py")
ONE_THREAD = {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}  # of the libraries in Rust


@dataclass(frozen=True)
class Scale:
    """How much each row works on."""

    pairs: int
    vocab_size: int
    learned_megabytes: float  # the tokenizer that the rows use
    encode_megabytes: float
    train_megabytes: float
    prepare_megabytes: float
    rows: int  # of 2,049 tokens
    batches: int
    list_batches: int
    shard_rows: int
    packed_documents: int
    memory_tokens: tuple[int, int]


FULL = Scale(3, 32_768, 30.0, 12.0, 30.0, 48.0, 50_000, 3_000, 1_500, 16_384, 1_000_000, (10_000_000, 1_000_000_000))
QUICK = Scale(1, 4_096, 2.0, 1.5, 3.0, 6.0, 4_096, 500, 320, 512, 200_000, (1_000_000, 20_000_000))


@dataclass(frozen=True)
class Settings:
    """What was asked for."""

    scale: Scale
    material: Material
    folder: Path
    peer_python: Path | None
    nanogpt: Path | None

    def datatrove(self) -> Path:
        """The interpreter given for the peer, or that of its environment under .bench, made when missing."""
        if self.peer_python is not None:
            return self.peer_python
        folder = ROOT / ".bench" / "datatrove-tokens"
        python, done = folder / "bin" / "python", folder / "installed"
        if not done.exists():
            print(f"Setting up {folder} for datatrove, once.", file=sys.stderr)
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PEER_PACKAGES], check=True)
            done.touch()
        return python


def encode_en(asked: Settings) -> list[Row]:
    folder, scale = asked.folder / "encode-en", asked.scale
    return [tokens_encoding.row(asked.material, "en", scale.encode_megabytes, folder, scale.pairs)]


def encode_zh(asked: Settings) -> list[Row]:
    folder, scale = asked.folder / "encode-zh", asked.scale
    return [tokens_encoding.row(asked.material, "zh", scale.encode_megabytes, folder, scale.pairs)]


def train_tokenizer(asked: Settings) -> list[Row]:
    folder, scale = asked.folder / "train", asked.scale
    return [tokens_training.row(asked.material, scale.train_megabytes, scale.vocab_size, folder, scale.pairs)]


def batches_vs_memmap(asked: Settings) -> list[Row]:
    folder, scale = asked.folder / "layouts", asked.scale
    return [tokens_loader.memmap_row(asked.material, scale.rows, scale.batches, folder, scale.pairs)]


def batches_vs_list(asked: Settings) -> list[Row]:
    folder, scale = asked.folder / "layouts", asked.scale
    return [tokens_loader.list_row(asked.material, scale.rows, scale.batches, scale.list_batches, folder, scale.pairs)]


def first_batch(asked: Settings) -> list[Row]:
    folder, scale = asked.folder / "first", asked.scale
    return [tokens_loader.first_batch_row(asked.material, scale.shard_rows, folder, scale.pairs)]


def packing(asked: Settings) -> list[Row]:
    return [tokens_packing.row(asked.scale.packed_documents, asked.scale.pairs)]


def memory(asked: Settings) -> list[Row]:
    return tokens_memory.rows(asked.material, asked.scale.memory_tokens, asked.folder / "memory")


def prepare_vs_datatrove(asked: Settings) -> list[Row]:
    folder, scale = asked.folder / "prepare", asked.scale
    python = asked.datatrove()
    return [tokens_prepare.datatrove_row(asked.material, scale.prepare_megabytes, python, folder, scale.pairs)]


def prepare_vs_nanogpt(asked: Settings) -> list[Row]:
    if asked.nanogpt is None:
        print("prepare-vs-nanogpt: left out; needs --nanogpt, a checkout of karpathy/nanoGPT", file=sys.stderr)
        return []
    folder, scale = asked.folder / "prepare", asked.scale
    script = asked.nanogpt / PREPARE_SCRIPT
    return [tokens_prepare.nanogpt_row(asked.material, scale.prepare_megabytes, script, folder, scale.pairs)]


ROWS: dict[str, Callable[[Settings], list[Row]]] = {
    "encode-en": encode_en,
    "encode-zh": encode_zh,
    "train-tokenizer": train_tokenizer,
    "batches-vs-memmap": batches_vs_memmap,
    "batches-vs-list": batches_vs_list,
    "packing": packing,
    "first-batch": first_batch,
    "memory": memory,
    "prepare-vs-datatrove": prepare_vs_datatrove,
    "prepare-vs-nanogpt": prepare_vs_nanogpt,
}
QUICK_ROWS = tuple(name for name in ROWS if not name.startswith("prepare"))  # set up no peer


def main() -> None:
    asked = _parsed()
    os.environ |= ONE_THREAD
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scale = QUICK if asked.quick else FULL
        material = Material(Source(asked.data), folder / "material", scale.vocab_size, scale.learned_megabytes)
        settings = Settings(scale, material, folder, asked.peer_python, asked.nanogpt)
        for wanted in asked.rows.split(",") if asked.rows else (QUICK_ROWS if asked.quick else ROWS):
            for row in ROWS[wanted](settings):
                rows.append(row)
                show(row)
                if asked.json is not None:
                    asked.json.write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", help=f"comma-separated; all: {','.join(ROWS)}")
    parser.add_argument("--data", type=Path, help="folder of texts (.txt, .jsonl, .json, .tsv, each also .gz)")
    parser.add_argument("--peer-python", type=Path, help="an interpreter that has datatrove, tokenizers and pyarrow")
    parser.add_argument("--nanogpt", type=Path, help="a checkout of karpathy/nanoGPT")
    parser.add_argument("--quick", action="store_true", help="little of everything, one pair: no figure to quote")
    parser.add_argument("--json", type=Path, help="file for the rows")
    asked = parser.parse_args()
    unknown = set(asked.rows.split(",") if asked.rows else ()) - set(ROWS)
    if unknown:
        parser.error(f"--rows: {', '.join(sorted(unknown))} unknown; known: {', '.join(ROWS)}")
    if asked.nanogpt is not None and not (asked.nanogpt / PREPARE_SCRIPT).is_file():
        parser.error(f"--nanogpt: {asked.nanogpt} has no {PREPARE_SCRIPT}; name a checkout of karpathy/nanoGPT")
    return asked


if __name__ == "__main__":
    main()
