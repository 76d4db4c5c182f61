"""A probe's steps, of every head."""

from dataclasses import replace
from pathlib import Path

import pytest

from model.config.heads import HeadSpec
from model.config.model_config import ModelConfig
from model.config.objective_config import ObjectiveConfig
from model.training.curve import read_curve
from tasks.planning import probe
from tasks.planning.past_training import pace_of
from tasks.planning.training_work import TrainingWork
from tests.earlier_runs import finetuning, pretraining

TINY = ModelConfig(family="llama", layers=1, width=16, heads=2, context=16)
MASKED = replace(pretraining(shape=replace(TINY, family="bert")), objective=ObjectiveConfig(kind="masked"))
PAIR = replace(pretraining(shape=replace(TINY, family="seq2seq")), objective=ObjectiveConfig(kind="spans"), masks_documents=False)


def headed(spec: HeadSpec, **settings: object) -> TrainingWork:
    return replace(finetuning(**settings), shape=TINY, row_tokens=16, head=spec)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "work",
    [
        pretraining(shape=TINY),
        MASKED,
        PAIR,
        headed(HeadSpec("language")),
        headed(HeadSpec("sequence", 3)),
        headed(HeadSpec("sequence", 3, "multi")),
        headed(HeadSpec("sequence", 1, "regression")),
        headed(HeadSpec("tokens", 3)),
        headed(HeadSpec("choice")),
        headed(HeadSpec("sequence", 2), lora={"rank": 2}),
        headed(HeadSpec("sequence", 2), freeze="trunk"),
    ],
    ids=lambda work: (
        f"{work.label} {work.shape.family} {'' if work.head is None else work.head.targets} {work.freeze} {work.lora is not None}"
    ),
)
def test_training_is_probed_with_made_up_tokens(work: TrainingWork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "STEPS", 3)
    probe.run_probe(probe.probe_job(work, tmp_path).to_json())
    points = read_curve(tmp_path)
    assert [one.step for one in points] == [1, 2, 3]
    assert (pace_of(points) or 0) > 0


def test_probe_takes_the_trainings_own_micro_batches_and_few_of_them() -> None:
    job = probe.probe_job(pretraining(batch_tokens=128 * 512, micro_rows=4, workers=2), Path("out"))
    assert (job.training.micro_rows, job.training.batch_rows) == (4, 2 * 4 * 2)


def test_slow_training_is_stopped_after_a_few_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "LONGEST_SECONDS", 0.0)
    probe.run_probe(probe.probe_job(pretraining(shape=TINY), tmp_path).to_json())
    assert read_curve(tmp_path)[-1].step == probe.LEAST_STEPS
