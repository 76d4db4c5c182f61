"""Packing charts: fill, padding, cuts, and how long the documents are."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.report.charts import Chart
from tasks.report.histograms import added, histogram_bars
from tasks.report.wording import GAP, count_text, share_text
from tasks.shards.packing_table import PackingRow


def length_bars(rows: Sequence[PackingRow]) -> Chart | None:
    """The training documents by their tokens; None without any."""
    training = [row for row in rows if row.split == "train"]
    lengths = added([row.lengths for row in training])
    if not sum(lengths.counts):
        return None
    caption = "Training documents by their length in tokens, with the tokens that begin and end each."
    return histogram_bars("lengths", "How long the documents are", caption, lengths)


def fill_text(row: PackingRow) -> str:
    """Filled part of the rows, in percent with two decimals; 100 % only where nothing is empty."""
    percent = 100 * (row.room - row.padding) / max(1, row.room)
    return f"{min(percent, 99.99) if row.padding else 100.0:.2f}{GAP}%"


def packing_sentence(rows: Sequence[PackingRow]) -> str:
    """What became of the training documents, in words."""
    training = [row for row in rows if row.split == "train"]
    if not training:
        return ""
    documents, cut = sum(row.documents for row in training), sum(row.cut_documents for row in training)
    needless, padding = sum(row.needless_cuts for row in training), sum(row.padding for row in training)
    room = sum(row.room for row in training)
    said = (
        f"{count_text(documents)} training documents fill {count_text(sum(row.rows for row in training))} rows; "
        f"{share_text(padding, room)} of these is padding. {count_text(cut)} of the documents were cut"
    )
    if not cut:
        return f"{said}."
    return f"{said}, {count_text(needless) if needless else 'none'} of which would have fitted in a row."
