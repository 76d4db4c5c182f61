"""What the report tells of a run that was made: gathered from its artifacts."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from flows.runner.execution import Record
from flows.runner.report_facts import audit, packing, spikes, tokenizer_quality, training_story
from model.training.curve import CURVE, append_point
from model.training.events import EVENTS, Event, append_event
from model.training.left_out import LeftOut, write_left_out
from tasks.artifacts import Artifact, Workspace, as_artifact, read_manifest
from tasks.lineage.step_trace import batch_of_data, documents_of, read_run, step_documents
from tests.curve_points import point

if TYPE_CHECKING:
    from tests.flows.conftest import Built

SPIKE = 6  # a step of the tiny recipe's eight


def record(stage: str, folder: Path) -> Record:
    """A finished node of a run."""
    manifest = read_manifest(folder)
    assert manifest is not None
    return Record(stage, "", (), artifact=as_artifact(Artifact, folder, manifest))


def test_report_of_the_run_tells_of_tokenizer_rows_and_batches(built: "Built") -> None:
    page = built.folder("report").joinpath("report.html").read_text()
    assert re.findall(r'<h2 id="(tokenizer|rows|batches)">', page) == ["tokenizer", "rows", "batches"]
    assert "What came again" in page
    assert not (built.folder("report") / "steps").exists()


def test_tokenizer_packing_and_audit_are_read_as_their_stages_wrote_them(built: "Built") -> None:
    tokenizer = tokenizer_quality([record("tokenizer", built.folder("tokenizer"))])
    assert tokenizer is not None
    assert {row.tokenizer for row in tokenizer.table} == {"this"}
    assert {row.language for row in tokenizer.table} == set(tokenizer.bytes_per_token)
    rows = packing(record("shards", built.folder("shards")))
    assert {row.split for row in rows} == {"train", "validation"}
    assert all(row.room - row.padding >= row.tokens and sum(row.lengths.counts) == row.documents for row in rows)
    found = audit(record("pretrain", built.folder("pretrain")))
    train = next(row for row in rows if row.split == "train")
    assert (found.steps, found.repeats.in_epoch, found.repeats.delivered_rows) == (8, 0, 64)
    assert found.repeats.epochs == {"all": 64 / train.rows}
    assert sum(found.document_tokens.counts) == train.documents


def write_spike(folder: Path) -> None:
    """A smooth curve but for one step."""
    (folder / CURVE).unlink()
    for at in range(40):
        append_point(folder, point(at + 1, worst=(SPIKE, 9.0 if at == 29 else 2.0)))


def test_spike_of_a_curve_is_told_with_the_documents_of_its_step(workspace: Path, built: "Built") -> None:
    folder = workspace / "pretrain" / built.folder("pretrain").name
    write_spike(folder)
    (spike,) = spikes(Workspace(workspace), record("pretrain", folder))
    assert (spike.step, spike.loss, spike.usual, spike.untold) == (SPIKE, 9.0, 2.0, "")
    assert spike.command == f"wordmill trace {folder.name} --step {SPIKE}"
    assert spike.documents == tuple(step_documents(Workspace(workspace), folder, SPIKE))
    assert len({document.row for document in spike.documents}) == 8


def test_spike_is_told_where_the_shards_are_gone(workspace: Path, built: "Built") -> None:
    folder = workspace / "pretrain" / built.folder("pretrain").name
    write_spike(folder)
    Workspace(workspace).discard("shards", built.folder("shards").name)
    (spike,) = spikes(Workspace(workspace), record("pretrain", folder))
    assert spike.documents == ()
    assert "shards" in spike.untold


def test_training_of_the_run_is_told_with_its_start_its_saves_and_its_checkpoints(workspace: Path, built: "Built") -> None:
    folder = workspace / "pretrain" / built.folder("pretrain").name
    found = training_story(Workspace(workspace), record("pretrain", folder), "workspace")
    kinds = [event.kind for event in found.events]
    assert kinds[0] == "started"
    assert "saved" in kinds
    assert (found.fingerprint, found.skipped, found.restarts, found.skips) == (folder.name, 0, (), ())
    assert found.checkpoints[0] == 8
    assert found.checkpoint_bytes > 0
    assert found.seconds > 0
    page = built.folder("report").joinpath("report.html").read_text()
    assert "pretrain: what befell it" in page
    assert "finetune: topics: what befell it" in page


def test_skipped_steps_are_told_with_their_documents_and_how_to_forget_them(workspace: Path, built: "Built") -> None:
    folder = workspace / "pretrain" / built.folder("pretrain").name
    write_left_out(folder / "checkpoints", [LeftOut(4, 4, 2)])
    (folder / EVENTS).unlink()
    for event in (
        Event("skipped", 2, "loss nan", data_step=1),
        Event("skipped", 6, "loss inf", data_step=5),
        Event("returned", 6, "to step 4"),
        Event("skipped", 2, "loss nan", data_step=1),
    ):
        append_event(folder, event)
    (folder / "profile").mkdir()
    (folder / "profile" / "steps-1-2.json.gz").touch()
    chosen = Workspace(workspace)
    found = training_story(chosen, record("pretrain", folder), "other place")
    assert (found.skipped, [(skip.step, skip.is_left_out) for skip in found.skips]) == (1, [(2, False), (6, True)])
    first, gone = found.skips
    assert first.command == f"wordmill trace {folder.name} --step 2 --workspace 'other place'"
    assert gone.command == f"wordmill trace {folder.name} --data-step 5 --workspace 'other place'"
    run = read_run(chosen, folder)
    assert first.documents == tuple(step_documents(chosen, folder, 2))
    assert gone.documents == tuple(documents_of(run, batch_of_data(run, 5)))
    ids = {document.id for document in first.documents}
    assert {line.split()[2] for line in first.forget} == ids
    assert len(first.forget) == len(ids)
    assert all(line.endswith("--workspace 'other place'") for line in first.forget)
    assert found.profiles == (f"../../pretrain/{folder.name}/profile/steps-1-2.json.gz",)
