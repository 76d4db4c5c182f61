"""What workers are told of a training comes out of JSON as it went in."""

import dataclasses
import json
from pathlib import Path

import pytest

from model.config.lora_config import LoraConfig
from model.config.model_config import ModelConfig
from model.config.objective_config import ObjectiveConfig
from model.config.training_config import ContextPhase, MixturePhase, OptimizerConfig, TrainingConfig
from tasks.finetune.config import FinetuneConfig
from tasks.finetune.job import FinetuneJob
from tasks.pretrain.job import TRAINING, PretrainJob, read_job, write_job

JOB = PretrainJob(
    Path("/w/shards/1"),
    "1",
    Path("/w/tokenizer/2"),
    "2",
    "1 {}",
    Path("/w/pretrain/3.partial"),
    Path("/v.txt"),
    ModelConfig(layers=1, width=32, heads=2),
    OptimizerConfig(warmup_steps=3),
    TrainingConfig(steps=7),
    (MixturePhase(0, {"en": 1.0, "zh": 3.0}),),
    (ContextPhase(0, 4), ContextPhase(3, 16)),
    5,
    ObjectiveConfig("masked", unit="word", words="/words.txt"),
    True,
)


def test_pretraining_job_keeps_every_field_placement_too() -> None:
    assert PretrainJob.from_json(json.loads(json.dumps(JOB.to_json()))) == JOB
    assert set(JOB.to_json()) == {field.name for field in dataclasses.fields(PretrainJob)}


def test_job_that_was_written_is_read(tmp_path: Path) -> None:
    write_job(JOB, tmp_path)
    assert read_job(tmp_path) == JOB


def test_altered_job_is_refused_by_key(tmp_path: Path) -> None:
    values = {**JOB.to_json(), "training": {"steps": "many"}}
    (tmp_path / TRAINING).write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"training\.steps: Input should be a valid integer"):
        read_job(tmp_path)


def test_finetuning_job_keeps_every_field_placement_too() -> None:
    config = FinetuneConfig(
        name="both",
        examples=["areas", "kinds"],
        weights={"areas": 2, "kinds": 1},
        lora=LoraConfig(rank=4),
        workers=3,
        gpus_per_worker=0.5,
        threads=2,
    )
    job = FinetuneJob(config, Path("/b"), Path("/t"), (Path("/e1"), Path("/e2")), ("1", "2"), "[]", Path("/out"))
    found = FinetuneJob.from_json(json.loads(json.dumps(job.to_json())))
    assert found == job
    assert (found.config.workers, found.config.gpus_per_worker, found.config.threads) == (3, 0.5, 2)
