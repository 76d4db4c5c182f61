"""Main text of HTML pages: ours against trafilatura 2 at its default settings, in quality and in processor time.

Quality: words are the runs of `\\w` in a text, upper and lower case apart; precision and recall compare the multiset of
words found with that of the page's article, F1 is their harmonic mean, and the figure is the mean F1 over the pages. For the
second set it is the share of strings kept of those that must be, and of those absent that must not be there.

Time: processor seconds of one process for one pass over the article pages after one page of warming up. Each run starts a
fresh process; ours and the peer take turns; the medians are compared.

    python -m benchmarks.html_extraction PAGES.json       # ours, as benchmarks/peers/trafilatura_peer.py is the peer
"""

import gzip
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypedDict

ROOT: Final = Path(__file__).parents[1]
WORD: Final = re.compile(r"\w+")
RUNS: Final = 5
QUICK_PAGES: Final = 12


class HtmlRow(TypedDict):
    """Speeds in megabytes (10^6) of HTML per processor second; shares from 0 to 1."""

    name: str
    ours: float
    peer: float
    peer_name: str
    ratio: float
    unit: str
    runs: int
    pages: int
    f1_ours: float
    f1_peer: float
    kept_ours: float
    kept_peer: float
    absent_ours: float
    absent_peer: float


@dataclass(frozen=True)
class Expected:
    """A page of the second set: strings its main text must hold, and strings it must not."""

    html: str
    kept: Sequence[str]
    absent: Sequence[str]


@dataclass(frozen=True)
class Pass:
    """What one process made of a list of pages."""

    cpu_seconds: float
    texts: Sequence[str]
    version: str


def row(data: Path, peer_python: Path, quick: bool) -> HtmlRow:
    """Both readers over `data`/article_html and `data`/web_html_multilang; `quick` is one run over a few pages."""
    pages, articles = article_pages(data / "article_html")
    if quick:
        pages, articles = pages[:QUICK_PAGES], articles[:QUICK_PAGES]
    ours_command = [sys.executable, "-m", "benchmarks.html_extraction"]
    peer_command = [str(peer_python), str(ROOT / "benchmarks" / "peers" / "trafilatura_peer.py")]
    ours: list[Pass] = []
    peer: list[Pass] = []
    for _ in range(1 if quick else RUNS):
        ours.append(passed(ours_command, pages))
        peer.append(passed(peer_command, pages))
    expected = expected_pages(data / "web_html_multilang")
    shares = [
        kept_and_absent(passed(command, [page.html for page in expected]).texts, expected) for command in (ours_command, peer_command)
    ]
    size = sum(len(page.encode()) for page in pages) / 1e6
    ours_seconds = statistics.median(run.cpu_seconds for run in ours)
    peer_seconds = statistics.median(run.cpu_seconds for run in peer)
    return {
        "name": "html",
        "ours": size / ours_seconds,
        "peer": size / peer_seconds,
        "peer_name": f"trafilatura {peer[0].version}",
        "ratio": peer_seconds / ours_seconds,
        "unit": "MB of HTML per CPU second",
        "runs": len(ours),
        "pages": len(pages),
        "f1_ours": mean_f1(ours[0].texts, articles),
        "f1_peer": mean_f1(peer[0].texts, articles),
        "kept_ours": shares[0][0],
        "kept_peer": shares[1][0],
        "absent_ours": shares[0][1],
        "absent_peer": shares[1][1],
    }


def article_pages(folder: Path) -> tuple[list[str], list[str]]:
    """Pages and their articles, in the order of their names."""
    truth = json.loads((folder / "ground-truth.json").read_text(encoding="utf-8"))
    names = sorted(truth)
    pages = [gzip.decompress((folder / "html" / f"{name}.html.gz").read_bytes()).decode("utf-8", "replace") for name in names]
    return pages, [truth[name]["articleBody"] for name in names]


def expected_pages(folder: Path) -> list[Expected]:
    """Pages with strings; a page that is not UTF-8 is ISO-8859-1."""
    found: list[Expected] = []
    for name, strings in sorted(json.loads((folder / "expected.json").read_text(encoding="utf-8")).items()):
        raw = gzip.decompress((folder / "html" / f"{name}.gz").read_bytes())
        try:
            html = raw.decode("utf-8")
        except UnicodeDecodeError:
            html = raw.decode("iso-8859-1")
        found.append(Expected(html, strings["with"], strings["without"]))
    return found


def passed(command: Sequence[str], pages: Sequence[str]) -> Pass:
    """One run of a reader in its own process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pages.json"
        path.write_text(json.dumps(pages), encoding="utf-8")
        done = subprocess.run([*command, str(path)], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return Pass(**json.loads(done.stdout))


def mean_f1(texts: Sequence[str], articles: Sequence[str]) -> float:
    """Mean over the pages."""
    return statistics.mean(f1(text, article) for text, article in zip(texts, articles, strict=True))


def f1(text: str, article: str) -> float:
    """2 x words in common / (words found + words of the article)."""
    found, wanted = Counter(WORD.findall(text)), Counter(WORD.findall(article))
    both = (found & wanted).total()
    return 2 * both / (found.total() + wanted.total()) if both else 0.0


def kept_and_absent(texts: Sequence[str], expected: Sequence[Expected]) -> tuple[float, float]:
    """Share of strings kept of those that must be, and absent of those that must be."""
    kept = [string in text for text, page in zip(texts, expected, strict=True) for string in page.kept]
    absent = [string not in text for text, page in zip(texts, expected, strict=True) for string in page.absent]
    return statistics.mean(kept), statistics.mean(absent)


def main() -> None:
    """Ours: one pass after a first page that warms up."""
    from tasks.html.page_text import main_text

    pages: list[str] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    main_text(pages[0])
    start = time.process_time()
    texts = [main_text(page).text for page in pages]
    seconds = time.process_time() - start
    json.dump({"cpu_seconds": seconds, "texts": texts, "version": "ours"}, sys.stdout)


if __name__ == "__main__":
    main()
