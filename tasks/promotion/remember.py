"""Model memory, written: what a model learned from and what it is judged on, in bounds, to travel with it through the registry."""

import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from tasks.artifacts import Corpus, Examples, FinetunedModel, ModelMemory, PretrainedModel
from tasks.contracts import check_rows
from tasks.documents import TableWriter, read_batches
from tasks.errors import UserError
from tasks.examples.examples import leak_key
from tasks.examples.kinds.kind import LabelledExamples
from tasks.examples.rows import read_examples, stored_examples
from tasks.items import Asked, Judge
from tasks.ledger import Ledger, Receipt, StageOutcome
from tasks.memory import DOCUMENTS_SEEN, FOLDER, Memory, memory_of, seen_contract
from tasks.sampling import hash_keys, sample_documents
from tasks.settings import Section

logger = logging.getLogger("wordmill")

ANCHORED = "general text"  # what people read of the anchor


class MemoryConfig(Section):
    """How much of what a model learned from and is judged on travels with it; what there is more of is chosen by hash."""

    revision: Literal[1] = 1
    validation_documents: int = Field(default=256, ge=1, description="held-out documents, at most")
    validation_bytes: int = Field(default=4_096, ge=64, description="of each: its beginning")
    text_bytes: int = Field(default=2_000_000, ge=0, description="of training text, in the mixture that the corpus has")
    text_document_bytes: int = Field(default=16_384, ge=64, description="of each document of it: its beginning")
    train_rows: int = Field(default=20_000, ge=1, description="labelled examples that were learned, of each task")
    heldout_rows: int = Field(default=2_000, ge=1, description="held-out examples, of each task")
    seed: int = Field(default=1, ge=0, lt=2**31, description="of the choice")


def remember(
    config: MemoryConfig,
    model: PretrainedModel | FinetunedModel,
    corpus: Corpus | None,
    base: PretrainedModel | ModelMemory | None,
    examples: Mapping[str, Examples],
    out: Path,
    judge: Judge,
    begins: bool = True,
) -> StageOutcome:
    """Write `memory/` (form: tasks/memory.py): a pretrained model's from its `corpus`, a tuned one's from its `base` and `examples`.

    One that learned a corpus after its base remembers both, in equal parts as far as there is text.

    The figures of the anchor are those of the model that `begins` a line, where it writes; its successors carry them on unchanged.
    `base` is what has the base's memory in its folder: a champion, or the memory that was written for it.
    """
    folder = out / FOLDER
    folder.mkdir()
    receipts: list[Receipt] = []
    before = None if base is None else memory_of(base.path)
    if before is not None:
        shutil.copytree(before.folder, folder, dirs_exist_ok=True)
    if corpus is not None:
        receipts += _remember_corpus(config, corpus, folder)
    if begins:
        _anchor(config, model.path / "model", folder, judge)
    for name, learned in sorted(examples.items()):
        receipts += _remember_examples(config, learned.path, None if before is None else before.examples.get(name), folder, name)
    return StageOutcome(Ledger(rows_out=1), tuple(receipts), _figures(Memory(folder)))


def _anchor(config: MemoryConfig, model: Path, folder: Path, judge: Judge) -> None:
    """anchor/: what the model scores on the held-out text; none of a model that has no figure on text."""
    shutil.rmtree(folder / "anchor", ignore_errors=True)
    texts = Memory(folder).validation
    if texts is None:
        return
    (folder / "anchor").mkdir()
    try:
        judge(model, Asked(ANCHORED, config.validation_documents, documents=texts), folder / "anchor")
    except UserError as error:
        logger.info("memory: no figures of held-out text are kept: %s", error)
        shutil.rmtree(folder / "anchor")


def _figures(memory: Memory) -> dict[str, float]:
    """How many rows of each table."""
    tables = [path for path in (memory.validation, memory.text) if path is not None]
    tables += [one / f"{split}.parquet" for one in memory.examples.values() for split in ("train", "heldout")]
    names = [path.relative_to(memory.folder).with_suffix("").as_posix().replace("/", ".") for path in tables]
    return {f"rows.{name}": float(pq.read_metadata(path).num_rows) for name, path in zip(names, tables, strict=True)}


def _remember_corpus(config: MemoryConfig, corpus: Corpus, folder: Path) -> list[Receipt]:
    """validation.parquet, text.parquet; of what the base remembered before as much as of the corpus."""
    before = Memory(folder)
    judged = _validation_rows(config, corpus.path)
    judged = _shared(judged, _rows_before(before.validation), config.validation_documents, lambda row: 1, config.seed)
    sample = sample_documents(corpus.path, "train-*.parquet", config.text_bytes, config.seed, False, config.text_document_bytes)
    rows = [{"id": one.id, "source": one.source, "language": one.language, "text": one.text} for one in sample if one.text]
    learned = _shared(rows, _rows_before(before.text), config.text_bytes, lambda row: len(row["text"].encode()), config.seed)
    _write_documents(judged, folder / "validation.parquet")
    _write_documents(learned, folder / "text.parquet")
    return [check_rows(seen_contract(), folder / name) for name in ("validation.parquet", "text.parquet")]


Row = dict[str, str]


def _rows_before(path: Path | None) -> list[Row]:
    return [] if path is None else pq.read_table(path, columns=["id", "source", "language", "text"]).to_pylist()


def _shared(now: list[Row], before: Sequence[Row], budget: int, cost: Callable[[Row], int], seed: int) -> list[Row]:
    """Rows of both for half the budget each, and what one leaves of its half goes to the other; each id once, that of now."""
    if not before:
        return now
    known = {row["id"] for row in now}
    old = [row for row in before if row["id"] not in known]
    of_now, of_old = (sum(map(cost, rows)) for rows in (now, old))
    shares = max(budget // 2, budget - of_old), max(budget // 2, budget - of_now)
    return [row for rows, share in zip((now, old), shares, strict=True) for row in _within(rows, share, cost, seed)]


def _within(rows: Sequence[Row], budget: int, cost: Callable[[Row], int], seed: int) -> list[Row]:
    """Those of the lowest hashes that the budget pays for."""
    order = np.argsort(hash_keys([row["id"] for row in rows], seed), kind="stable").tolist()
    ends = np.cumsum([cost(rows[number]) for number in order]).tolist()
    return [rows[number] for number, end in zip(order, ends, strict=True) if end <= budget]


def _validation_rows(config: MemoryConfig, corpus: Path) -> list[dict[str, str]]:
    """The beginnings of the held-out documents with the lowest hashes, lowest first."""
    table = pa.Table.from_batches(
        [batch.select(["id", "source", "language", "text"]) for batch in read_batches(corpus, "validation.parquet")]
    )
    keys = hash_keys(table["id"].to_pylist(), config.seed)
    lowest = np.argsort(keys, kind="stable")[: config.validation_documents]
    rows = table.take(pa.array(lowest)).to_pylist()
    return [{**row, "text": row["text"].encode()[: config.validation_bytes].decode(errors="ignore")} for row in rows]


def _write_documents(rows: Sequence[dict[str, str]], path: Path) -> None:
    with TableWriter(path, DOCUMENTS_SEEN) as file:
        file.write(pa.RecordBatch.from_pylist([{**row, "bytes": len(row["text"].encode())} for row in rows], DOCUMENTS_SEEN))


def _remember_examples(config: MemoryConfig, learned: Path, before: Path | None, folder: Path, name: str) -> list[Receipt]:
    """examples/<name>/: what was learned now and, where it fits, before; a question that was answered anew has its new answer."""
    target = folder / "examples" / name
    target.mkdir(parents=True, exist_ok=True)
    train, judged = read_examples(learned, "train"), read_examples(learned, "heldout")
    earlier = None if before is None else (read_examples(before, "train"), read_examples(before, "heldout"))
    heldout = _joined(judged, None if earlier is None else earlier[1], train)
    whole = _joined(train, None if earlier is None else earlier[0], replace(judged, table=heldout))
    for table, most, split in ((whole, config.train_rows, "train"), (heldout, config.heldout_rows, "heldout")):
        with TableWriter(target / f"{split}.parquet", table.schema) as file:
            for batch in lowest_rows(table, most, config.seed).to_batches():
                file.write(batch)
    (target / "labels.json").write_text(json.dumps(list(train.labels), ensure_ascii=False) + "\n", encoding="utf-8")
    contract = train.kind.contract(train.labels or None)
    return [check_rows(contract, target / f"{split}.parquet") for split in ("train", "heldout")]


def leak_keys(examples: LabelledExamples) -> list[str]:
    """See `leak_key`, row by row."""
    return [leak_key(examples.kind, one) for one in stored_examples(examples)]


def _joined(now: LabelledExamples, before: LabelledExamples | None, elsewhere: LabelledExamples) -> pa.Table:
    """Rows of now, and those of before with labels that are known still, whose question is neither among them nor on the other side."""
    if before is None or before.kind is not now.kind:
        return now.table
    taken, known, names = {*leak_keys(now), *leak_keys(elsewhere)}, set(now.labels), now.kind.labels
    kept = [
        number
        for number, one in enumerate(stored_examples(before))
        if leak_key(now.kind, one) not in taken and (names is None or known.issuperset(names(one.values)))
    ]
    return pa.concat_tables([now.table, before.table.take(pa.array(kept, pa.int64())).cast(now.table.schema)])


def lowest_rows(table: pa.Table, most: int, seed: int) -> pa.Table:
    """The `most` rows whose ids have the lowest hashes, lowest first: a sample that is the same however the rows came in."""
    keys = hash_keys(table["id"].to_pylist(), seed)
    return table.take(pa.array(np.argsort(keys, kind="stable")[:most])).combine_chunks()
