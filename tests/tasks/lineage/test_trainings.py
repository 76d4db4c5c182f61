"""What the folders of trainings tell: how far they came, what they keep, what is damaged."""

import json
import shutil
from pathlib import Path

import pytest

from model.training.events import EVENTS, Event
from model.training.left_out import LeftOut, write_left_out
from tasks.artifacts import Workspace
from tasks.errors import UserError
from tasks.lineage.trainings import Reached, find_training, find_trainings, read_training
from tests.curve_points import point
from tests.left_trainings import curve_to, leave_training, write_checkpoint

ONE, TWO = "1111222233334444", "1111aaaabbbbcccc"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace").open()


def test_training_that_was_left_tells_how_far_it_came_and_what_it_goes_on_from(workspace: Workspace) -> None:
    folder = leave_training(workspace, "pretrain", ONE, curve_to(50), (20, 40))
    record = find_training("1111", workspace)
    assert (record.stage, record.fingerprint, record.folder, record.finished) == ("pretrain", ONE, folder, None)
    assert (record.step, record.steps, record.loss, record.best) == (50, 100, 3.0, Reached(50, 4.0))
    assert [one.step for one in record.checkpoints] == [40, 20]
    assert all(one.bytes > 100 and one.damage is None for one in record.checkpoints)
    assert record.whole == record.checkpoints[0]


def test_damaged_checkpoint_is_passed_over_with_what_is_wrong(workspace: Workspace) -> None:
    folder = leave_training(workspace, "pretrain", ONE, curve_to(50), (20, 40))
    altered = folder / "checkpoints" / "step-00000040" / "model.safetensors"
    altered.write_bytes(altered.read_bytes().swapcase())  # the same size
    record = read_training(folder)
    assert record.whole is not None
    assert record.whole.step == 20
    assert [(one.step, one.damage is not None and "model.safetensors" in one.damage) for one in record.damaged] == [(40, True)]


def test_checkpoints_of_a_finished_training_are_held_against_its_manifest(workspace: Workspace) -> None:
    folder = leave_training(workspace, "pretrain", ONE, curve_to(100), (80, 100), figures={"steps": 100.0})
    assert [one.damage for one in read_training(folder).checkpoints] == [None, None]
    (folder / "checkpoints" / "step-00000080" / "optimizer.safetensors").write_bytes(b"x")
    shutil.rmtree(folder / "checkpoints" / "step-00000100")
    told = {one.step: str(one.damage) for one in read_training(folder).checkpoints}
    assert told.keys() == {100, 80}
    assert told[100].endswith("is missing")
    assert "optimizer.safetensors has 1 bytes" in told[80]


def test_best_figure_is_the_one_that_checkpoints_are_kept_by(workspace: Workspace) -> None:
    folder = leave_training(workspace, "finetune", ONE, curve_to(50))
    write_checkpoint(folder, 50, best_step=30, best=0.25)
    assert read_training(folder).best == Reached(30, 0.25)


def test_bits_per_byte_of_the_best_are_in_proportion_to_its_loss(workspace: Workspace) -> None:
    points = [*curve_to(90), point(100, validation=6.4)]
    figures = {"steps": 100.0, "validation_loss": 6.4, "validation_bits_per_byte": 2.0}
    record = read_training(leave_training(workspace, "pretrain", ONE, points, figures=figures))
    assert record.best == Reached(90, 3.2)
    assert record.bits_per_byte == pytest.approx(1.0)


def test_skips_returns_and_an_early_end_are_told(workspace: Workspace) -> None:
    skips = [Event("skipped", 5, "loss nan", data_step=4), Event("skipped", 7, "loss nan", data_step=6)]
    end = Event("ended early", 60, "nothing better in 3 evaluations")
    folder = leave_training(workspace, "pretrain", ONE, curve_to(60), events=[*skips, end], figures={"steps": 60.0})
    (folder / "checkpoints").mkdir()
    write_left_out(folder / "checkpoints", [LeftOut(6, 6, 2)])
    record = read_training(folder)
    assert (record.step, record.steps, record.skipped, record.ended_early) == (60, 100, 1, end.told)
    assert record.left_out == (LeftOut(6, 6, 2),)


def test_all_trainings_are_found_the_latest_first_and_one_that_cannot_be_read_spoils_nothing(workspace: Workspace) -> None:
    leave_training(workspace, "pretrain", ONE, curve_to(100), figures={})
    folder = leave_training(workspace, "finetune", TWO, curve_to(20))
    (workspace.root / "pretrain" / "notes").mkdir()
    assert [one.fingerprint for one in find_trainings(workspace).trainings] == [TWO, ONE]
    (folder / EVENTS).write_text("{}\n")
    found = find_trainings(workspace)
    assert [one.fingerprint for one in found.trainings] == [ONE]
    assert "events.jsonl: no event" in found.unreadable[0]


def test_training_that_has_told_nothing_yet_is_one_of_no_steps(workspace: Workspace) -> None:
    record = read_training(leave_training(workspace, "finetune", ONE, []))
    assert (record.step, record.steps, record.loss, record.best, record.checkpoints) == (0, None, None, None, ())


def test_training_is_found_by_its_folder_and_finished_before_what_was_left_beside(workspace: Workspace) -> None:
    finished = leave_training(workspace, "pretrain", ONE, curve_to(100), figures={})
    left = leave_training(workspace, "pretrain", ONE, curve_to(20))
    other = leave_training(workspace, "pretrain", TWO, curve_to(20), (20,))
    assert find_training(ONE, workspace).folder == finished
    assert find_training(str(left), workspace).folder == left
    assert find_training(str(other / "checkpoints" / "step-00000020"), workspace).folder == other


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("1111", f"several trainings begin so: pretrain {ONE}, pretrain {TWO}. Fix: give more digits"),
        ("feed", f"no training of that name in .*, where pretrain {TWO} is not finished"),
        ("nosuch", "Expected a fingerprint, or the start of one: wordmill runs lists them"),
    ],
)
def test_reference_that_means_no_training_or_several_is_refused(workspace: Workspace, reference: str, told: str) -> None:
    leave_training(workspace, "pretrain", ONE, curve_to(100), figures={})
    leave_training(workspace, "pretrain", TWO, curve_to(20))
    with pytest.raises(UserError, match=told):
        find_training(reference, workspace)


def test_records_that_were_altered_are_named_with_what_to_do(workspace: Workspace) -> None:
    folder = leave_training(workspace, "pretrain", ONE, curve_to(20), (20,))
    (folder / "checkpoints" / "left_out.json").write_text(json.dumps({"ranges": [{"step": 1}]}))
    with pytest.raises(UserError, match=r"left_out.json: not as it was written .* or delete .*: the next run of its recipe trains anew"):
        read_training(folder)
