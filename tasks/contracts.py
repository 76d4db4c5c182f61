"""The contract of every table that crosses a stage boundary: which columns, and what their values may be.

Tables are read a batch at a time into eager Polars frames, for on lazy ones pandera would check dtypes alone.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

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
    "InstructionExamples",
    "ClassificationExamples",
    "MultiLabelExamples",
    "RegressionExamples",
    "TokenLabelExamples",
    "ChoiceExamples",
    "Scores",
    "TokenRows",
    "TokenDocuments",
]
LANGUAGE = r"^([a-z]{2,3}|code|und)$"
REASON = r"^[a-z][a-z0-9_]*$"
BATCH_ROWS = 2_000
NARROW_ROWS = 50_000  # of tables without text: each batch costs some ten milliseconds, however small


def check_table(contract: ContractName, path: Path, labels: Sequence[str] | None = None) -> Receipt:
    """Proof that each row of a Parquet file keeps its contract; `labels` is the label set of labelled examples.

    A broken contract is our bug, so it is an AssertionError: file, row (from 0), column, found, expected.
    """
    schema = _schema(contract, labels)
    seen = _Uniqueness(path)
    rows = 0
    if contract == "Statistics":
        _check_figures(path, pq.read_schema(path))
    for batch in _batches(path):
        _check_encoding(path, rows, batch)
        _check_batch(schema, path, rows, batch)
        if "id" in batch.schema.names:
            seen.add(batch.column("id"))
        rows += batch.num_rows
    seen.check()
    columns = [check for column in schema.columns.values() for check in column.checks]
    return Receipt(contract, path.name, rows, len(columns) + len(schema.checks or ()) + len(schema.columns) + 1)


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
        raise AssertionError(
            f"{path}, rows from {first_row}: {error}; expected UTF-8 without lone surrogates"
        ) from error


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
            f"{path}{row}: contract {schema.name}, {case['column']}: found {str(case['failure_case'])[:200]}, "
            f"expected {case['check']}"
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
            assert not len(twice), (
                f"{self.path}, row {twice.min()}: id: found again in a later row, expected unique ids"
            )


def _schema(contract: ContractName, labels: Sequence[str] | None) -> "pandera.DataFrameSchema":
    """The pandera schema of a contract. Importing pandera takes a second, hence not at the top."""
    builders: dict[ContractName, Callable[[], pandera.DataFrameSchema]] = {
        "Documents": _documents,
        "Dropped": _dropped,
        "Statistics": _statistics,
        "Verdicts": _verdicts,
        "Clusters": _clusters,
        "Matches": _matches,
        "InstructionExamples": _instruction_examples,
        "ClassificationExamples": lambda: _classification_examples(labels),
        "MultiLabelExamples": lambda: _multi_label_examples(labels),
        "RegressionExamples": _regression_examples,
        "ChoiceExamples": _choice_examples,
        "TokenLabelExamples": lambda: _token_label_examples(labels),
        "Scores": _scores,
        "TokenRows": _token_rows,
        "TokenDocuments": _token_documents,
    }
    return builders[contract]()


def _column(
    dtype: "pl.DataType | DataTypeClass", *checks: "pandera.Check", nullable: bool = False, required: bool = True
) -> "pandera.Column":
    import pandera.polars as pandera

    return pandera.Column(dtype, list(checks), nullable=nullable, required=required)


def _text(expected: str = "a non-empty text") -> "pandera.Column":
    """A string column without nulls and empty strings."""
    import pandera.polars as pandera
    import polars as pl

    return _column(pl.String, pandera.Check.str_length(min_value=1, error=expected))


def _rows(expression: "pl.Expr", expected: str) -> "pandera.Check":
    """A rule over several columns of a row."""
    import pandera.polars as pandera

    return pandera.Check(lambda data: data.lazyframe.select(expression), error=expected)


def _table(
    name: ContractName, columns: "dict[str, pandera.Column]", *checks: "pandera.Check"
) -> "pandera.DataFrameSchema":
    import pandera.polars as pandera

    return pandera.DataFrameSchema(columns, checks=list(checks), strict=True, name=name)


def _document_columns(least_bytes: int) -> "dict[str, pandera.Column]":
    import pandera.polars as pandera
    import polars as pl

    return {
        "id": _text("a non-empty id"),
        "text": _text() if least_bytes else _column(pl.String),
        "source": _text("the source's name"),
        "path": _text("the file it came from"),
        "language": _language(),
        "bytes": _column(pl.Int64, pandera.Check.ge(least_bytes, error=f"{least_bytes} or more")),
        "meta": _column(pl.List(pl.Struct({"key": pl.String, "value": pl.String})), nullable=True),
    }


def _byte_rule() -> "pandera.Check":
    import polars as pl

    return _rows(pl.col("bytes") == pl.col("text").str.len_bytes(), "bytes equal to the UTF-8 length of text")


def _documents() -> "pandera.DataFrameSchema":
    return _table("Documents", _document_columns(1), _byte_rule())


def _dropped() -> "pandera.DataFrameSchema":
    """Like Documents, but what was dropped may be empty."""
    import pandera.polars as pandera
    import polars as pl

    added = {
        "stage": _text("the stage's name"),
        "reason": _column(pl.String, pandera.Check.str_matches(REASON, error="a reason like min_chars")),
        "value": _column(pl.Float64, _finite(), nullable=True),
    }
    return _table("Dropped", {**_document_columns(0), **added}, _byte_rule())


def _statistics() -> "pandera.DataFrameSchema":
    """Figures of documents (tasks/kernels/statistics_columns.py): counts are whole and not negative, shares lie in 0..1.

    A rule for each kind of figure, not for each column: there are sixty, and pandera takes milliseconds for each. Their
    names and types are compared with the Arrow schema (`_check_figures`).
    """
    import pandera.polars as pandera
    import polars as pl

    from tasks.kernels.statistics_columns import COUNTS, OTHERS, SHARES, UNBOUNDED

    columns = {"id": _text("a non-empty id"), "source": _text("the source's name"), "language": _language()}
    bounded = [name for name in SHARES if name not in UNBOUNDED]
    finite = [pl.col(name).is_finite().fill_null(True) for name in (*SHARES, *OTHERS)]
    checks = [
        _rows(pl.all_horizontal(pl.col(list(COUNTS)) >= 0), "counts of 0 or more"),
        _rows(pl.all_horizontal(pl.col(bounded).is_between(0, 1)), "shares in 0..1"),
        _rows(pl.all_horizontal(pl.col(list(UNBOUNDED)) >= 0), "figures per word of 0 or more"),
        _rows(pl.all_horizontal(finite), "finite numbers"),
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

    return _column(pl.String, pandera.Check.str_matches(LANGUAGE, error="an ISO 639 code, code or und"))


def _verdicts() -> "pandera.DataFrameSchema":
    """What became of each document so far."""
    import pandera.polars as pandera
    import polars as pl

    columns = {
        "id": _text("a non-empty id"),
        "kept": _column(pl.Boolean),
        "cluster": _column(pl.String, nullable=True),
        "stage": _column(pl.String, nullable=True),
        "reason": _column(pl.String, pandera.Check.str_matches(REASON, error="a reason like min_chars"), nullable=True),
        "value": _column(pl.Float64, _finite(), nullable=True),
    }
    told = pl.col("reason").is_null() == pl.col("kept")
    return _table("Verdicts", columns, _rows(told, "a reason for each document that is not kept, and for no other"))


def _clusters() -> "pandera.DataFrameSchema":
    import pandera.polars as pandera
    import polars as pl

    columns = {
        "id": _text("a non-empty id"),
        "root_id": _text("the id of the cluster's first"),
        "size": _column(pl.Int64, pandera.Check.ge(2, error="2 or more")),
        "similarity": _column(pl.Float32, _finite(), _share()),
    }
    return _table("Clusters", columns)


def _matches() -> "pandera.DataFrameSchema":
    import pandera.polars as pandera
    import polars as pl

    columns = {name: _text() for name in ("id", "item", "text")}
    columns["units"] = _column(pl.Int64, pandera.Check.ge(1, error="1 or more"))
    columns |= {name: _column(pl.Float64, _finite(), _share()) for name in ("item_share", "document_share")}
    columns["action"] = _column(pl.String, pandera.Check.isin(("drop", "cut", "mark"), error="drop, cut or mark"))
    return _table("Matches", columns)


def _finite() -> "pandera.Check":
    import pandera.polars as pandera
    import polars as pl

    return pandera.Check(
        lambda data: data.lazyframe.select(pl.col(data.key).is_finite()), error="a finite number or null"
    )


def _example_columns() -> "dict[str, pandera.Column]":
    return {"id": _text("a non-empty id"), "group": _text("a non-empty group")}


def _instruction_examples() -> "pandera.DataFrameSchema":
    return _table("InstructionExamples", {**_example_columns(), "prompt": _text(), "response": _text()})


def _classification_examples(labels: Sequence[str] | None) -> "pandera.DataFrameSchema":
    import pandera.polars as pandera
    import polars as pl

    label = (
        _text("a label") if labels is None else _column(pl.String, pandera.Check.isin(labels, error=_one_of(labels)))
    )
    return _table("ClassificationExamples", {**_example_columns(), "text": _text(), "label": label})


def _token_label_examples(labels: Sequence[str] | None) -> "pandera.DataFrameSchema":
    import polars as pl

    columns = {**_example_columns(), "tokens": _column(pl.List(pl.String)), "labels": _column(pl.List(pl.String))}
    tokens, named = pl.col("tokens").list, pl.col("labels").list
    checks = [
        _rows(tokens.len() == named.len(), "as many labels as tokens"),
        _rows(tokens.len() > 0, "at least one token"),
        _rows(tokens.eval((pl.element().str.len_bytes() > 0).fill_null(False)).list.all(), "no empty token"),
    ]
    allowed = pl.element().is_not_null() if labels is None else pl.element().is_in(list(labels)).fill_null(False)
    checks.append(_rows(named.eval(allowed).list.all(), "a label" if labels is None else _one_of(labels)))
    return _table("TokenLabelExamples", columns, *checks)


def _multi_label_examples(labels: Sequence[str] | None) -> "pandera.DataFrameSchema":
    import polars as pl

    columns = {**_example_columns(), "text": _text(), "labels": _column(pl.List(pl.String))}
    named = pl.col("labels").list
    allowed = pl.element().is_not_null() if labels is None else pl.element().is_in(list(labels)).fill_null(False)
    checks = [
        _rows(named.eval(allowed).list.all(), "a label" if labels is None else _one_of(labels)),
        _rows(named.n_unique() == named.len(), "each label once"),
    ]
    return _table("MultiLabelExamples", columns, *checks)


def _regression_examples() -> "pandera.DataFrameSchema":
    import polars as pl

    return _table(
        "RegressionExamples", {**_example_columns(), "text": _text(), "value": _column(pl.Float64, _finite())}
    )


def _choice_examples() -> "pandera.DataFrameSchema":
    import polars as pl

    columns = {
        **_example_columns(), "question": _text(), "choices": _column(pl.List(pl.String)), "answer": _column(pl.Int64),
    }  # fmt: skip
    choices, answer = pl.col("choices").list, pl.col("answer")
    checks = [
        _rows(
            (choices.len() > 1) & (choices.len() == choices.len().first()), "as many choices in every row, 2 or more"
        ),
        _rows((answer >= 0) & (answer < choices.len()), "the place of a choice, from 0"),
    ]
    return _table("ChoiceExamples", columns, *checks)


def _one_of(labels: Sequence[str]) -> str:
    return f"one of the {len(labels)} labels {', '.join(labels)}"[:300]


def _scores() -> "pandera.DataFrameSchema":
    import pandera.polars as pandera
    import polars as pl

    columns = {name: _text() for name in ("model", "suite", "task", "metric")}
    columns |= {name: _column(pl.Float64, _finite()) for name in ("value", "ci_low", "ci_high")}
    columns["n"] = _column(pl.Int64, pandera.Check.ge(1, error="a sample count of 1 or more"))
    columns["seed"] = _column(pl.Int64, pandera.Check.ge(0, error="a seed of 0 or more"))
    inside = (pl.col("ci_low") <= pl.col("value")) & (pl.col("value") <= pl.col("ci_high"))
    return _table("Scores", columns, _rows(inside, "ci_low <= value <= ci_high"))


def _token_rows() -> "pandera.DataFrameSchema":
    """Rows of a token shard (layout: model/data/shard_reader.py) and their segments."""
    import polars as pl

    columns = {
        "tokens": _column(pl.Int32),  # bytes of the row
        "ends": _column(pl.List(pl.Int32)),
        "documents": _column(pl.List(pl.Int64)),
        "offsets": _column(pl.List(pl.Int64)),
    }
    width, ends = pl.col("tokens"), pl.col("ends").list
    checks = [
        _rows((width > 0) & (width == width.first()) & (width % 2 == 0), "rows of one width, in whole tokens"),
        _rows(ends.len() > 0, "1 segment or more"),
        _rows((ends.first() > 0) & (ends.diff().list.min().fill_null(1) > 0), "ends that rise, from 1 on"),
        _rows(ends.last() <= width // 2, "ends within the row"),
        _rows((pl.col("documents").list.len() == ends.len()), "a document for each segment"),
        _rows((pl.col("offsets").list.len() == ends.len()), "an offset for each segment"),
        _rows(pl.col("documents").list.min() >= 0, "document numbers of 0 or more"),
        _rows(pl.col("offsets").list.min() >= 0, "offsets of 0 or more"),
    ]
    return _table("TokenRows", columns, *checks)


def _token_documents() -> "pandera.DataFrameSchema":
    """The documents that token rows are made of; a row's number is the document's."""
    import pandera.polars as pandera
    import polars as pl

    columns = {
        "id": _text("a non-empty id"),
        "source": _text("the source's name"),
        "language": _language(),
        "bytes": _column(pl.Int64, pandera.Check.ge(1, error="1 or more")),
        "tokens": _column(pl.Int64),
    }
    tokens = pl.col("tokens")
    return _table("TokenDocuments", columns, _rows((tokens == 0) | (tokens > 2), "3 tokens or more, or 0: in no row"))
