"""datatrove's tokenizer stage over Parquet tables: run by an interpreter that has datatrove, tokenizers and pyarrow.

python datatrove_tokens.py TABLES FEW TOKENIZER.json END FOLDER

One pipeline, its own reader (of text and id alone) and DocumentTokenizer as it comes: batches of 10,000 documents, an index,
documents shuffled. It runs first over the few documents of FEW, so that nothing is loaded in the measured part.
"""

import json
import shutil
import sys
import time
from pathlib import Path

import pyarrow as pa
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.tokens import DocumentTokenizer


def tokenize(tables: Path, tokenizer: str, end: str, folder: Path) -> None:
    """The stage over one folder of tables, in this process."""
    LocalPipelineExecutor(
        pipeline=[
            ParquetReader(str(tables), glob_pattern="*.parquet", read_metadata=False),
            DocumentTokenizer(str(folder / "tokens"), tokenizer, eos_token=end, seed=1),
        ],
        tasks=1,
        workers=1,
        logging_dir=str(folder / "logs"),
        skip_completed=False,
    ).run()


def main() -> None:
    tables, few, tokenizer, end, folder = Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:5], Path(sys.argv[5])
    shutil.rmtree(folder, ignore_errors=True)
    pa.set_cpu_count(1)
    tokenize(few, tokenizer, end, folder / "few")
    startup = time.process_time()
    tokenize(tables, tokenizer, end, folder / "all")
    seconds = time.process_time() - startup
    written = sum(path.stat().st_size for path in (folder / "all" / "tokens").glob("*.ds"))
    (about,) = (folder / "all" / "tokens").glob("*.metadata")
    tokens = int(about.read_text().splitlines()[1])
    size = sum(int(column.to_numpy().sum()) for column in sizes(tables))
    told = {"bytes": size, "cpu_seconds": seconds, "startup_seconds": startup, "tokens": tokens, "written": written}
    print(json.dumps(told))


def sizes(tables: Path) -> list[pa.ChunkedArray]:
    """The column `bytes` of every table."""
    import pyarrow.parquet as pq

    return [pq.read_table(path, columns=["bytes"])["bytes"] for path in sorted(tables.glob("*.parquet"))]


if __name__ == "__main__":
    main()
