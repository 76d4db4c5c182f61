"""Batches, a pure function of the step: whatever stopped a run, it goes on with the batch that comes next.

B rows, T tokens. Which rows a step has: model/data/row_stream.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.config.heads import IGNORED, TARGET_COLUMNS, Targets
from model.data.packed_documents import Documents, find_documents
from model.data.row_stream import RowOrder, RowStream

PAD_MULTIPLE = 8  # few different lengths, and shapes that matrix units like


@dataclass(frozen=True)
class Batch:
    """Rows to train or evaluate on, padded on the right."""

    ids: Tensor  # [B, T] int64; of a seq2seq model the source; of multiple choice [B, N, T]
    targets: Tensor  # [B, T] int64, already shifted for next-token prediction, -100 not scored; or [B]; or float32 [B] or [B, K]
    lengths: Tensor  # [B] int64, tokens of each row that are no padding; of multiple choice [B, N]
    documents: Documents | None = None  # where attention stops at their ends
    token_types: Tensor | None = None  # [B, T] int64
    decoder_ids: Tensor | None = None  # [B, U] int64: the target so far of a seq2seq model; targets are [B, U]
    task: str = ""  # of a multi-task model: the head

    def to(self, device: torch.device) -> "Batch":
        """The same on `device`."""
        return self._each(lambda part: part.to(device, non_blocking=True), None if self.documents is None else self.documents.to(device))

    def pin_memory(self) -> "Batch":
        """The same in page-locked memory, from which a GPU copies while it computes."""
        documents = None if self.documents is None else self.documents.pin_memory()
        return self._each(lambda part: part.pin_memory(), documents)

    def rows(self, start: int, stop: int) -> "Batch":
        """Rows [start, stop)."""
        documents = None if self.documents is None else self.documents.rows(start, stop)
        return self._each(lambda part: part[start:stop], documents)

    def scored(self) -> Tensor:
        """How many targets count: scalar int64. Figures and labels that are numbers all do."""
        if self.targets.is_floating_point():
            return torch.tensor(self.targets.numel())
        return (self.targets != IGNORED).sum()

    def _each(self, change: Callable[[Tensor], Tensor], documents: Documents | None) -> "Batch":
        return Batch(
            change(self.ids),
            change(self.targets),
            change(self.lengths),
            documents,
            None if self.token_types is None else change(self.token_types),
            None if self.decoder_ids is None else change(self.decoder_ids),
            self.task,
        )


class Batches(Protocol):
    """What training reads from; its state is the step."""

    batch_rows: int

    def rows_at(self, step: int) -> NDArray[np.int64]:
        """Row numbers of the global batch of `step`: [batch_rows]."""
        ...

    def batch(self, step: int, start: int, stop: int) -> Batch:
        """Rows [start, stop) of the global batch of `step`, on the CPU."""
        ...

    def evaluation(self, batches: int) -> Iterator[Batch]:
        """The first `batches` batches in the order of the rows; the last may be shorter, and ends the data."""
        ...


def rank_rows(batch_rows: int, rank: int, world: int) -> tuple[int, int]:
    """(start, stop) of the rank's share of a global batch; shares differ by a row at most. ValueError for more processes than rows."""
    if world > batch_rows:
        raise ValueError(f"{world} processes for batches of {batch_rows} rows: some would have none; start {batch_rows} at the most")
    return rank * batch_rows // world, (rank + 1) * batch_rows // world


def micro_slices(start: int, stop: int, most: int, count: int = 0) -> list[tuple[int, int]]:
    """Rows [start, stop) in `count` slices, or (0) in the fewest of at most `most` rows, as equal as can be."""
    rows = stop - start
    count = count or -(-rows // most)
    ends = [start + number * rows // count for number in range(count + 1)]
    return list(pairwise(ends))


class PretrainBatches:
    """The rows of a stream as tensors, each token predicted from those before it.

    What follows <|eos|>, and padding, is no target: the next token of a row belongs to another document there.
    """

    def __init__(self, stream: RowStream, masks_documents: bool = False) -> None:
        """`masks_documents`: attention stops behind <|eos|>, and positions restart."""
        self.stream = stream
        self.masks_documents = masks_documents
        self.batch_rows = stream.batch_rows

    def rows_at(self, step: int) -> NDArray[np.int64]:
        """Row numbers of the global batch of `step`: [batch_rows]."""
        return self.stream.rows_at(step)

    def batch(self, step: int, start: int, stop: int) -> Batch:
        """Rows [start, stop) of the global batch of `step`; under a curriculum each is several shorter ones."""
        return self._read(self.stream.rows_at(step, start, stop), self.stream.context_at(step))

    def evaluation(self, batches: int) -> Iterator[Batch]:
        """The first `batches` batches in the order of the rows; the last may be shorter, and ends the data."""
        for start in range(0, min(batches * self.batch_rows, self.stream.rows), self.batch_rows):
            numbers = np.arange(start, min(start + self.batch_rows, self.stream.rows), dtype=np.int64)
            yield self._read(numbers, self.stream.context)

    def _read(self, numbers: NDArray[np.int64], context: int) -> Batch:
        header, tokens = self.stream.header, self.stream.take(numbers)  # (B, T + 1)
        ids, targets = tokens[:, :-1], tokens[:, 1:].copy()
        if header.eos is not None:
            targets[ids == header.eos] = IGNORED
        ids = np.ascontiguousarray(ids).reshape(-1, context)
        lengths = np.full(len(ids), context, dtype=np.int64)
        if header.pad is not None and header.packing != "concatenate":
            targets[targets == header.pad] = IGNORED
            lengths = (ids != header.pad).sum(axis=1)
        documents = find_documents(starts_of(ids, header.eos)) if self.masks_documents else None
        scored = torch.from_numpy(targets.reshape(-1, context))
        return Batch(torch.from_numpy(ids), scored, torch.from_numpy(lengths), documents)


def starts_of(ids: NDArray[np.int64], eos: int | None) -> NDArray[np.bool_]:
    """Where documents begin in rows [B, T]: at the first token, and behind each `eos`."""
    starts = np.zeros(ids.shape, dtype=np.bool_)
    starts[:, 0] = True
    if eos is not None:
        starts[:, 1:] = ids[:, :-1] == eos
    return starts


class ExampleBatches:
    """Labelled rows for fine-tuning, cut at `context` tokens and padded to the longest of each slice.

    The table has `ids`: list<int32>, of choices a list of as many such lists in every row, and by form of the targets
    - `targets`: list<int32> as long as ids ("next_token": the label for predicting that token, -100 where it is given,
      shifted here; "token_class": the class of that token). With `decoder_ids`: list<int32>, as long as targets, which are
      then what comes next and not shifted, "next_token" is for an encoder-decoder: ids are its source,
    - `label`: int32, the class ("class") or the right choice ("choice"),
    - `flags`: list<int32>, 1 for each label that a row has, else 0 ("labels"),
    - `value`: float ("value").
    Raises ValueError for a table that is none of these.
    """

    def __init__(self, table: pa.Table, targets: Targets, batch_rows: int, seed: int, context: int, pad_id: int) -> None:
        self.targets: Targets = targets
        self.batch_rows = batch_rows
        self.context = context
        self.pad_id = pad_id
        self.examples = table.num_rows
        if self.examples == 0:
            raise ValueError("no examples to train on")
        _check_columns(table, ["ids", TARGET_COLUMNS[targets]])
        self.choices = _same_sizes(table, "ids", "choices") if targets == "choice" else 1
        self._ids = _Lists.read(table["ids"] if self.choices == 1 else _flattened(table["ids"]))
        self._targets = _Lists.read(table["targets"]) if TARGET_COLUMNS[targets] == "targets" else None
        self._begun = _Lists.read(table["decoder_ids"]) if "decoder_ids" in table.column_names else None
        self._labels = _row_labels(table, targets) if self._targets is None else None
        self._order = RowOrder(np.array([self.examples]), seed, 0, None)
        self._lengths = np.minimum(self._ids.sizes(), context).reshape(-1, self.choices).max(axis=1)
        if self._begun is not None:
            self._lengths = self._lengths + np.minimum(self._begun.sizes(), context)
        self._check_lengths()

    def rows_at(self, step: int) -> NDArray[np.int64]:
        """Row numbers of the global batch of `step`, shortest row first, so that little of a slice is padding: [batch_rows]."""
        samples = np.arange(step * self.batch_rows, (step + 1) * self.batch_rows, dtype=np.int64)
        numbers = self._order.numbers(samples)
        return numbers[np.argsort(self._lengths[numbers], kind="stable")]

    def batch(self, step: int, start: int, stop: int) -> Batch:
        """Rows [start, stop) of the global batch of `step`."""
        return self._read(self.rows_at(step)[start:stop])

    def evaluation(self, batches: int) -> Iterator[Batch]:
        """The first `batches` batches in the order of the rows; the last may be shorter, and ends the data."""
        for start in range(0, min(batches * self.batch_rows, self.examples), self.batch_rows):
            yield self._read(np.arange(start, min(start + self.batch_rows, self.examples), dtype=np.int64))

    def _read(self, numbers: NDArray[np.int64]) -> Batch:
        shift = self._shift()
        rows = (numbers[:, None] * self.choices + np.arange(self.choices)).ravel()
        ids = [self._ids.row(row)[: self.context + shift] for row in rows]
        lengths = [len(row) - shift for row in ids]
        padded = self._padded(lengths)
        id_rows = _pad([row[:length] for row, length in zip(ids, lengths, strict=True)], padded, self.pad_id)
        begun = None
        if self._targets is None:
            assert self._labels is not None
            answers = self._labels[numbers]
        else:
            scored = [self._targets.row(number)[: self.context + shift][shift:] for number in numbers]
            if self._begun is not None:
                told = [self._begun.row(number)[: self.context] for number in numbers]
                padded = self._padded([len(row) for row in told])
                begun = torch.from_numpy(_pad(told, padded, self.pad_id))
            answers = _pad(scored, padded, IGNORED)
        id_tensor, sizes = torch.from_numpy(id_rows), torch.tensor(lengths, dtype=torch.int64)
        if self.targets == "choice":
            id_tensor, sizes = id_tensor.view(-1, self.choices, padded), sizes.view(-1, self.choices)
        return Batch(id_tensor, torch.from_numpy(answers), sizes, decoder_ids=begun)

    def _shift(self) -> int:
        """By how much targets stand behind the ids that they belong to: of a text to be continued the last is a target alone."""
        return 1 if self.targets == "next_token" and self._begun is None else 0

    def _padded(self, lengths: list[int]) -> int:
        return min(-(-max(lengths) // PAD_MULTIPLE) * PAD_MULTIPLE, self.context)

    def _check_lengths(self) -> None:
        least = 1 + self._shift()
        sizes = self._ids.sizes()
        if sizes.min() < least:
            raise ValueError(f"example {sizes.argmin() // self.choices}: {sizes.min()} tokens, expected {least} or more")
        name = "ids"
        if self._begun is not None:
            name, sizes = "decoder_ids", self._begun.sizes()
        if self._targets is not None and not np.array_equal(sizes, self._targets.sizes()):
            row = int(np.flatnonzero(sizes != self._targets.sizes())[0])
            raise ValueError(f"example {row}: {sizes[row]} {name}, but {self._targets.sizes()[row]} targets; expected one each")


def _row_labels(table: pa.Table, targets: Targets) -> NDArray[np.int64] | NDArray[np.float32]:
    """One target a row: classes [n] int64, figures [n] float32, or flags [n, K] float32."""
    if targets == "value":
        return table["value"].to_numpy().astype(np.float32)
    if targets == "labels":
        return _Lists.read(table["flags"]).values.astype(np.float32).reshape(-1, _same_sizes(table, "flags", "flags"))
    return table["label"].to_numpy().astype(np.int64)


def _same_sizes(table: pa.Table, column: str, what: str) -> int:
    """How many elements the lists of every row have. Raises ValueError when they differ, or have none."""
    sizes = np.array([len(row) for row in table[column].to_pylist()])
    if sizes.min() < 1 or sizes.min() != sizes.max():
        raise ValueError(f"rows have {sizes.min()} to {sizes.max()} {what}, expected one number of them, 1 or more")
    return int(sizes[0])


def _flattened(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A list less."""
    return pa.chunked_array([chunk.flatten() for chunk in column.chunks])


@dataclass(frozen=True)
class _Lists:
    """A list<int32> column: row i is values[offsets[i] : offsets[i + 1]]."""

    values: NDArray[np.int32]
    offsets: NDArray[np.int64]

    @classmethod
    def read(cls, lists: pa.ChunkedArray) -> "_Lists":
        column = lists.cast(pa.large_list(pa.int32())).combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], pa.large_list(pa.int32()))
        return cls(column.values.to_numpy(), column.offsets.to_numpy())

    def row(self, number: np.int64) -> NDArray[np.int32]:
        return self.values[self.offsets[number] : self.offsets[number + 1]]

    def sizes(self) -> NDArray[np.int64]:
        return np.diff(self.offsets)


def _check_columns(table: pa.Table, names: list[str]) -> None:
    for name in names:
        if name not in table.column_names:
            raise ValueError(f"the table has no column {name!r}; its columns: {', '.join(table.column_names)}")
        if table[name].null_count:
            raise ValueError(f"column {name!r} has {table[name].null_count} empty cells; expected none")


def _pad(rows: list[NDArray[np.int32]], width: int, value: int) -> NDArray[np.int64]:
    padded = np.full((len(rows), width), value, dtype=np.int64)
    for row, tokens in zip(padded, rows, strict=True):
        row[: len(tokens)] = tokens
    return padded
