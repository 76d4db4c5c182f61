"""The corpus engine's figures, against datatrove in its own environment and against our own smaller or serial runs.

    python benchmarks/corpus.py --data TEXTS --json rows.json
    python benchmarks/corpus.py --quick --rows filters-en,minhash-en

Without --data it works on the installed Python's documentation and on made-up Chinese. Rates are megabytes (10^6 bytes of
UTF-8) a CPU second of one process; a ratio above 1 is in our favour; start-up counts for neither side. The peer's
throughput does not depend on how much it reads, so it reads less: --peer-megabytes 50 lets it read as much as we do.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # run as a script, Python looks beside it, not where `tasks` and `benchmarks` are

from benchmarks import corpus_chain, corpus_filters, corpus_minhash, corpus_scale  # noqa: E402
from benchmarks.corpus_texts import Source  # noqa: E402
from benchmarks.sides import Row  # noqa: E402

PEER_PACKAGES = {
    "datatrove": [
        "datatrove[processing]==0.10.1",
        "spacy>=3.8,<4",
        "jieba==0.42.1",
        "ftfy>=6.3,<7",
        "regex",
        "xxhash",
        "nltk",
    ],
    "trafilatura": ["trafilatura==2.3.1", "lxml_html_clean"],
}
PAIRS = 3
PEER_MEGABYTES = {"en": 6.0, "zh": 3.0}
QUICK_MEGABYTES, QUICK_PEER_MEGABYTES = 2.0, 0.2


@dataclass(frozen=True)
class Settings:
    """What was asked for."""

    source: Source
    megabytes: float
    peer_megabytes: dict[str, float]
    peer_python: Path | None
    trafilatura_python: Path | None
    folder: Path
    quick: bool

    @property
    def pairs(self) -> int:
        return 1 if self.quick else PAIRS

    def python(self, peer: str) -> Path:
        """The interpreter given for a peer, or that of its environment under .bench, made when missing."""
        given = self.peer_python if peer == "datatrove" else self.trafilatura_python
        return given or _environment(peer)


def _environment(peer: str) -> Path:
    folder = ROOT / ".bench" / peer
    python = folder / "bin" / "python"
    done = folder / "installed"
    if not done.exists():
        print(f"Setting up {folder} for {peer}, once.", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PEER_PACKAGES[peer]], check=True)
        done.touch()
    return python


def filters_en(asked: Settings) -> list[Row]:
    return [_filters(asked, "en")]


def filters_zh(asked: Settings) -> list[Row]:
    return [_filters(asked, "zh")]


def _filters(asked: Settings, language: corpus_filters.Language) -> Row:
    return corpus_filters.row(
        asked.source,
        language,
        asked.megabytes,
        asked.peer_megabytes[language],
        asked.python("datatrove"),
        asked.folder / f"filters-{language}",
        asked.pairs,
    )


def filters_whitespace(asked: Settings) -> list[Row]:
    return [
        corpus_filters.whitespace_row(
            asked.source,
            asked.megabytes,
            asked.peer_megabytes["en"],
            asked.python("datatrove"),
            asked.folder / "whitespace",
            asked.pairs,
            100 if asked.quick else corpus_filters.DECIDED,
        )
    ]


def minhash_en(asked: Settings) -> list[Row]:
    return [_minhash(asked, "en")]


def minhash_zh(asked: Settings) -> list[Row]:
    return [_minhash(asked, "zh")]


def _minhash(asked: Settings, language: corpus_filters.Language) -> Row:
    return corpus_minhash.row(
        asked.source,
        language,
        asked.megabytes,
        asked.peer_megabytes[language],
        asked.python("datatrove"),
        asked.folder / f"minhash-{language}",
        asked.pairs,
        8 if asked.quick else 250,
    )


def clean_chain(asked: Settings) -> list[Row]:
    return corpus_chain.rows(
        asked.source, asked.megabytes, asked.peer_megabytes, asked.python("datatrove"), asked.folder / "chain", asked.pairs
    )


def pii(asked: Settings) -> list[Row]:
    from benchmarks import pii_speed

    texts = [text for language in ("en", "zh") for text in asked.source.at_least(language, asked.megabytes / 2)[0]]
    return [cast(Row, pii_speed.row(texts, asked.quick))]


def html(asked: Settings) -> list[Row]:
    from benchmarks import html_extraction

    if asked.source.folder is None:
        print("html: needs --data, a folder with article_html and web_html_multilang", file=sys.stderr)
        return []
    return [cast(Row, html_extraction.row(asked.source.folder, asked.python("trafilatura"), asked.quick))]


def placement(asked: Settings) -> list[Row]:
    return [corpus_scale.placement_row(asked.source, asked.megabytes, asked.folder / "placement", asked.pairs)]


def growth(asked: Settings) -> list[Row]:
    return [corpus_scale.growth_row(asked.source, asked.megabytes, asked.folder / "growth", asked.pairs)]


ROWS: dict[str, Callable[[Settings], list[Row]]] = {
    "filters-en": filters_en,
    "filters-zh": filters_zh,
    "filters-whitespace": filters_whitespace,
    "minhash-en": minhash_en,
    "minhash-zh": minhash_zh,
    "clean-chain": clean_chain,
    "pii": pii,
    "html": html,
    "placement": placement,
    "growth": growth,
}
QUICK_ROWS = ("filters-en", "filters-zh", "minhash-en", "minhash-zh", "pii")


def show(row: Row) -> None:
    """One line of the figures, then what else there is to say."""
    print(f"{row['name']}: {row['ours']:.4g} against {row['peer']:.4g} ({row['peer_name']}), {row['unit']}: {row['ratio']:.4g}x")
    for name, value in row.items():
        if name not in ("name", "ours", "peer", "peer_name", "unit", "ratio"):
            print(f"    {name}: {_brief(value)}")


def _brief(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_brief(entry)}" for name, entry in value.items())
    return str(value)


def main() -> None:
    asked = _parsed()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        settings = _settings(asked, Path(folder))
        for name in asked.rows.split(",") if asked.rows else (QUICK_ROWS if asked.quick else ROWS):
            for row in ROWS[name](settings):
                rows.append(row)
                show(row)
                if asked.json is not None:
                    asked.json.write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", help=f"comma-separated; all: {','.join(ROWS)}")
    parser.add_argument("--data", type=Path, help="folder of texts (.txt, .jsonl, .json, .tsv, each also .gz)")
    parser.add_argument("--megabytes", type=float, help="of text a language for our side; 50")
    parser.add_argument("--peer-megabytes", type=float, help="of text for the peer; 6 English, 3 Chinese")
    parser.add_argument("--peer-python", type=Path, help="an interpreter that has datatrove, spaCy and jieba")
    parser.add_argument("--trafilatura-python", type=Path, help="an interpreter that has trafilatura 2")
    parser.add_argument("--quick", action="store_true", help="little text, one pair: under a minute, no figure to quote")
    parser.add_argument("--json", type=Path, help="file for the rows")
    asked = parser.parse_args()
    unknown = set(asked.rows.split(",") if asked.rows else ()) - set(ROWS)
    if unknown:
        parser.error(f"--rows: {', '.join(sorted(unknown))} unknown; known: {', '.join(ROWS)}")
    return asked


def _settings(asked: argparse.Namespace, folder: Path) -> Settings:
    megabytes = asked.megabytes or (QUICK_MEGABYTES if asked.quick else 50.0)
    limits: dict[str, float] = dict.fromkeys(PEER_MEGABYTES, QUICK_PEER_MEGABYTES) if asked.quick else PEER_MEGABYTES
    if asked.peer_megabytes is not None:
        limits = dict.fromkeys(PEER_MEGABYTES, float(asked.peer_megabytes))
    return Settings(Source(asked.data), megabytes, limits, asked.peer_python, asked.trafilatura_python, folder, asked.quick)


if __name__ == "__main__":
    main()
