"""Training data audit: what a training really read, against what was asked for and against independent draws of rows.

Batches are a function of the step, so all of this is computed from the shards, after the training or without it.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from model.training.batch_steps import ONE, BatchSteps
from model.training.left_out import LeftOut
from tasks.histogram import Histogram
from tasks.pretrain.audit_documents import Documents, read_documents
from tasks.pretrain.audit_measures import Parts, Repeats, SharedDocuments, Spread, count_repeats, shared_documents, spreads
from tasks.pretrain.audit_sample import Numbers, Pools, Sample, asked_weights, data_steps, read_ranges, read_sample, sampled_steps

if TYPE_CHECKING:
    from model.data.row_stream import RowStream

COUNTED_ROWS = 5_000_000  # looked at one by one for repeats, from the first step on

Kind = Literal["group", "source", "language"]


@dataclass(frozen=True)
class Share:
    """What a group, source or language had of the run.

    Shares of a group are of rows, over all steps that were counted; those of a source or language are of tokens, over
    the sampled steps.
    """

    kind: Kind
    name: str
    requested: float
    realised: float
    rows: int  # that are of it, or hold some of it
    tokens: int  # of the sampled steps
    spread: Spread | None  # None with too few steps, or where every row has the same share


@dataclass(frozen=True)
class Audit:
    """What a run read in `steps` steps of its own."""

    steps: int
    sampled_steps: int
    batch_rows: int
    shares: tuple[Share, ...]
    repeats: Repeats
    shared: SharedDocuments
    document_tokens: Histogram  # documents by their tokens
    row_pieces: Histogram  # sampled rows by the pieces of documents in them
    left_out_steps: int = 0  # batches that the run left out after it went back: not among those that are counted here
    begun_at: int = 0  # steps before these, which another run took
    batches: int | None = None  # of these steps, where they took others than one each: of them are then those that were sampled


def write_audit(audit: Audit, path: Path) -> None:
    """As JSON."""
    path.write_text(json.dumps(asdict(audit), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def read_audit(path: Path) -> Audit:
    """What `write_audit` wrote."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    shares: list[Share] = []
    for share in raw.pop("shares"):
        spread = share.pop("spread")
        shares.append(Share(**share, spread=None if spread is None else Spread(**spread)))
    repeats, shared = Repeats(**raw.pop("repeats")), SharedDocuments(**raw.pop("shared"))
    lengths, pieces = (Histogram(tuple(one["edges"]), tuple(one["counts"])) for one in (raw.pop("document_tokens"), raw.pop("row_pieces")))
    return Audit(**raw, shares=tuple(shares), repeats=repeats, shared=shared, document_tokens=lengths, row_pieces=pieces)


def audit_stream(
    stream: "RowStream",
    steps: int,
    documents: Path,
    left_out: Sequence[LeftOut] = (),
    begun_at: int = 0,
    batch_steps: BatchSteps = ONE,
) -> Audit:
    """Audits the steps from `begun_at` up to `steps`, without what the run left out; `documents` is documents-train.parquet of the shards.

    Memory and time are bounded whatever the number of steps: what is not counted is sampled. Raises ValueError for shards
    that do not tell their segments.
    """
    begin, end = batch_steps.before(begun_at), batch_steps.before(steps)
    own = end - begin
    seen, read = sampled_steps(own, stream.batch_rows) + begin, read_ranges(end, left_out, begin)
    sample = read_sample(stream, data_steps(seen, left_out))
    table = read_documents(documents, np.unique(sample.documents), stream.header)
    pools = Pools.of(stream, sample, table)
    counted = min(own, max(1, COUNTED_ROWS // stream.batch_rows))
    repeats, group_rows = count_repeats(stream, read, counted)
    return Audit(
        steps=steps - begun_at,
        sampled_steps=len(seen),
        batch_rows=stream.batch_rows,
        shares=(
            *group_shares(stream, sample, pools, group_rows, read_ranges(begin + counted, left_out, begin)),
            *text_shares("source", stream, sample, table, pools),
            *text_shares("language", stream, sample, table, pools),
        ),
        repeats=repeats,
        shared=shared_documents(sample, pools),
        document_tokens=table.lengths,
        row_pieces=Histogram.of(np.bincount(sample.rows, minlength=sample.numbers.size)),
        left_out_steps=sum(one.count for one in left_out if one.step >= begun_at),
        begun_at=begun_at,
        batches=own if batch_steps.phases else None,
    )


def group_shares(
    stream: "RowStream", sample: Sample, pools: Pools, group_rows: Numbers, counted: Sequence[tuple[int, int]]
) -> tuple[Share, ...]:
    """Shares of the groups over the data steps of the ranges `counted`; none where there is only one."""
    if len(stream.names) < 2:
        return ()
    asked = asked_weights(stream, counted)
    groups = stream.groups_of(sample.numbers).ravel()
    tokens = np.bincount(groups[sample.rows], sample.tokens, len(stream.names))
    rows = np.arange(len(groups))
    found = spreads(Parts(rows, groups, np.ones(len(rows)), len(stream.names)), pools)
    return tuple(
        Share("group", name, float(asked[at]), float(group_rows[at] / group_rows.sum()), int(group_rows[at]), int(tokens[at]), found[at])
        for at, name in enumerate(stream.names)
    )


def text_shares(kind: Kind, stream: "RowStream", sample: Sample, table: Documents, pools: Pools) -> tuple[Share, ...]:
    """Shares of sources or languages, most tokens first. Requested: the weight of each pool, by what its rows hold."""
    names, codes = table.names(kind)
    pieces = codes[table.pair_of(sample.documents)]
    asked_of_pairs = pools.weights.mean(axis=0) / pools.rows @ pools.row_tokens
    asked = np.bincount(codes, asked_of_pairs, len(names)) / max(asked_of_pairs.sum(), 1e-300)
    tokens = np.bincount(pieces, sample.tokens, len(names))
    keys, inverse = np.unique(sample.rows * len(names) + pieces, return_inverse=True)
    part = np.bincount(inverse, sample.tokens) / (stream.context + 1)
    parts = Parts(keys // len(names), keys % len(names), part, len(names))
    found, rows = spreads(parts, pools), np.bincount(parts.codes, minlength=len(names))
    shares = [
        Share(kind, name, float(asked[at]), float(tokens[at] / tokens.sum()), int(rows[at]), int(tokens[at]), found[at])
        for at, name in enumerate(names)
    ]
    return tuple(sorted(shares, key=lambda share: (-share.tokens, -share.requested, share.name)))
