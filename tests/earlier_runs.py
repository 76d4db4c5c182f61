"""Earlier runs in a workspace, and trainings to come, for tests of what plans tell from the ones of the others: nothing is run."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from model.config.heads import HeadSpec
from model.config.model_config import ModelConfig
from model.training.curve import append_point
from tasks.artifacts import Workspace, describe
from tasks.finetune.config import FinetuneConfig
from tasks.ledger import StageOutcome
from tasks.machine import Machine, this_machine
from tasks.planning.training_work import KnownExamples, TrainingWork, finetuning_work, pretraining_work
from tasks.pretrain.config import PretrainConfig, Pretraining
from tasks.settings import Json
from tests.curve_points import point

SHAPE = ModelConfig(family="llama", layers=2, width=64, heads=4, context=128)
VOCABULARY = 512
ROWS = 16


def pretraining(steps: int = 100, shape: ModelConfig = SHAPE, **settings: Json) -> TrainingWork:
    """Of 16 rows a step."""
    config = PretrainConfig.model_validate({"steps": steps, "batch_tokens": ROWS * shape.context, "threads": 1, **settings})
    return pretraining_work(Pretraining(shape, config), shape, VOCABULARY, shape.context)


def finetuning(name: str = "areas", steps: int = 100, mean_tokens: float | None = 32.0, **settings: Json) -> TrainingWork:
    """Of 16 rows a step."""
    config = FinetuneConfig.model_validate({"name": name, "examples": name, "steps": steps, "threads": 1, **settings})
    return finetuning_work(config, 0, SHAPE, VOCABULARY, KnownExamples(HeadSpec("sequence", 2), None, mean_tokens))


def leave_stage(
    workspace: Workspace,
    stage: str,
    fingerprint: str,
    seconds: float,
    subject: str = "",
    config: Json = None,
    inputs: Mapping[str, str] | None = None,
    size: int = 0,
    outcome: StageOutcome | None = None,
) -> Path:
    """A finished artifact with a file of so many bytes, built in so many seconds on this machine."""
    folder = workspace.begin(stage, fingerprint, keep=True)
    (folder / "data").write_bytes(bytes(size))
    return workspace.publish(describe(stage, fingerprint, config, inputs or {}, folder, outcome or StageOutcome(), seconds, subject))


def leave_training(workspace: Workspace, fingerprint: str, work: TrainingWork, step_seconds: float, beside: float = 5.0) -> Path:
    """A finished training like `work` whose every step took so long, and `beside` seconds the rest."""
    assert work.steps is not None
    folder = workspace.begin(work.stage, fingerprint, keep=False)
    tokens = work.tokens_per_step
    for step in range(10, work.steps + 1, 10):
        pace = tokens / step_seconds
        one = replace(point(step, pace=pace), seconds=step * step_seconds, tokens=round(step * tokens), steps=work.steps)
        append_point(folder, replace(one, mfu=work.flops_per_token * pace / 1e12))
    figures = {
        "steps": float(work.steps),
        "tokens": work.steps * tokens,
        "parameters": float(work.parameters),
        "processes": float(work.processes),
        "threads": float(work.workers.threads),
        "peak_flops": 1e12,
        "memory_bytes": 7e8,
    }
    config: Json = {"name": work.subject, "batch_rows": work.batch_rows} if work.stage == "finetune" else {}
    seconds = work.steps * step_seconds + beside
    return workspace.publish(
        describe(work.stage, fingerprint, config, {}, folder, StageOutcome(figures=figures), seconds, work.subject),
    )


def machine(memory: int = 16 * 10**9) -> Machine:
    """This one, without GPUs, with another memory."""
    return replace(this_machine(), memory=memory, gpus=(), has_bfloat16=False)
