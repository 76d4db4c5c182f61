"""trafilatura at its default settings over a list of pages: run by the interpreter that has it installed.

python trafilatura_peer.py PAGES.json        # ["<html>...", ...] in; {"cpu_seconds": ..., "texts": [...]} out
"""

import json
import sys
import time
from pathlib import Path

import trafilatura


def main() -> None:
    """One pass after a first page that warms up."""
    pages: list[str] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    trafilatura.extract(pages[0])
    start = time.process_time()
    texts = [trafilatura.extract(page) or "" for page in pages]
    seconds = time.process_time() - start
    json.dump({"cpu_seconds": seconds, "texts": texts, "version": trafilatura.__version__}, sys.stdout)


if __name__ == "__main__":
    main()
