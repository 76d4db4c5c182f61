"""Data contracts of every table that crosses a stage boundary: which columns, and what their values may be.

Tables are read a batch at a time into eager Polars frames, for on lazy ones pandera would check dtypes alone.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.items import SHOWN_CHARACTERS, Statistic
from tasks.ledger import Receipt

if TYPE_CHECKING:
    import pandera.polars as pandera
    import polars as pl
    from polars.datatypes import DataTypeClass

ContractName = Literal[
    "Documents",
    "Dropped",
    "Statistics",
    "Verdicts",
    "Clusters",
    "Matches",
    "Scores",
    "Items",
    "ItemFigures",
    "Decisions",
    "TokenRows",
    "TokenDocuments",
]
LANGUAGE = r"^([a-z]{2,3}|code|und)$"
REASON = r"^[a-z][a-z0-9_]*$"
BATCH_ROWS = 2_000
NARROW_ROWS = 50_000  # of tables without text: each batch costs some ten milliseconds, however small


def check_table(contract: ContractName, path: Path) -> Receipt:
    """Proof that each row of a Parquet file keeps its contract; AssertionError where one does not: see `check_rows`."""
    if contract == "Statistics":
        _check_figures(path, pq.read_schema(path))
    return check_rows(_schema(contract), path)


def check_rows(schema: "pandera.DataFrameSchema", path: Path) -> Receipt:
    """Proof that each row of a Parquet file fits the schema.

    A broken contract is our bug, so it is an AssertionError: file, row (from 0), column, found, expected.
    """
    seen = _Uniqueness(path)
    rows = 0
    for batch in _batches(path):
        _check_encoding(path, rows, batch)
        _check_batch(schema, path, rows, batch)
        if "id" in batch.schema.names:
            seen.add(batch.column("id"))
        rows += batch.num_rows
    seen.check()
    columns = [check for column in schema.columns.values() for check in column.checks]
    return Receipt(str(schema.name), path.name, rows, len(columns) + len(schema.checks or ()) + len(schema.columns) + 1)


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Batches of the file; of an empty one a batch without rows, so that its columns are checked too."""
    with pq.ParquetFile(path) as file:
        if file.metadata.num_rows == 0:
            yield pa.RecordBatch.from_pylist([], schema=file.schema_arrow)
        is_narrow = {"text", "tokens", "prompt"}.isdisjoint(file.schema_arrow.names)
        for group in range(file.num_row_groups):  # one by one, or the reader holds several
            yield from file.iter_batches(batch_size=NARROW_ROWS if is_narrow else BATCH_ROWS, row_groups=[group])


def _check_encoding(path: Path, first_row: int, batch: pa.RecordBatch) -> None:
    """Every string is UTF-8, which also rules out lone surrogates; Polars would take the bytes on trust."""
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid as error:
        raise AssertionError(f"{path}, rows from {first_row}: {error}; expected UTF-8 without lone surrogates") from error


def _check_batch(schema: "pandera.DataFrameSchema", path: Path, first_row: int, batch: pa.RecordBatch) -> None:
    import pandera.errors
    import polars as pl

    frame = pl.from_arrow(pa.table({name: _plain(batch.column(name)) for name in batch.schema.names}))
    assert isinstance(frame, pl.DataFrame)
    try:
        schema.validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as error:
        case = error.failure_cases.row(0, named=True)
        row = "" if case["index"] is None else f", row {first_row + case['index']}"
        raise AssertionError(
            f"{path}{row}: contract {schema.name}, {case['column']}: found {str(case['failure_case'])[:200]}, expected {case['check']}"
        ) from error


def _plain(column: pa.Array) -> pa.Array:
    """A map as the list of entries it is, for not every Polars has maps; of bytes how many, for a message can't hold them."""
    if pa.types.is_fixed_size_binary(column.type):
        width = np.full(len(column), column.type.byte_width, np.int32)
        return pa.array(width, mask=column.is_null().to_numpy(zero_copy_only=False))
    if not pa.types.is_map(column.type):
        return column
    entry = pa.struct([pa.field("key", column.type.key_type, nullable=False), pa.field("value", column.type.item_type)])
    return column.cast(pa.list_(pa.field("entries", entry, nullable=False)))


class _Uniqueness:
    """Ids of one file, eight bytes each: none may occur twice."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._hashes: list[np.ndarray] = []

    def add(self, ids: pa.Array) -> None:
        import polars as pl

        self._hashes.append(pl.Series(ids).cast(pl.String).hash().to_numpy())

    def check(self) -> None:
        if self._hashes:
            hashes = np.concatenate(self._hashes)
            _, first, counts = np.unique(hashes, return_index=True, return_counts=True)
            twice = first[counts > 1]
            assert not len(twice), f"{self.path}, row {twice.min()}: id: found again in a later row, expected unique ids"


def _schema(contract: ContractName) -> "pandera.DataFrameSchema":
    """The pandera schema of a contract. Importing pandera takes a second, hence not at the top."""
    builders: dict[ContractName, Callable[[], pandera.DataFrameSchema]] = {
        "Documents": _documents,
        "Dropped": _dropped,
        "Statistics": _statistics,
        "Verdicts": _verdicts,
        "Clusters": _clusters,
        "Matches": _matches,
        "Scores": _scores,
        "Items": _items,
        "ItemFigures": _item_figures,
        "Decisions": _decisions,
        "TokenRows": _token_rows,
        "TokenDocuments": _token_documents,
    }
    return builders[contract]()


def column(
    dtype: "pl.DataType | DataTypeClass", *checks: "pandera.Check", nullable: bool = False, required: bool = True
) -> "pandera.Column":
    """A column of this type."""
    import pandera.polars as pandera

    return pandera.Column(dtype, list(checks), nullable=nullable, required=required)


def text_column(expected: str = "a non-empty text") -> "pandera.Column":
    """A string column without nulls and empty strings."""
    import pandera.polars as pandera
    import polars as pl

    return column(pl.String, pandera.Check.str_length(min_value=1, error=expected))


def number_column() -> "pandera.Column":
    """A column of finite float64 numbers."""
    import polars as pl

    return column(pl.Float64, _finite())


def label_column(labels: Sequence[str] | None) -> "pandera.Column":
    """A string column of one of the labels, where they are known."""
    import pandera.polars as pandera
    import polars as pl

    if labels is None:
        return text_column("a label")
    return column(pl.String, pandera.Check.isin(labels, error=_one_of(labels)))


def label_check(name: str, labels: Sequence[str] | None, also: Sequence[str] = ()) -> "pandera.Check":
    """The lists of a column hold labels alone, those that are known, or what else may stand for one."""
    import polars as pl

    allowed = pl.element().is_not_null() if labels is None else pl.element().is_in([*labels, *also]).fill_null(False)
    return row_check(pl.col(name).list.eval(allowed).list.all(), "a label" if labels is None else _one_of(labels))


def row_check(expression: "pl.Expr", expected: str) -> "pandera.Check":
    """A check over several columns of a row."""
    import pandera.polars as pandera

    return pandera.Check(lambda data: data.lazyframe.select(expression), error=expected)


def table_schema(name: str, columns: "dict[str, pandera.Column]", *checks: "pandera.Check") -> "pandera.DataFrameSchema":
    """A table of exactly these columns."""
    import pandera.polars as pandera

    return pandera.DataFrameSchema(columns, checks=list(checks), strict=True, name=name)


def _document_columns(least_bytes: int) -> "dict[str, pandera.Column]":
    import pandera.polars as pandera
    import polars as pl

    return {
        "id": text_column("a non-empty id"),
        "text": text_column() if least_bytes else column(pl.String),
        "source": text_column("the source's name"),
        "path": text_column("the file it came from"),
        "language": _language(),
        "bytes": column(pl.Int64, pandera.Check.ge(least_bytes, error=f"{least_bytes} or more")),
        "meta": column(pl.List(pl.Struct({"key": pl.String, "value": pl.String})), nullable=True),
    }


def _byte_check() -> "pandera.Check":
    import polars as pl

    return row_check(pl.col("bytes") == pl.col("text").str.len_bytes(), "bytes equal to the UTF-8 length of text")


def _documents() -> "pandera.DataFrameSchema":
    return table_schema("Documents", _document_columns(1), _byte_check())


def _dropped() -> "pandera.DataFrameSchema":
    """Like Documents, but what was dropped may be empty."""
    import pandera.polars as pandera
    import polars as pl

    added = {
        "stage": text_column("the stage's name"),
        "reason": column(pl.String, pandera.Check.str_matches(REASON, error="a reason like min_chars")),
        "value": column(pl.Float64, _finite(), nullable=True),
    }
    return table_schema("Dropped", {**_document_columns(0), **added}, _byte_check())


def _statistics() -> "pandera.DataFrameSchema":
    """Figures of documents (tasks/kernels/statistics_columns.py): counts are whole and not negative, shares lie in 0..1.

    A check for each kind of figure, not for each column: there are sixty, and pandera takes milliseconds for each. Their
    names and types are compared with the Arrow schema (`_check_figures`).
    """
    import pandera.polars as pandera
    import polars as pl

    from tasks.kernels.statistics_columns import COUNTS, OTHERS, SHARES, UNBOUNDED

    columns = {"id": text_column("a non-empty id"), "source": text_column("the source's name"), "language": _language()}
    bounded = [name for name in SHARES if name not in UNBOUNDED]
    finite = [pl.col(name).is_finite().fill_null(True) for name in (*SHARES, *OTHERS)]
    checks = [
        row_check(pl.all_horizontal(pl.col(list(COUNTS)) >= 0), "counts of 0 or more"),
        row_check(pl.all_horizontal(pl.col(bounded).is_between(0, 1)), "shares in 0..1"),
        row_check(pl.all_horizontal(pl.col(list(UNBOUNDED)) >= 0), "figures per word of 0 or more"),
        row_check(pl.all_horizontal(finite), "finite numbers"),
    ]
    return pandera.DataFrameSchema(columns, checks=checks, strict=False, name="Statistics")


def _check_figures(path: Path, schema: pa.Schema) -> None:
    """The columns of a statistics table: which, in which order, of which type, and which may be null."""
    from tasks.kernels.statistics_columns import COUNTS, OTHERS, SHARES

    expected = [(name, pa.int64(), False) for name in COUNTS] + [(name, pa.float32(), False) for name in SHARES]
    expected += [(name, pa.float32(), True) for name in OTHERS]
    found = [(field.name, field.type, field.nullable) for field in list(schema)[3:]]
    wrong = next((pair for pair in zip_longest(found, expected) if pair[0] != pair[1]), None)
    assert wrong is None, f"{path}: contract Statistics: found column {wrong[0]}, expected {wrong[1]}"


def _share() -> "pandera.Check":
    import pandera.polars as pandera

    return pandera.Check.in_range(0, 1, error="a share in 0..1")


def _language() -> "pandera.Column":
    import pandera.polars as pandera
    import polars as pl

    return column(pl.String, pandera.Check.str_matches(LANGUAGE, error="an ISO 639 code, code or und"))


def _verdicts() -> "pandera.DataFrameSchema":
    """What became of each document so far."""
    import pandera.polars as pandera
    import polars as pl

    columns = {
        "id": text_column("a non-empty id"),
        "kept": column(pl.Boolean),
        "cluster": column(pl.String, nullable=True),
        "stage": column(pl.String, nullable=True),
        "reason": column(pl.String, pandera.Check.str_matches(REASON, error="a reason like min_chars"), nullable=True),
        "value": column(pl.Float64, _finite(), nullable=True),
    }
    told = pl.col("reason").is_null() == pl.col("kept")
    return table_schema("Verdicts", columns, row_check(told, "a reason for each document that is not kept, and for no other"))


def _clusters() -> "pandera.DataFrameSchema":
    import pandera.polars as pandera
    import polars as pl

    columns = {
        "id": text_column("a non-empty id"),
        "root_id": text_column("the id of the cluster's first"),
        "size": column(pl.Int64, pandera.Check.ge(2, error="2 or more")),
        "similarity": column(pl.Float32, _finite(), _share()),
    }
    return table_schema("Clusters", columns)


def _matches() -> "pandera.DataFrameSchema":
    import pandera.polars as pandera
    import polars as pl

    columns = {name: text_column() for name in ("id", "item", "text")}
    columns["units"] = column(pl.Int64, pandera.Check.ge(1, error="1 or more"))
    columns |= {name: column(pl.Float64, _finite(), _share()) for name in ("item_share", "document_share")}
    columns["action"] = column(pl.String, pandera.Check.isin(("drop", "cut", "mark"), error="drop, cut or mark"))
    return table_schema("Matches", columns)


def _finite() -> "pandera.Check":
    import pandera.polars as pandera
    import polars as pl

    return pandera.Check(lambda data: data.lazyframe.select(pl.col(data.key).is_finite()), error="a finite number or null")


def _one_of(labels: Sequence[str]) -> str:
    return f"one of the {len(labels)} labels {', '.join(labels)}"[:300]


def _scores() -> "pandera.DataFrameSchema":
    import pandera.polars as pandera
    import polars as pl

    columns = {name: text_column() for name in ("model", "suite", "task", "metric")}
    columns |= {name: column(pl.Float64, _finite()) for name in ("value", "ci_low", "ci_high")}
    columns["n"] = column(pl.Int64, pandera.Check.ge(1, error="a sample count of 1 or more"))
    columns["seed"] = column(pl.Int64, pandera.Check.ge(0, error="a seed of 0 or more"))
    inside = (pl.col("ci_low") <= pl.col("value")) & (pl.col("value") <= pl.col("ci_high"))
    return table_schema("Scores", columns, row_check(inside, "ci_low <= value <= ci_high"))


def _items() -> "pandera.DataFrameSchema":
    """What models are asked (tasks/items.py)."""
    import pandera.polars as pandera
    import polars as pl

    def shown() -> "pandera.Column":
        return column(pl.String, pandera.Check.str_length(0, SHOWN_CHARACTERS, error=f"{SHOWN_CHARACTERS} characters at most"))

    columns = {name: text_column() for name in ("task", "item", "cluster")}
    columns |= {"source": column(pl.String), "language": _language()}
    columns["bytes"] = column(pl.Int64, pandera.Check.ge(0, error="0 or more"))
    columns |= {name: shown() for name in ("shown", "expected")}
    return table_schema("Items", columns, row_check(pl.struct("task", "item").is_unique(), "each item of a task once"))


def _item_figures() -> "pandera.DataFrameSchema":
    """What each item adds to each figure: as many numbers as its statistic takes."""
    import pandera.polars as pandera
    import polars as pl

    columns = {name: text_column() for name in ("model", "task", "metric")}
    columns["statistic"] = column(pl.String, pandera.Check.isin(get_args(Statistic), error=f"one of {', '.join(get_args(Statistic))}"))
    columns["item"] = text_column()
    columns["answer"] = column(pl.String)
    columns["columns"] = column(pl.List(pl.Float64))
    values = pl.col("columns").list
    fits = pl.when(pl.col("statistic") == "macro_f1").then((values.len() > 0) & (values.len() % 3 == 0)).otherwise(values.len() == 2)
    return table_schema(
        "ItemFigures",
        columns,
        row_check(fits, "two numbers, or for macro_f1 three for each class"),
        row_check(values.eval(pl.element().is_finite().fill_null(False)).list.all(), "finite numbers"),
        row_check(pl.struct("model", "task", "metric", "item").is_unique(), "each item of a figure once"),
    )


def _decisions() -> "pandera.DataFrameSchema":
    """What a promotion was decided by: a comparison or a condition a row. One with items has figures, one without has none."""
    import pandera.polars as pandera
    import polars as pl

    def one_of(*values: str) -> "pandera.Column":
        return column(pl.String, pandera.Check.isin(values, error=_one_of(values).replace("labels ", "")))

    figures = ("challenger", "rival", "gain", "low", "high", "level")
    columns = {name: text_column() for name in ("name", "fingerprint", "task", "reason")}
    columns |= {name: column(pl.String) for name in ("against", "metric", "method")}
    columns["verdict"] = one_of("promoted", "refused", "cannot tell")
    columns["role"] = one_of("deciding", "guard", "base", "condition")
    columns |= {name: column(pl.Int64, pandera.Check.ge(0, error="0 or more")) for name in ("items", "clusters")}
    columns |= {name: column(pl.Float64, _finite(), nullable=True) for name in (*figures, "p", "margin")}
    columns["passed"] = column(pl.Boolean)
    told = [pl.col(name).is_not_null() == (pl.col("items") > 0) for name in figures]
    checks = [
        row_check(pl.all_horizontal(told), "figures where items were compared, and nowhere else"),
        row_check(pl.col("clusters") <= pl.col("items"), "no more clusters than items"),
        row_check((pl.col("low") <= pl.col("gain")) & (pl.col("gain") <= pl.col("high")), "low <= gain <= high"),
        row_check((pl.col("level") > 0) & (pl.col("level") < 1), "a level between 0 and 1"),
        row_check((pl.col("p") > 0) & (pl.col("p") <= 1), "a p above 0, up to 1"),
        row_check((pl.col("role") == "condition") == (pl.col("metric") == ""), "a metric for each comparison, and for no condition"),
        row_check((pl.col("role") == "condition") | (pl.col("margin") >= 0), "a margin of 0 or more"),
    ]
    return table_schema("Decisions", columns, *checks)


def _token_rows() -> "pandera.DataFrameSchema":
    """Rows of a token shard (layout: model/data/shard_reader.py) and their segments."""
    import polars as pl

    columns = {
        "tokens": column(pl.Int32),  # bytes of the row
        "ends": column(pl.List(pl.Int32)),
        "documents": column(pl.List(pl.Int64)),
        "offsets": column(pl.List(pl.Int64)),
    }
    width, ends = pl.col("tokens"), pl.col("ends").list
    checks = [
        row_check((width > 0) & (width == width.first()) & (width % 2 == 0), "rows of one width, in whole tokens"),
        row_check(ends.len() > 0, "1 segment or more"),
        row_check((ends.first() > 0) & (ends.diff().list.min().fill_null(1) > 0), "ends that rise, from 1 on"),
        row_check(ends.last() <= width // 2, "ends within the row"),
        row_check((pl.col("documents").list.len() == ends.len()), "a document for each segment"),
        row_check((pl.col("offsets").list.len() == ends.len()), "an offset for each segment"),
        row_check(pl.col("documents").list.min() >= 0, "document numbers of 0 or more"),
        row_check(pl.col("offsets").list.min() >= 0, "offsets of 0 or more"),
    ]
    return table_schema("TokenRows", columns, *checks)


def _token_documents() -> "pandera.DataFrameSchema":
    """The documents that token rows are made of; a row's number is the document's."""
    import pandera.polars as pandera
    import polars as pl

    columns = {
        "id": text_column("a non-empty id"),
        "source": text_column("the source's name"),
        "language": _language(),
        "bytes": column(pl.Int64, pandera.Check.ge(1, error="1 or more")),
        "tokens": column(pl.Int64),
    }
    tokens = pl.col("tokens")
    return table_schema("TokenDocuments", columns, row_check((tokens == 0) | (tokens > 2), "3 tokens or more, or 0: in no row"))
