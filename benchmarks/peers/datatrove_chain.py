"""datatrove's clean chain over a file of documents: run by the interpreter that has datatrove.

python datatrove_chain.py DOCUMENTS.jsonl LANGUAGE FOLDER
"""

import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from datatrove.data import Document
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.formatters import FTFYFormatter, PIIFormatter
from datatrove_filters import filters_for
from datatrove_minhash import BEGAN, documents, run_step


def main() -> None:
    path, language, folder = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]) / "peer"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = MinhashConfig()
    cleaned = folder / "cleaned.jsonl"
    counts = {"kept": 0}

    def read(data: object, rank: int, world_size: int) -> Iterator[Document]:
        yield from documents(path)

    def read_cleaned(data: object, rank: int, world_size: int) -> Iterator[Document]:
        yield from documents(cleaned)

    def write(data: Iterator[Document], rank: int, world_size: int) -> Iterator[Document]:
        with cleaned.open("w", encoding="utf-8") as lines:
            for document in data:
                lines.write(json.dumps({"id": document.id, "text": document.text}) + "\n")
                yield document

    def count(data: Iterator[Document], rank: int, world_size: int) -> Iterator[Document]:
        for document in data:
            counts["kept"] += 1
            yield document

    signatures, buckets, removed = (str(folder / name) for name in ("signatures", "buckets", "removed"))
    filters = filters_for(language)
    steps = [filters[name] for name in ("gopher repetition", "gopher quality", "fineweb")]
    run_step([read, FTFYFormatter(), *steps, PIIFormatter(), write], 1, folder / "logs0")
    run_step([read_cleaned, UnloadedSignature(signatures, config, language)], 1, folder / "logs1")
    run_step([MinhashDedupBuckets(signatures, buckets, config=config)], config.num_buckets, folder / "logs2")
    run_step([MinhashDedupCluster(buckets, removed, config)], 1, folder / "logs3")
    run_step([read_cleaned, MinhashDedupFilter(removed), count], 1, folder / "logs4")
    seconds = time.process_time() - BEGAN[0]
    texts = [json.loads(line)["text"] for line in path.open(encoding="utf-8")]
    size = sum(len(text.encode()) for text in texts)
    told = {"bytes": size, "cpu_seconds": seconds, "startup_seconds": BEGAN[0], "kept": counts["kept"] / len(texts)}
    print(json.dumps(told))


class UnloadedSignature(MinhashDedupSignature):
    """Its executor copies each step, and a loaded jieba cannot be copied: the copy shares the segmenter."""

    def __deepcopy__(self, memo: dict[int, object]) -> "UnloadedSignature":
        return self


if __name__ == "__main__":
    main()
