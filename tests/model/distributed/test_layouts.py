"""Layouts on four processes, all of them in one fixture: what it left is looked at by the tests."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks.layouts_equal import PROCESSES, SHAPES, VOCAB, Case, differences
from model.training.budget import training_memory
from tests.model.distributed.layout_runs import BOTH, CHANGES, DIVIDED, EQUAL, ONE, REPLICAS, SHARDS, work
from tests.model.processes import run_processes

TIMEOUT_SECONDS = 600  # 60 s on a quiet machine
pytestmark = pytest.mark.timeout(TIMEOUT_SECONDS)
FLOAT_ERROR = 2e-5  # relative, of any loss or norm; 2e-7 was the most measured


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("layouts")
    run_processes(work, (folder,), PROCESSES, TIMEOUT_SECONDS)
    return folder


def found(left: Path, name: str):
    return json.loads((left / name / "found.json").read_text())


def floats(losses: list[str]) -> list[float]:
    return [float.fromhex(loss) for loss in losses]


@pytest.mark.parametrize("case", EQUAL, ids=lambda case: f"{case.family} {case.micro_rows} {case.name}")
def test_every_layout_has_the_losses_and_norms_of_one_process(left: Path, case: Case):
    alone = EQUAL.index(case.alone)
    assert differences(found(left, f"equal/{EQUAL.index(case)}"), found(left, f"equal/{alone}")) < FLOAT_ERROR


@pytest.mark.parametrize("case", DIVIDED, ids=lambda case: case.name)
def test_stopped_training_resumes_to_the_same_bits(left: Path, case: Case):
    told: Mapping[str, list[object]] = found(left, f"resumes/{case.name}")
    assert told["parts"] == told["whole"]
    assert told["whole"][1] is not None


@pytest.mark.parametrize("case", DIVIDED, ids=lambda case: case.name)
def test_each_process_writes_a_file_of_its_own(left: Path, case: Case):
    files = found(left, f"resumes/{case.name}")["files"]
    count = case.processes
    own = [f"{part}-{number:05}-of-{count:05}.safetensors" for part in ("model", "optimizer") for number in range(1, count + 1)]
    assert files == sorted([*own, "random.safetensors", "guard.safetensors", "state.json", "manifest.json"])


@pytest.mark.parametrize(("source", "case"), CHANGES, ids=lambda case: case.name)
def test_checkpoint_of_one_layout_goes_on_in_another(left: Path, source: Case, case: Case):
    whole, rest = floats(found(left, f"kept/{source.name}")), floats(found(left, f"goes on/{source.name} in {case.name}"))
    assert rest == pytest.approx(whole[4:], rel=FLOAT_ERROR)


@pytest.mark.parametrize("name", ["frozen", "lora"])
def test_frozen_parameters_stay_as_they_are_where_weights_are_shared(left: Path, name: str):
    alone, shared = found(left, f"freezes/{ONE.name}"), found(left, f"freezes/{SHARDS.name}")
    assert shared[name] == alone[name]
    assert not any("blocks.0" in part and "lora" not in part for part in shared[name])
    assert floats(shared[f"{name} losses"]) == pytest.approx(floats(alone[f"{name} losses"]), rel=FLOAT_ERROR)


def test_several_heads_take_turns_where_weights_are_shared(left: Path):
    alone, shared = (floats(found(left, f"turns/{case.name}")) for case in (ONE, SHARDS))
    assert shared == pytest.approx(alone, rel=FLOAT_ERROR)


@pytest.mark.parametrize("case", [SHARDS, BOTH], ids=lambda case: case.name)
def test_best_weights_are_the_result(left: Path, case: Case):
    step, weights, loss = found(left, f"best/{case.name}")
    alone = found(left, f"best/{ONE.name}")
    assert step == alone[0]
    assert weights is not None
    assert loss == pytest.approx(alone[2], rel=FLOAT_ERROR)


def test_save_that_one_process_cannot_finish_leaves_the_checkpoint_before(left: Path):
    told = found(left, "fails/both")
    assert told["left"] == ["step-00000004"]
    ((failed, why),) = [event for event in told["events"] if event[0] == "save failed"]
    assert failed == "save failed"
    assert "process 3 could not write its part" in why
    assert told["weights"] is not None


@pytest.mark.parametrize("case", [REPLICAS, SHARDS], ids=lambda case: case.name)
def test_step_that_muon_skips_leaves_weights_and_momentum_of_all_processes(left: Path, case: Case):
    alone, told = found(left, f"muon/{ONE.name}"), found(left, f"muon/{case.name}")
    before, skipped, after = told["files"]
    assert told["skipped"] == [3]
    assert before == skipped != after
    assert floats(told["losses"])[3:] == pytest.approx(floats(alone["losses"])[3:], rel=FLOAT_ERROR)


def test_averaged_weights_of_processes_that_each_have_the_model_are_those_of_one(left: Path):
    (alone, _), (losses, weights) = found(left, f"averages/{ONE.name}"), found(left, f"averages/{REPLICAS.name}")
    assert losses == pytest.approx(alone, rel=FLOAT_ERROR)
    assert weights is not None


@pytest.mark.parametrize("case", [REPLICAS, SHARDS], ids=lambda case: case.name)
def test_processes_agree_on_the_least_rows_that_fit_any_of_them(left: Path, case: Case):
    rows, losses = found(left, f"rows/{case.name}")
    assert rows == 3
    assert floats(losses) == pytest.approx(floats(found(left, f"kept/{ONE.name}")), rel=FLOAT_ERROR)


@pytest.mark.parametrize("case", DIVIDED, ids=lambda case: case.name)
def test_budget_counts_the_bytes_that_a_process_holds(left: Path, case: Case):
    memory = training_memory(SHAPES["gpt2"], VOCAB, 3, "float32", accumulates=True, layout=case.layout, processes=case.processes)
    counted = found(left, f"bytes/{case.name}")
    expected = {"weights": memory.copy - memory.optimizer, "between": memory.gradients, "gradients": memory.gradients}
    expected["moments"] = memory.optimizer
    assert counted == pytest.approx(expected, rel=0.01 if case.layout.shards else 0)  # 61 rows of the embedding do not divide by two
