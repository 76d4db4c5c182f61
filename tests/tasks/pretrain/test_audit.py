"""What a training read, held against plain counts of the same and against independent draws."""

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config.training_config import MixturePhase, StepBatches
from model.data.row_stream import RowStream
from model.data.shard_format import ShardHeader
from model.data.shard_reader import TokenRows
from model.data.shard_writer import write_token_shard
from model.training.batch_steps import BatchSteps
from model.training.left_out import LeftOut, data_step
from model.training.left_out import data_steps as model_data_steps
from tasks.pretrain.audit import Audit, Share, audit_stream, read_audit, write_audit
from tasks.pretrain.audit_documents import Histogram, rows_of_documents
from tasks.pretrain.audit_measures import Parts, again_in_epoch, spreads
from tasks.pretrain.audit_sample import SAMPLED_STEPS, Pools, data_steps, read_ranges, sampled_steps

CONTEXT = 15
ROW = CONTEXT + 1


@dataclass(frozen=True)
class Piece:
    """Part of a document, as a row holds it."""

    document: int
    offset: int
    tokens: int


@dataclass(frozen=True)
class Document:
    """A row of the documents' table."""

    source: str
    language: str
    tokens: int


def some_documents(count: int, seed: int = 3, longest: int = 60) -> list[Document]:
    source = random.Random(seed)
    kinds = [("books", "en"), ("books", "zh"), ("web", "en"), ("rare", "de")]
    return [Document(*source.choices(kinds, [4, 2, 4, 0.4])[0], source.randint(2, longest)) for _ in range(count)]


def pack(documents: Sequence[tuple[int, Document]]) -> list[list[Piece]]:
    """Pieces of a row at most, overlapping by one token; put into rows as long as they fit."""
    rows: list[list[Piece]] = []
    room = 0
    for number, document in documents:
        for offset in range(0, max(1, document.tokens - 1), CONTEXT):
            piece = Piece(number, offset, min(ROW, document.tokens - offset))
            if piece.tokens > room:
                rows.append([])
                room = ROW
            rows[-1].append(piece)
            room -= piece.tokens
    return rows


def write_rows(path: Path, rows: Sequence[Sequence[Piece]]) -> None:
    beside = pa.table(
        {
            "ends": pa.array([np.cumsum([piece.tokens for piece in row]) for row in rows], pa.list_(pa.int32())),
            "documents": pa.array([[piece.document for piece in row] for row in rows], pa.list_(pa.int64())),
            "offsets": pa.array([[piece.offset for piece in row] for row in rows], pa.list_(pa.int64())),
        }
    )
    metadata = {"vocab_size": 9, "tokenizer": "f" * 16, "packing": "best_fit"}
    write_token_shard(path, np.zeros((len(rows), ROW), np.uint16), beside, metadata)


@dataclass(frozen=True)
class Made:
    """Shards on disk, and the rows in them by group."""

    rows: dict[str, TokenRows]
    packed: dict[str, list[list[Piece]]]
    documents: list[Document]
    table: Path

    def audit(self, steps: int, batch_rows: int, **options: object) -> Audit:
        return audit_stream(self.stream(batch_rows, **options), steps, self.table)

    def stream(self, batch_rows: int, **options: object) -> RowStream:
        return RowStream(self.rows, batch_rows, 5, **options)  # type: ignore[arg-type]


def make(folder: Path, documents: list[Document], by_source: bool = False, files: int = 1) -> Made:
    groups = sorted({document.source for document in documents}) if by_source else ["all"]
    opened: dict[str, TokenRows] = {}
    packed: dict[str, list[list[Piece]]] = {}
    for group in groups:
        rows = pack([(at, one) for at, one in enumerate(documents) if not by_source or one.source == group])
        parts = np.array_split(np.arange(len(rows)), files)
        paths = [folder / f"{group}-{at:03d}.parquet" for at in range(files)]
        for path, part in zip(paths, parts, strict=True):
            write_rows(path, [rows[at] for at in part])
        opened[group], packed[group] = TokenRows.open(paths), rows
    table = folder / "documents-train.parquet"
    columns = {"source": [one.source for one in documents], "language": [one.language for one in documents]}
    pq.write_table(pa.table({**columns, "tokens": pa.array([one.tokens for one in documents], pa.int64())}), table)
    return Made(opened, packed, documents, table)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """One group in the order of chance."""
    return make(tmp_path_factory.mktemp("plain"), some_documents(3_000))


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A group for each source."""
    return make(tmp_path_factory.mktemp("grouped"), some_documents(3_000), by_source=True)


def share(audit: Audit, kind: str, name: str) -> Share:
    return next(one for one in audit.shares if (one.kind, one.name) == (kind, name))


def test_counts_are_those_of_the_rows_that_the_steps_had(plain: Made) -> None:
    stream, steps = plain.stream(8), 40
    audit = plain.audit(steps, 8)
    tokens: Counter[str] = Counter()
    rows: Counter[str] = Counter()
    for step in range(steps):
        for group, number in stream.locations(step):
            row = plain.packed[group][number]
            rows.update({plain.documents[piece.document].source for piece in row})
            for piece in row:
                tokens[plain.documents[piece.document].source] += piece.tokens
    assert {one.name: (one.tokens, one.rows) for one in audit.shares if one.kind == "source"} == {
        name: (tokens[name], rows[name]) for name in tokens
    }
    assert sum(one.realised for one in audit.shares if one.kind == "language") == pytest.approx(1)
    assert audit.steps == audit.sampled_steps == steps


def test_pairs_that_share_a_document_are_those_that_a_plain_count_finds(plain: Made) -> None:
    stream, steps = plain.stream(50), 30
    shared = 0
    for step in range(steps):
        held = [{piece.document for piece in plain.packed["all"][row]} for _, row in stream.locations(step)]
        shared += sum(bool(one & other) for one, other in combinations(held, 2))
    found = plain.audit(steps, 50).shared
    assert (found.pairs, found.shared) == (steps * 50 * 49 // 2, shared)


def test_expected_pairs_are_those_of_all_rows_in_one_batch(plain: Made) -> None:
    total = plain.stream(1).rows
    found = plain.audit(1, total).shared  # every row once: what is expected is what is there
    assert found.shared == pytest.approx(found.expected)
    assert found.pairs == total * (total - 1) // 2


def test_whole_epoch_has_what_was_asked_for(plain: Made) -> None:
    audit = plain.audit(1, plain.stream(1).rows)
    assert all(one.realised == pytest.approx(one.requested) for one in audit.shares)
    assert audit.document_tokens == Histogram.of(np.array([one.tokens for one in plain.documents]))
    assert audit.row_pieces == Histogram.of(np.array([len(row) for row in plain.packed["all"]]))


@pytest.mark.parametrize("seed", range(3))
def test_shuffled_rows_are_as_even_as_independent_draws(tmp_path: Path, seed: int) -> None:
    made = make(tmp_path, some_documents(6_000, seed))
    for one in made.audit(180, 16).shares:
        assert one.spread is not None
        assert one.spread.low < one.spread.ratio < one.spread.high


def test_batches_from_row_groups_of_one_source_are_clumped(tmp_path: Path) -> None:
    documents = sorted(some_documents(3_000), key=lambda one: one.source)
    made = make(tmp_path, documents, files=100)
    found = share(made.audit(100, 16, window_groups=1), "source", "books").spread
    assert found is not None
    assert found.ratio > 2 * found.high
    plain = share(made.audit(100, 16), "source", "books").spread
    assert plain is not None
    assert plain.ratio < plain.high


MIXTURE = (MixturePhase(0, {"books": 5, "web": 2, "rare": 1}), MixturePhase(60, {"books": 1, "web": 3}))


def test_mixture_is_held_against_its_weights_and_more_even_than_draws(grouped: Made) -> None:
    steps, rows = 100, 16
    audit = grouped.audit(steps, rows, mixture=MIXTURE)
    mixture = grouped.stream(rows, mixture=MIXTURE).mixture
    assert mixture is not None
    for name, ideal, counted in zip(mixture.groups, mixture.ideal(steps * rows), mixture.counts(steps * rows), strict=True):
        found = share(audit, "group", name)
        assert found.requested == pytest.approx(float(ideal) / steps / rows)
        assert found.rows == counted
        assert abs(found.realised - found.requested) <= 1 / (steps * rows)
        assert found.spread is not None
        assert found.spread.ratio < found.spread.low
        tokens = share(audit, "source", name)
        assert tokens.realised == pytest.approx(tokens.requested, abs=0.01)
        assert audit.repeats.epochs[name] == counted / grouped.rows[name].rows
    assert sum(one.requested for one in audit.shares if one.kind == "language") == pytest.approx(1)


def test_group_without_a_weight_has_no_share(grouped: Made) -> None:
    audit = grouped.audit(50, 16, mixture=(MixturePhase(0, {"books": 1}),))
    assert (share(audit, "group", "web").requested, share(audit, "group", "web").rows) == (0, 0)
    assert {one.name: one.tokens for one in audit.shares if one.kind == "source"}["web"] == 0
    assert share(audit, "source", "web").requested == 0


def test_groups_without_a_mixture_are_one_pool(grouped: Made) -> None:
    audit = grouped.audit(100, 16)
    total = sum(rows.rows for rows in grouped.rows.values())
    for name, rows in grouped.rows.items():
        found = share(audit, "group", name)
        assert found.requested == rows.rows / total
        assert audit.repeats.epochs[name] == 1_600 / total
        assert found.spread is not None
        assert found.spread.low < found.spread.ratio < found.spread.high


@pytest.mark.parametrize("mixture", [(), MIXTURE])
def test_no_row_comes_twice_in_an_epoch_however_many_there_are(grouped: Made, mixture: tuple[MixturePhase, ...]) -> None:
    repeats = grouped.audit(300, 64, mixture=mixture).repeats
    assert max(repeats.epochs.values()) > 2
    assert (repeats.in_epoch, repeats.counted_rows, repeats.delivered_rows) == (0, 300 * 64, 300 * 64)


def test_batch_with_more_rows_than_there_are_repeats_them_within_itself(tmp_path: Path) -> None:
    made = make(tmp_path, some_documents(10))
    rows = made.stream(1).rows
    repeats = made.audit(3, 2 * rows).repeats
    assert (repeats.in_epoch, repeats.in_batch, repeats.epochs) == (0, 3 * rows, {"all": 6.0})


@given(st.lists(st.integers(0, 6), max_size=60))
def test_repeats_in_an_epoch_are_counted_one_by_one(numbers: list[int]) -> None:
    epochs = [numbers[at : at + 7] for at in range(0, len(numbers), 7)]
    plain = sum(len(epoch) - len(set(epoch)) for epoch in epochs)
    assert again_in_epoch(np.array(numbers, np.int64), np.arange(len(numbers)) // 7, 7) == plain


RETURNS = (LeftOut(3, 3, 2), LeftOut(10, 12, 30))


@pytest.mark.parametrize("left_out", [(), RETURNS, (LeftOut(0, 0, 4),)])
@pytest.mark.parametrize("steps", [1, 3, 4, 10, 11, 40])
def test_ranges_that_were_read_are_the_data_steps_of_the_steps(steps: int, left_out: tuple[LeftOut, ...]) -> None:
    found = [step for first, end in read_ranges(steps, left_out) for step in range(first, end)]
    assert found == [data_step(step, left_out) for step in range(steps)]
    assert found == data_steps(np.arange(steps), left_out).tolist()


@pytest.mark.parametrize("mixture", [(), MIXTURE])
def test_audit_of_a_run_that_went_back_counts_what_it_read_and_not_what_it_left_out(
    grouped: Made, mixture: tuple[MixturePhase, ...]
) -> None:
    stream, steps = grouped.stream(16, mixture=mixture), 60
    audit = audit_stream(stream, steps, grouped.table, RETURNS)
    rows = [number for step in range(steps) for number in stream.rows_at(data_step(step, RETURNS)).tolist()]
    assert (audit.steps, audit.left_out_steps, audit.repeats.delivered_rows) == (steps, 32, len(rows))
    assert audit.repeats.in_epoch == 0
    groups = Counter(stream.names[group] for group in stream.groups_of(np.array(rows)).tolist())
    for name, held in stream.token_rows.items():
        assert share(audit, "group", name).rows == groups[name]
        if mixture:
            assert audit.repeats.epochs[name] == pytest.approx(groups[name] / held.rows)
    assert sum(share(audit, "group", name).requested for name in stream.names) == pytest.approx(1)


def test_audit_of_a_run_with_larger_batches_counts_all_that_its_steps_took(grouped: Made) -> None:
    stream, batches = grouped.stream(16, mixture=MIXTURE), BatchSteps((StepBatches(4, 3),))
    returns = (LeftOut(6, 10, 6),)
    audit = audit_stream(stream, 20, grouped.table, returns, 5, batches)
    read = [at for step in range(5, 20) for at in model_data_steps(step, returns, batches)]
    rows = [number for at in read for number in stream.rows_at(at).tolist()]
    assert (audit.steps, audit.batches, audit.sampled_steps, audit.repeats.delivered_rows) == (15, 45, 45, len(rows))
    groups = Counter(stream.names[group] for group in stream.groups_of(np.array(rows)).tolist())
    assert {name: share(audit, "group", name).rows for name in stream.names} == dict(groups)


def test_audit_of_a_run_that_goes_on_from_another_counts_its_own_steps(grouped: Made) -> None:
    stream, steps, begun = grouped.stream(16, mixture=MIXTURE), 60, 25
    audit = audit_stream(stream, steps, grouped.table, RETURNS, begun)
    rows = [number for step in range(begun, steps) for number in stream.rows_at(data_step(step, RETURNS)).tolist()]
    assert (audit.steps, audit.begun_at, audit.repeats.delivered_rows) == (steps - begun, begun, len(rows))
    groups = Counter(stream.names[group] for group in stream.groups_of(np.array(rows)).tolist())
    assert {name: share(audit, "group", name).rows for name in stream.names} == dict(groups)


def test_spread_of_independent_draws_is_one_and_within_its_range() -> None:
    source = np.random.default_rng(1)
    steps, batch, ratios, outside = 64, 12, list[float](), 0
    for _ in range(300):
        part = source.random(steps * batch) * (source.random(steps * batch) < 0.1)
        rows = np.flatnonzero(part)
        parts = Parts(rows, np.zeros(len(rows), np.int64), part[rows], 1)
        (found,) = spreads(parts, one_pool(steps, batch))
        assert found is not None
        ratios.append(found.ratio)
        outside += not found.low < found.ratio < found.high
    assert np.mean(ratios) == pytest.approx(1, abs=0.04)
    assert outside <= 9


def one_pool(steps: int, batch: int) -> Pools:
    zeros, ones = np.zeros((steps, batch), np.int64), np.ones((steps, 1))
    return Pools(np.array([steps * batch]), zeros, ones, np.zeros((1, 0)), np.zeros(1))


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=8, max_size=20))
def test_spread_is_its_formula(values: list[list[float]]) -> None:
    table = np.array(values)
    every = np.arange(table.size)
    (found,) = spreads(Parts(every, np.zeros(len(every), np.int64), table.ravel(), 1), one_pool(*table.shape))
    if table.var() < 1e-9:
        return
    assert found is not None
    assert found.ratio == pytest.approx(table.mean(axis=1).var(ddof=1) / (table.var() / 3), rel=1e-6)


def test_too_few_steps_say_nothing_of_their_spread(plain: Made) -> None:
    assert all(one.spread is None for one in plain.audit(7, 16).shares)


@given(st.integers(2, 200), st.integers(8, 40))
def test_rows_of_a_document_are_those_of_its_pieces(tokens: int, context: int) -> None:
    header = ShardHeader(context, 2, 9, "f", 1, packing="best_fit")
    pieces = len(range(0, max(1, tokens - 1), context))
    assert tuple(float(one[0]) for one in rows_of_documents(np.array([tokens]), header)) == (pieces, pieces * (pieces - 1))


@given(st.integers(2, 200), st.integers(8, 40))
def test_rows_of_a_document_in_a_stream_that_is_cut_are_the_mean_over_all_positions(tokens: int, context: int) -> None:
    header = ShardHeader(context, 2, 9, "f", 1, packing="concatenate")
    counts = [
        sum(begin <= row * context + context and row * context <= begin + tokens - 1 for row in range(2 + (begin + tokens) // context))
        for begin in range(context, 2 * context)
    ]
    rows, crossings = (float(one[0]) for one in rows_of_documents(np.array([tokens]), header))
    assert rows == pytest.approx(np.mean(counts))
    assert crossings == pytest.approx(np.mean([count * (count - 1) for count in counts]))


@given(st.lists(st.integers(0, 5_000), max_size=50))
def test_histogram_has_every_value_in_the_bin_of_its_power_of_two(values: list[int]) -> None:
    found = Histogram.of(np.array(values, np.int64))
    plain = Counter(0 if value == 0 else 2 ** int(math.log2(value)) for value in values)
    assert {edge: count for edge, count in zip(found.edges, found.counts, strict=False) if count} == plain
    assert sum(found.counts) == len(values)


@pytest.mark.parametrize(
    ("steps", "batch_rows", "seen"), [(1, 8, 1), (256, 8, 256), (100_000, 8, 256), (100_000, 2**14, 8), (100_000, 2**10, 128)]
)
def test_sampled_steps_are_few_and_reach_both_ends(steps: int, batch_rows: int, seen: int) -> None:
    found = sampled_steps(steps, batch_rows)
    assert (len(found), found[0], found[-1]) == (seen, 0, steps - 1)
    assert len(set(found.tolist())) == seen <= SAMPLED_STEPS


def test_audit_is_read_as_it_was_written(grouped: Made, tmp_path: Path) -> None:
    audit = grouped.audit(20, 16, mixture=MIXTURE)
    write_audit(audit, tmp_path / "audit.json")
    assert read_audit(tmp_path / "audit.json") == audit
    none = replace(audit, shares=tuple(replace(one, spread=None) for one in audit.shares))
    write_audit(none, tmp_path / "audit.json")
    assert read_audit(tmp_path / "audit.json") == none
