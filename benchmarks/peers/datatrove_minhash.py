"""datatrove's four MinHash stages over a file of documents: run by the interpreter that has datatrove.

python datatrove_minhash.py DOCUMENTS.jsonl LANGUAGE FOLDER [CLUSTERS.json]

Start-up is what passes before the second document is asked for: the word segmenter loads with the first. The tokenizer must
not be used before, for the executor copies the pipeline and cannot copy a loaded jieba.
"""

import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig

BEGAN: list[float] = []


def documents(path: Path) -> Iterator[Document]:
    """The file's documents; the time at which the second is asked for is noted."""
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            entry = json.loads(line)
            yield Document(text=entry["text"], id=entry["id"])
            if number == 0 and not BEGAN:
                BEGAN.append(time.process_time())


def run_step(pipeline: list[object], tasks: int, logs: Path) -> None:
    """One stage, one rank after another in this process."""
    LocalPipelineExecutor(pipeline=pipeline, tasks=tasks, workers=1, logging_dir=str(logs), skip_completed=False).run()


def main() -> None:
    path, language, folder = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]) / "peer"
    wants_clusters = len(sys.argv) > 4
    shutil.rmtree(folder, ignore_errors=True)
    config = MinhashConfig()

    def read(data: object, rank: int, world_size: int) -> Iterator[Document]:
        yield from documents(path)

    def write(data: Iterator[Document], rank: int, world_size: int) -> Iterator[Document]:
        with (folder / "kept.jsonl").open("w", encoding="utf-8") as lines:
            for document in data:
                lines.write(json.dumps({"id": document.id}) + "\n")
                yield document

    signatures, buckets, removed = (str(folder / name) for name in ("signatures", "buckets", "removed"))
    run_step([read, MinhashDedupSignature(signatures, config, language)], 1, folder / "logs1")
    run_step([MinhashDedupBuckets(signatures, buckets, config=config)], config.num_buckets, folder / "logs2")
    run_step([MinhashDedupCluster(buckets, removed, config, save_cluster_id=wants_clusters)], 1, folder / "logs3")
    run_step([read, MinhashDedupFilter(removed), write], 1, folder / "logs4")
    seconds = time.process_time() - BEGAN[0]
    if wants_clusters:
        Path(sys.argv[4]).write_text(json.dumps(roots(path, Path(removed))))
    texts = [json.loads(line)["text"] for line in path.open(encoding="utf-8")]
    size = sum(len(text.encode()) for text in texts)
    print(json.dumps({"bytes": size, "cpu_seconds": seconds, "startup_seconds": BEGAN[0]}))


def roots(path: Path, removed: Path) -> list[int]:
    """For each document the number of its cluster: that of its first member."""
    count = sum(1 for _ in path.open(encoding="utf-8"))
    found = list(range(count))
    firsts: dict[int, int] = {}
    for file in removed.glob("*.clusters"):
        data = memoryview(file.read_bytes()).cast("I")
        for number, cluster in zip(data[0::2], data[1::2], strict=True):
            found[number] = firsts.setdefault(cluster, number)
    return found


if __name__ == "__main__":
    main()
