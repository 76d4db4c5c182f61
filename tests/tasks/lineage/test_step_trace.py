"""What a step saw, and where a document went, held against the batches themselves and against scans of everything."""

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from flows.commands.trace import batch_notes
from flows.stages import PRETRAIN, SHARDS, TOKENIZER, Config, Given, Stage, identify
from model.config.heads import IGNORED
from model.config.model_config import ModelConfig
from model.config.training_config import BatchPhase, ContextPhase, MixturePhase, OptimizerConfig
from model.data.batches import PretrainBatches
from model.training.curve import append_point
from model.training.events import Event, append_event
from model.training.left_out import LeftOut, write_left_out
from model.training.start import Start
from tasks.artifacts import Artifact, Corpus, PretrainedModel, Tokenizer, TokenShards, Workspace, as_artifact, describe, read_manifest
from tasks.cluster import Training
from tasks.errors import UserError
from tasks.lineage.artifact_graph import read_graph
from tasks.lineage.document_steps import times_of
from tasks.lineage.document_trace import parts_that_hold, whereabouts
from tasks.lineage.find_documents import LISTED, TABLES, find_document, find_text
from tasks.lineage.run_reference import find_run, own_workspace
from tasks.lineage.step_trace import (
    ReadBatch,
    batch_at,
    batch_of_data,
    batch_of_skip,
    documents_of,
    open_run,
    read_run,
    step_documents,
    taker,
)
from tasks.lineage.table_rows import numbered_rows
from tasks.pretrain.config import PretrainConfig, Pretraining
from tasks.pretrain.job import PretrainJob, read_job
from tasks.pretrain.start import FoundStart
from tasks.shards.shards import ShardsConfig
from tasks.tokenizer.encoding import decode_text, load_tokenizer
from tasks.tokenizer.tokenizer import TokenizerConfig
from tests.curve_points import point
from tests.tasks.corpus_run import Bench, Row, document
from tests.tasks.stage_tools import tools

WORDS = "the mill wheel turns grain into flour while old stones wait under quiet water and children carry bread".split()
HAN = "磨坊旁边的小河流过田野水轮转动石磨把麦子变成面粉孩子们沿着安静的路把面包带回家傍晚光落在大麦上"
CONTEXT, STEPS, ROWS = 32, 11, 4


def english(source: random.Random, words: int) -> str:
    return " ".join(source.choice(WORDS) for _ in range(words))


def chinese(source: random.Random, characters: int) -> str:
    return "".join(source.choice(HAN) for _ in range(characters))


@dataclass(frozen=True)
class Made:
    """A workspace with a corpus, and what was made of it."""

    bench: Bench
    corpus: Corpus
    tokenizer: Tokenizer

    @property
    def workspace(self) -> Workspace:
        return self.bench.workspace

    def shards(self, **settings: object) -> TokenShards:
        config = ShardsConfig.model_validate({"context": CONTEXT, "rows_per_shard": 16, **settings})
        return build(self.bench, SHARDS, config, corpus=self.corpus, tokenizer=self.tokenizer)

    def pretrain(self, shards: TokenShards, start: FoundStart | None = None, **settings: object) -> PretrainedModel:
        """A training of which only the files by which it is traced are there: none of its steps is done."""
        config = PretrainConfig.model_validate(
            {"steps": STEPS, "batch_tokens": ROWS * CONTEXT, "optimizer": OptimizerConfig(warmup_steps=1), **settings}
        )
        model = ModelConfig(layers=1, width=16, heads=2, context=CONTEXT)
        return build(self.bench, PRETRAIN, Pretraining(model, config, start), shards=shards, tokenizer=self.tokenizer)


def build(bench: Bench, stage: Stage[Config, Artifact], config: Config, **inputs: Artifact) -> Artifact:
    """Builds and publishes a stage's artifact; a training is not trained."""
    found = identify(stage, config, inputs, "nowhere", bench.workspace)
    whole = bench.workspace.find(stage.artifact, stage.name, found.fingerprint)
    if whole is not None:
        return whole
    built = bench.workspace.begin(stage.name, found.fingerprint, keep=False)

    def no_training(training: Training) -> None:
        (built / "result.json").write_text(
            json.dumps(
                {
                    "step": PretrainJob.from_json(training.job).training.steps,
                    "loss": 1,
                    "validation_loss": 1,
                    "tokens": 1,
                    "parameters": 1,
                    "precision": "",
                    "device": "",
                    "validation_targets": 1,
                    "validation_bytes": 1,
                    "skipped": 0,
                    "returns": 0,
                    "peak_flops": 1,
                    "best_step": None,
                    "ended_early": "",
                }
            )
        )
        append_point(built, point(1))

    lent = tools(bench.workspace.root, bench.files, no_training)
    outcome = stage.build(config, Given(inputs), built, lent)
    manifest = describe(stage.name, found.fingerprint, found.config, found.inputs, built, outcome, 0.0)
    return as_artifact(stage.artifact, bench.workspace.publish(manifest), manifest)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    bench = Bench.open(tmp_path_factory.mktemp("lineage") / "workspace")
    return make(bench)


def make(bench: Bench) -> Made:
    source = random.Random(3)
    first: list[Row] = [document(f"en{n:02d}", f"{english(source, 3 + 7 * (n % 9))} {n}", url=f"https://mill.test/{n}") for n in range(30)]
    second: list[Row] = [
        {**document(f"zh{n:02d}", f"{chinese(source, 5 + 9 * (n % 7))}{n}", language="zh"), "source": "han"} for n in range(20)
    ]
    second += [document("short", "Too short."), document("copy", str(first[5]["text"]))]
    clean = bench.annotate(bench.raw(first, second))
    selection = bench.select(clean, rules=[{"column": "chars", "min": 12}])
    unique = bench.deduplicate(clean, selection)
    corpus = bench.decontaminate(clean, unique, validation_share=0.1)
    tokenizer = build(bench, TOKENIZER, TokenizerConfig.model_validate({"vocab_size": 300}), corpus=corpus)
    return Made(bench, corpus, tokenizer)


KINDS: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "best_fit": ({}, {}),
    "concatenate": ({"packing": "concatenate"}, {}),
    "documents": ({"packing": "documents"}, {}),
    "archive in windows": ({"codec": "zstd"}, {"window_groups": 2}),
    "mixture": ({"group_by": "source"}, {"mixture": [MixturePhase(0, {"s": 3, "han": 1}), MixturePhase(4, {"s": 1, "han": 1})], "seed": 9}),
    "curriculum": ({}, {"curriculum": [ContextPhase(0, 8), ContextPhase(5, 32)], "steps": 40}),
    "batch schedule": (
        {"group_by": "source"},
        {
            "mixture": [MixturePhase(0, {"s": 3, "han": 1}), MixturePhase(4, {"s": 1, "han": 3})],
            "curriculum": [ContextPhase(0, 8), ContextPhase(5, 32)],
            "batch_schedule": [BatchPhase(3, 3 * ROWS * CONTEXT), BatchPhase(8, 2 * ROWS * CONTEXT)],
        },
    ),
}


@pytest.fixture(scope="module", params=list(KINDS))
def trained(request: pytest.FixtureRequest, made: Made) -> PretrainedModel:
    """A pretraining on rows of each packing, several epochs long."""
    packing, training = KINDS[request.param]
    return made.pretrain(made.shards(**packing), **training)


def test_a_step_lists_exactly_what_the_loader_delivered(made: Made, trained: PretrainedModel):
    run = read_run(made.workspace, trained.path)
    batches, tokenizer = PretrainBatches(open_run(run)), load_tokenizer(made.tokenizer.path)
    for step in (1, 2, 5, run.steps):
        parts = [batches.batch(at, 0, ROWS) for at in run.data_steps(step)]  # a curriculum cuts their rows into shorter ones
        inputs = np.concatenate([batch.ids.reshape(ROWS, CONTEXT).numpy() for batch in parts])
        last = np.concatenate([batch.targets.reshape(ROWS, CONTEXT)[:, -1:].numpy() for batch in parts])
        delivered = np.concatenate([inputs, last], axis=1)
        found = step_documents(made.workspace, trained.path, step)
        covered = np.zeros(delivered.shape, np.int64)
        for piece in found:
            tokens = [token for token in delivered[piece.row, piece.start : piece.end].tolist() if token != IGNORED]
            assert decode_text(tokenizer, tokens) == piece.text
            covered[piece.row, piece.start : piece.end] += 1
        assert np.array_equal(covered[:, :CONTEXT], inputs != batches.stream.header.pad)
        assert covered.max() == 1
        assert [(p.row, p.start) for p in found] == sorted((p.row, p.start) for p in found)


def test_a_piece_is_the_part_of_its_document_that_it_says(made: Made, trained: PretrainedModel):
    tokenizer = load_tokenizer(made.tokenizer.path)
    texts = {row["id"]: row for path in made.corpus.path.glob("train-*") for row in pq.read_table(path).to_pylist()}
    for step in (1, 3):
        for piece in step_documents(made.workspace, trained.path, step):
            row = texts[piece.id]
            ids = tokenizer.encode(row["text"], add_special_tokens=False).ids
            assert piece.tokens == len(ids) + 2
            assert piece.last - piece.first == piece.end - piece.start
            assert decode_text(tokenizer, [0, *ids, 1][piece.first : piece.last]) == piece.text
            assert (piece.source, piece.path, piece.language) == (row["source"], row["path"], row["language"])
            assert piece.url == dict(row["meta"]).get("url")


def test_a_document_is_found_in_exactly_the_steps_that_a_scan_of_all_finds(made: Made, trained: PretrainedModel):
    run = read_run(made.workspace, trained.path)
    scan: dict[str, set[tuple[int, int]]] = {}
    for step in range(1, run.steps + 1):
        for piece in step_documents(made.workspace, trained.path, step):
            scan.setdefault(piece.id, set()).add((step, piece.row))
    ids = [row["id"] for path in made.corpus.path.glob("train-*") for row in pq.read_table(path).to_pylist()]
    graph = read_graph(made.workspace)
    ways = whereabouts(made.workspace, graph, ids, graph.sources(trained.fingerprint) | {trained.fingerprint})
    found = {id_: {(t.step, t.row) for s in way.stations for t in s.seen} for id_, way in ways.items()}
    assert {id_: times for id_, times in found.items() if times} == scan
    for id_, way in ways.items():
        station = next((s for s in way.stations if s.stage == "pretrain"), None)
        assert station is None or station.role == ("learned" if scan.get(id_) else "unseen")


def test_pieces_in_shards_are_rows_of_their_files(made: Made, trained: PretrainedModel):
    run = read_run(made.workspace, trained.path)
    stream = open_run(run)
    graph = read_graph(made.workspace)
    (way,) = whereabouts(made.workspace, graph, ["zh06"], graph.sources(trained.fingerprint)).values()
    pieces = next(station for station in way.stations if station.stage == "shards").pieces
    assert pieces
    for piece in pieces:
        rows = stream.token_rows[piece.group]
        (segments,) = rows.segments(np.array([piece.row]))
        at = segments.ends.tolist().index(piece.end)
        assert segments.offsets[at] == piece.first
        (cells,) = numbered_rows([run.shards / piece.file], [piece.file_row], ["ends"]).values()
        assert cells["ends"] == segments.ends.tolist()


def test_a_workspace_that_moved_is_traced_where_it_lies_now(made: Made, trained: PretrainedModel, tmp_path: Path):
    moved = Workspace(shutil.copytree(made.workspace.root, tmp_path / "elsewhere"))
    folder = moved.folder("pretrain", trained.fingerprint)
    assert own_workspace(str(folder)) == moved.root
    assert step_documents(moved, folder, 2) == step_documents(made.workspace, trained.path, 2)


@pytest.fixture
def copy(made: Made, tmp_path: Path) -> tuple[Workspace, PretrainedModel]:
    """A workspace with one pretraining that a test may damage."""
    model = made.pretrain(made.shards())
    workspace = Workspace(shutil.copytree(made.workspace.root, tmp_path / "copy"))
    return workspace, replace(model, folder=str(workspace.folder("pretrain", model.fingerprint)))


def write_return(folder: Path, *ranges: LeftOut) -> None:
    (folder / "checkpoints").mkdir(exist_ok=True)
    write_left_out(folder / "checkpoints", ranges)


def skip(step: int, data_step: int) -> Event:
    return Event("skipped", step, "loss 9.1, 7 standard deviations above the mean", data_step=data_step)


def test_step_of_a_larger_batch_has_the_documents_of_all_its_data_steps(made: Made):
    plain = made.pretrain(made.shards())
    model = made.pretrain(made.shards(), batch_schedule=[BatchPhase(3, 3 * ROWS * CONTEXT)])
    run = read_run(made.workspace, model.path)
    assert [*run.data_steps(3)] == [2]
    assert [*run.data_steps(4)] == [3, 4, 5]
    whole = [piece for at in (4, 5, 6) for piece in step_documents(made.workspace, plain.path, at)]
    found = step_documents(made.workspace, model.path, 4)
    assert [(piece.id, piece.text) for piece in found] == [(piece.id, piece.text) for piece in whole]
    part = batch_of_data(run, 4)
    assert (part.step, part.is_part_of(run)) == (4, True)
    assert documents_of(run, part) == step_documents(made.workspace, plain.path, 5)
    assert batch_of_data(run, 26).step == STEPS  # of data steps 24 to 26, the last
    assert batch_notes(run, batch_at(run, 4)) == ["3 batches, those of data steps 3 to 5, counted from 0"]
    assert batch_notes(run, part) == ["3 batches, those of data steps 3 to 5, counted from 0; this is data step 4 alone"]
    assert batch_notes(run, batch_at(run, 3)) == []
    with pytest.raises(UserError, match="it has 0 to 26"):
        batch_of_data(run, 27)


def test_skipped_step_of_a_larger_batch_is_left_out_with_all_its_data_steps(made: Made, tmp_path: Path):
    model = made.pretrain(made.shards(), batch_schedule=[BatchPhase(3, 3 * ROWS * CONTEXT)])
    folder = Path(shutil.copytree(model.path, tmp_path / model.path.name))
    write_return(folder, LeftOut(4, 6, 6))  # back to behind the fourth step: what the fifth and sixth had is left out
    for event in (skip(5, 6), skip(7, 18)):
        append_event(folder, event)
    run = read_run(made.workspace, folder)
    assert ([*run.data_steps(4)], [*run.data_steps(5)]) == ([3, 4, 5], [12, 13, 14])
    assert sorted(run.skipped) == [7]
    assert batch_notes(run, batch_at(run, 5))[-1].startswith(
        "its first batch is that of data step 12, counted from 0: the run went back to step 4"
    )
    assert batch_of_skip(run, skip(5, 6)) == ReadBatch(range(6, 9), None)
    assert batch_of_skip(run, skip(7, 18)) == ReadBatch(range(18, 21), 7)
    times = times_of(run, [(5, 1), (7, 0), (12, 2), (19, 0)])
    assert ([(one.step, one.row) for one in times.seen], times.skipped, times.left_out) == ([(4, 2 * ROWS + 1), (5, 2)], (7,), 1)


RETURNS = (LeftOut(2, 2, 3), LeftOut(4, 7, 1))  # data steps 2 to 4 and 7
READ = (0, 1, 5, 6, 8, 9, 10, 11, 12, 13, 14)  # of the eleven steps, in order


def test_steps_after_a_return_have_the_batches_behind_what_was_left_out(copy: tuple[Workspace, PretrainedModel]):
    workspace, model = copy
    before = {read: [piece.id for piece in step_documents(workspace, model.path, read + 1)] for read in READ if read < STEPS}
    write_return(model.path, *RETURNS)
    run = read_run(workspace, model.path)
    assert tuple(run.data_step(step) for step in range(1, STEPS + 1)) == READ
    for step, read in enumerate(READ, start=1):
        found = [piece.id for piece in step_documents(workspace, model.path, step)]
        assert read not in before or found == before[read]


def test_document_is_seen_in_the_steps_that_kept_what_they_learned_and_told_of_the_others(copy: tuple[Workspace, PretrainedModel]):
    workspace, model = copy
    batches = {read: {piece.id for piece in step_documents(workspace, model.path, read + 1)} for read in range(STEPS)}
    write_return(model.path, LeftOut(2, 2, 6))  # steps 3, 4 and 5 have the batches of 8, 9 and 10
    for event in (skip(4, 3), skip(1, 0), skip(4, 9)):  # the first is of a batch that was left out later
        append_event(model.path, event)
    run = read_run(workspace, model.path)
    assert sorted(run.skipped) == [1, 4]
    short = replace(run, done=5)
    for id_ in set().union(*batches.values()):
        times = times_of(short, [(read, 0) for read in range(STEPS) if id_ in batches[read]])
        assert [one.step for one in times.seen] == [step for step, read in ((2, 1), (3, 8), (5, 10)) if id_ in batches[read]]
        assert times.skipped == tuple(step for step, read in ((1, 0), (4, 9)) if id_ in batches[read])
        assert times.left_out == sum(id_ in batches[read] for read in range(2, 8))


def test_document_that_only_thrown_away_weights_learned_from_is_told_as_left_out(copy: tuple[Workspace, PretrainedModel]):
    workspace, model = copy
    held = {piece.id for read in range(STEPS) for piece in step_documents(workspace, model.path, read + 1)}
    write_return(model.path, LeftOut(1, 1, 10_000))
    manifest = read_manifest(model.path)
    assert manifest is not None
    (model.path / "manifest.json").write_text(json.dumps(asdict(replace(manifest, figures={"steps": 1.0}))))
    first = {piece.id for piece in step_documents(workspace, model.path, 1)}
    graph = read_graph(workspace)
    ways = whereabouts(workspace, graph, held, graph.sources(model.fingerprint) | {model.fingerprint})
    told = {id_: next(station for station in way.stations if station.stage == "pretrain") for id_, way in ways.items()}
    assert {id_ for id_, station in told.items() if station.role == "learned"} == first
    assert held > first
    for id_ in held - first:
        assert told[id_].role == "unseen"
        assert told[id_].told.startswith("left out ")
        assert "went back to before it, and threw away what had learned from it" in told[id_].told


def test_steps_before_a_start_are_those_of_the_run_that_it_goes_on_from(made: Made, copy: tuple[Workspace, PretrainedModel]):
    workspace, parent = copy
    here = Made(Bench.open(workspace.root), made.corpus, made.tokenizer)
    child = here.pretrain(here.shards(), begun_at(parent, 4), seed=8)
    run, before = read_run(workspace, child.path), read_run(workspace, parent.path)
    assert step_documents(workspace, child.path, 4) == step_documents(workspace, parent.path, 4)
    assert step_documents(workspace, child.path, 5) != step_documents(workspace, parent.path, 5)
    assert taker(run, batch_at(run, 4)).folder == before.folder
    shutil.rmtree(parent.path)
    with pytest.raises(UserError, match=f"its first 4 steps was read by pretrain {parent.fingerprint}, .* ask for a step above 4"):
        step_documents(workspace, child.path, 4)


def test_document_that_only_the_run_before_learned_is_learned_by_the_one_that_goes_on(made: Made, copy: tuple[Workspace, PretrainedModel]):
    workspace, parent = copy
    here = Made(Bench.open(workspace.root), made.corpus, made.tokenizer)
    other = here.shards(packing="documents")  # of which the second run takes one step, after the first two of the run before
    child = here.pretrain(other, begun_at(parent, 2), steps=3)
    early = {document.id for step in (1, 2) for document in step_documents(workspace, parent.path, step)}
    late = {document.id for document in step_documents(workspace, child.path, 3)}
    (only_before, *_), (never, *_) = sorted(early - late), sorted(ids_of(workspace, parent) - early - late)
    graph = read_graph(workspace)
    found = whereabouts(workspace, graph, [only_before, never])
    stations = {id_: {one.fingerprint: one for one in found[id_].stations} for id_ in (only_before, never)}
    assert (stations[only_before][child.fingerprint].role, stations[never][child.fingerprint].role) == ("learned", "unseen")
    assert stations[only_before][child.fingerprint].told == f"begins at step 2 of pretrain {parent.fingerprint}"


def begun_at(parent: PretrainedModel, step: int) -> FoundStart:
    """A checkpoint of a run that was not really trained."""
    start = Start(parent.path / "checkpoints" / f"step-{step:08d}", "on", True)
    return FoundStart(start, "d" * 64, f"pretrain/{parent.fingerprint}", read_job(parent.path), (step,), ())


def ids_of(workspace: Workspace, model: PretrainedModel) -> set[str]:
    run = read_run(workspace, model.path)
    return {document.id for step in range(1, run.steps + 1) for document in step_documents(workspace, model.path, step)}


def test_damaged_record_of_returns_is_named(copy: tuple[Workspace, PretrainedModel]):
    write_return(copy[1].path)
    (copy[1].path / "checkpoints" / "left_out.json").write_text("{")
    with pytest.raises(UserError, match=r"left_out.json: not as it was written .* Fix: put it back as it was"):
        read_run(copy[0], copy[1].path)


@pytest.mark.parametrize("step", [0, -1, STEPS + 1])
def test_a_step_that_a_run_has_not_is_refused_with_those_it_has(copy: tuple[Workspace, PretrainedModel], step: int):
    with pytest.raises(UserError, match=f"step {step} of .*: it has {STEPS} steps. Fix: give a step from 1 to {STEPS}"):
        step_documents(copy[0], copy[1].path, step)


@pytest.mark.parametrize("stage", ["shards", "tokenizer", "decontaminate"])
def test_what_was_deleted_meanwhile_is_named(copy: tuple[Workspace, PretrainedModel], stage: str):
    workspace, model = copy
    for folder in (workspace.root / stage).iterdir():
        shutil.rmtree(folder)
    with pytest.raises(UserError, match=f"{stage} [0-9a-f]{{16}} is not in .* Fix: "):
        step_documents(workspace, model.path, 1)


def test_a_missing_shard_and_an_altered_training_are_refused(copy: tuple[Workspace, PretrainedModel]):
    workspace, model = copy
    next(read_run(workspace, model.path).shards.glob("train/all/*.parquet")).unlink()
    with pytest.raises(UserError, match=r"shard-0000\d\.parquet is missing"):
        step_documents(workspace, model.path, 1)
    (model.path / "training.json").write_text('{"training": []}')
    with pytest.raises(UserError, match=r"training\.json was altered"):
        step_documents(workspace, model.path, 1)
    (model.path / "training.json").unlink()
    with pytest.raises(UserError, match=r"has no training\.json: .* Fix: run the recipe again"):
        step_documents(workspace, model.path, 1)


def test_a_training_that_was_killed_is_traced_as_far_as_it_came(copy: tuple[Workspace, PretrainedModel]):
    workspace, model = copy
    known = step_documents(workspace, model.path, 2)
    partial = model.path.with_name(f"{model.fingerprint}.partial")
    model.path.rename(partial)
    (partial / "manifest.json").unlink()
    for step in (1, 3):
        append_point(partial, point(step))
    assert step_documents(workspace, partial, 2) == known
    assert find_run(model.fingerprint[:7], workspace, "nowhere").run.done == 3
    assert find_run(str(partial), workspace, "nowhere").run.folder == partial
    piece = step_documents(workspace, partial, 9)[0]
    (way,) = whereabouts(workspace, read_graph(workspace), [piece.id]).values()
    station = next(station for station in way.stations if station.fingerprint == model.fingerprint)
    assert station.finished is None
    assert all(time.step <= 3 for time in station.seen)
    assert "(3 of 11 steps)" in station.told or station.role == "unseen"


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("ffffff", "no folder ffffff; no model with fingerprint ffffff…"),
        ("f" * 32, "no run of that id"),
        ("nonsense", "no folder nonsense. Expected an MLflow run id"),
        (".", r"a folder without manifest\.json and training\.json"),
    ],
)
def test_what_is_no_run_is_refused_with_what_was_tried(made: Made, reference: str, told: str):
    with pytest.raises(UserError, match=told):
        find_run(reference, made.workspace, f"sqlite:///{made.workspace.root}/none.db")
    assert not (made.workspace.root / "none.db").exists()


def test_an_artifact_that_took_no_steps_is_refused(made: Made):
    with pytest.raises(UserError, match="tokenizer .* is no model, so it took no steps"):
        find_run(made.tokenizer.folder, made.workspace, "nowhere")


def stations(made: Made, id_: str) -> dict[str, list[str]]:
    """What each stage's artifacts have to do with a document."""
    (way,) = whereabouts(made.workspace, read_graph(made.workspace), [id_]).values()
    told: dict[str, list[str]] = {}
    for station in way.stations:
        told.setdefault(station.stage, []).append(station.told)
    return told


def test_a_document_that_was_dropped_says_where_and_why_and_goes_no_further(made: Made):
    made.shards()
    assert stations(made, "short") == {"ingest": ["kept"], "annotate": ["kept"], "select": ["dropped: min_chars (10)"]}
    assert stations(made, "copy") == {
        "ingest": ["kept"],
        "annotate": ["kept"],
        "select": ["kept"],
        "deduplicate": ["dropped: exact_copy of en05 (1)"],
    }


def test_copies_name_one_another(made: Made):
    ways = whereabouts(made.workspace, read_graph(made.workspace), ["en05", "copy", "en06"])
    assert (ways["en05"].copies, ways["copy"].copies, ways["en06"].copies) == (("copy",), ("en05",), ())


def test_a_validation_document_is_judged_on_and_in_no_training_row(made: Made):
    model = made.pretrain(made.shards())
    id_ = pq.read_table(made.corpus.path / "validation.parquet")["id"][0].as_py()
    (way,) = whereabouts(made.workspace, read_graph(made.workspace), [id_]).values()
    shards = [station for station in way.stations if station.stage == "shards"]
    assert {piece.split for station in shards for piece in station.pieces} == {"validation"}
    assert next(station for station in way.stations if station.fingerprint == model.fingerprint).role == "judged"
    assert way.times == 0
    assert not any(station.stage == "tokenizer" for station in way.stations)


def test_a_model_whose_shards_were_deleted_is_named_as_untold(copy: tuple[Workspace, PretrainedModel]):
    workspace, model = copy
    (way,) = whereabouts(workspace, read_graph(workspace), ["en03"]).values()
    assert way.untold == ()
    shutil.rmtree(read_run(workspace, model.path).shards)
    (after,) = whereabouts(workspace, read_graph(workspace), ["en03"]).values()
    assert f"pretrain {model.fingerprint}" in after.untold
    assert not any(station.fingerprint == model.fingerprint for station in after.stations)


def test_parts_that_keep_the_text_are_named(made: Made):
    made.shards()
    folders = parts_that_hold(made.workspace, ["en03"])
    assert {folder.parent.name for folder in folders} == {"annotate", "decontaminate", "encode"}
    everything = {folder for stage in ("annotate", "encode") for folder in (made.workspace.root / "parts" / stage).iterdir()}
    assert everything - set(folders)  # those of the other table


def test_ids_may_be_shortened_as_long_as_one_fits(made: Made):
    graph = read_graph(made.workspace)
    assert find_document(graph, "en03").url == "https://mill.test/3"
    assert find_document(graph, "sho").id == "short"
    for prefix, told in (("zh", "20 documents have an id that begins with zh: zh00"), ("q", "no document with id q"), (" ", "empty")):
        with pytest.raises(UserError, match=told):
            find_document(graph, prefix)


def corpus_nodes(made: Made) -> list:
    return read_graph(made.workspace).of(*TABLES)


@pytest.mark.parametrize("make_text", [lambda text: text[3:17], lambda text: text[-9:], lambda text: text])
def test_text_is_found_letter_for_letter_in_any_language(made: Made, make_text: Callable[[str], str]):
    raw = [row for path in made.workspace.root.glob("ingest/*/documents-*") for row in pq.read_table(path).to_pylist()]
    for path in sorted(made.corpus.path.glob("train-*")):
        for row in pq.read_table(path).slice(0, 3).to_pylist():
            text = make_text(row["text"])
            found = find_text(corpus_nodes(made), text, TABLES)
            expected = {row["id"] for row in raw if text in str(row["text"])}
            assert found.documents == len(expected)
            assert {hit.document.id for hit in found.hits} == expected
            assert all(hit.text == text for hit in found.hits)


def test_many_documents_with_a_text_are_counted_and_a_few_listed(made: Made):
    found = find_text(corpus_nodes(made), "e", TABLES)
    assert len(found.hits) == LISTED < found.documents
    assert max(found.artifacts.values()) <= found.documents
    assert find_text(corpus_nodes(made), "Mühle", TABLES).documents == 0
    with pytest.raises(UserError, match="--text is empty"):
        find_text(corpus_nodes(made), " \n", TABLES)


def test_numbered_rows_beyond_the_last_are_an_error(made: Made):
    tables = sorted(made.corpus.path.glob("train-*"))
    total = sum(pq.read_metadata(path).num_rows for path in tables)
    assert len(numbered_rows(tables, range(total), ["id"])) == total
    with pytest.raises(IndexError, match=f"asked for number {total}"):
        numbered_rows(tables, [0, total], ["id"])


def test_a_workspace_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="no workspace .*--workspace DIR"):
        read_graph(Workspace(tmp_path / "none"))
