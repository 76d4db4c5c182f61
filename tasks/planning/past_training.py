"""Past training: how fast an earlier training of the workspace went, and what it took beside its steps."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from model.training.curve import CurvePoint, CurveReader
from tasks.lineage.training_cost import by_process
from tasks.planning.history import History, Past

STAGES_THAT_TRAIN = ("pretrain", "finetune")


@dataclass(frozen=True)
class PastTraining:
    """A finished training, or a probe of one."""

    fingerprint: str
    stage: str
    subject: str
    machine: Mapping[str, str]
    parameters: float
    processes: int
    threads: int  # of each; 0: what torch chose
    is_gpu: bool
    tokens_per_step: float
    tokens_per_second: float  # all processes together, evaluations and checkpoints counted
    flops_per_token: float | None  # None: not measured
    overhead: float | None  # seconds beside the steps; None: it went on from an earlier process, so they are not known
    memory_bytes: float  # the most that one process held
    rows: float | None  # examples that it learned from
    mean_tokens: float | None  # of such a row, without padding


def past_trainings(history: History) -> list[PastTraining]:
    """All whose curve tells a pace."""
    known = [past for stage in STAGES_THAT_TRAIN for past in history.of_stage(stage)]
    return [found for past in known if (found := _read(past)) is not None]


def _read(past: Past) -> PastTraining | None:
    figures, config = past.manifest.figures, past.manifest.config
    batch_rows = config.get("batch_rows") if isinstance(config, dict) else None
    assert isinstance(batch_rows, int | None)
    try:
        points = CurveReader(past.folder).new_points()
    except ValueError:  # a curve that was altered tells nothing
        return None
    pace = pace_of(points)
    if pace is None or not figures.get("steps") or not figures.get("parameters"):
        return None
    is_whole = figures.get("restarts", 0.0) == 0.0
    steps_took = figures["tokens"] / pace
    return PastTraining(
        fingerprint=past.manifest.fingerprint,
        stage=past.manifest.stage,
        subject=past.subject,
        machine=past.manifest.machine,
        parameters=figures["parameters"],
        processes=int(figures.get("processes", 1)),
        threads=int(figures.get("threads", 0)),
        is_gpu=past.manifest.notes.get("device", "").startswith("cuda"),
        tokens_per_step=figures["tokens"] / figures["steps"],
        tokens_per_second=pace,
        flops_per_token=flops_per_token_of(points, figures.get("peak_flops", 0.0)),
        overhead=max(0.0, past.manifest.seconds - steps_took) if is_whole else None,
        memory_bytes=figures.get("memory_bytes", 0.0),
        rows=figures.get("examples"),
        mean_tokens=figures["tokens"] / figures["steps"] / batch_rows if batch_rows else None,
    )


def pace_of(points: list[CurvePoint]) -> float | None:
    """Tokens a second behind each process' first report, which has its warm-up; None where nothing was reported."""
    parts = by_process(points)
    tokens = sum(part[-1].tokens - part[0].tokens for part in parts)
    seconds = sum(part[-1].seconds - part[0].seconds for part in parts)
    if tokens > 0 and seconds > 0:
        return tokens / seconds
    last = points[-1] if points else None
    return last.tokens / last.seconds if last is not None and last.tokens > 0 and last.seconds > 0 else None


def flops_per_token_of(points: list[CurvePoint], peak_flops: float) -> float | None:
    """As each report counted them: the share of the peak that it reached, over its tokens a second."""
    told = [point.mfu * peak_flops / point.tokens_per_second for point in points if point.mfu and point.tokens_per_second]
    return median(told) if told and peak_flops else None
