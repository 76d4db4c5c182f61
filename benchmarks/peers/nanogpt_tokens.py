"""nanoGPT's data/openwebtext/prepare.py over a folder of Parquet tables instead of its download.

python nanogpt_tokens.py PREPARE.py TABLES TOKENIZER_FOLDER FOLDER

The script runs as it is, from a copy in FOLDER, beside which it writes. Four things reach it from here: `load_dataset` gives
the column `text` of TABLES; `get_encoding` gives the vocabulary and pattern of our tokenizer; `map` stays in this process
instead of starting eight; and the validation split is 1,024 documents, for 0.05 % of few documents would leave empty some
of the 1,024 parts in which the script writes each split, and end it. It runs twice over 2,048 documents first, once to warm
up and once to measure what does not grow with the text.
"""

import json
import os
import runpy
import shutil
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = 1_024  # in which the script writes each split


def main() -> None:
    script, tables, tokenizer, folder = (Path(argument).absolute() for argument in sys.argv[1:5])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ |= {"HF_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    sys.path.insert(0, str(ROOT))
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    pa.set_cpu_count(1)
    (table,) = tables.glob("*.parquet")
    few = folder / "few.parquet"
    pq.write_table(pq.read_table(table).slice(0, 2 * PARTS), few)
    script_runs = Script(script, tokenizer, folder)
    script_runs.over(few)
    few_begun, _, _, few_end = script_runs.over(few)
    startup = time.process_time()
    begun, loaded, mapped, end = script_runs.over(table)
    size, few_size = (int(pq.read_table(path, columns=["bytes"])["bytes"].to_numpy().sum()) for path in (table, few))
    seconds, few_seconds = end - begun, few_end - few_begun
    told = {
        "bytes": size,
        "cpu_seconds": seconds,
        "startup_seconds": startup,
        "tokens": sum(len(np.memmap(folder / f"{name}.bin", np.uint16, "r")) for name in ("train", "val")),
        "load_seconds": loaded - begun,
        "map_seconds": mapped - loaded,
        "write_seconds": end - mapped,
        "rate_beyond_few": (size - few_size) / 1e6 / (seconds - few_seconds),
    }
    print(json.dumps(told))


class Script:
    """The script, and the names of its libraries through which it gets our text and our vocabulary."""

    def __init__(self, script: Path, tokenizer: Path, folder: Path) -> None:
        import datasets
        import tiktoken

        from tasks.tokenizer.encoding import open_encoder

        fast = open_encoder(tokenizer).fast
        assert fast is not None, "this tokenizer has no tiktoken form"
        end = open_encoder(tokenizer).tokenizer.token_to_id("<|eos|>")
        encoding = tiktoken.Encoding(
            "gpt2", pat_str=fast._pat_str, mergeable_ranks=fast._mergeable_ranks, special_tokens={"<|endoftext|>": end}
        )
        self._copy = shutil.copy(script, folder / "prepare.py")
        self._moments: list[float] = []
        load, split, apply = datasets.load_dataset, datasets.Dataset.train_test_split, datasets.Dataset.map

        def load_dataset(name: str, num_proc: int) -> datasets.DatasetDict:
            self._moments.append(time.process_time())
            loaded = load("parquet", data_files=str(self._table), columns=["text"])
            self._moments.append(time.process_time())
            return loaded

        def train_test_split(one: datasets.Dataset, test_size: float, seed: int, shuffle: bool) -> datasets.DatasetDict:
            return split(one, test_size=PARTS, seed=seed, shuffle=shuffle)

        def map_alone(one: datasets.Dataset, function: object, num_proc: int, **options: object) -> datasets.Dataset:
            mapped = apply(one, function, **options)
            self._mapped = time.process_time()
            return mapped

        datasets.disable_caching()  # or `map` would take the second run's result from the first
        tiktoken.get_encoding = lambda name: encoding
        datasets.load_dataset = load_dataset
        datasets.Dataset.train_test_split = train_test_split
        datasets.Dataset.map = map_alone

    def over(self, table: Path) -> tuple[float, float, float, float]:
        """Run it; processor seconds at which it began to load, had loaded, had encoded both splits, and was done."""
        self._table = table
        self._moments.clear()
        runpy.run_path(str(self._copy), run_name="__main__")
        begun, loaded = self._moments
        return begun, loaded, self._mapped, time.process_time()


if __name__ == "__main__":
    main()
