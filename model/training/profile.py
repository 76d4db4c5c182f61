"""Profile: a trace by torch's profiler of some training steps, which Perfetto (ui.perfetto.dev) and Chrome open."""

import logging
import os
from contextlib import suppress
from pathlib import Path

import torch
from torch.autograd.profiler import record_function
from torch.profiler import ProfilerActivity, profile

from model.config.training_config import ProfileConfig

PROFILES = "profile"  # folder of what is trained

logger = logging.getLogger(__name__)


def profiles(folder: Path) -> list[Path]:
    """The traces that a training left in `folder`, oldest steps first."""
    return sorted((folder / PROFILES).glob("steps-*.json.gz"), key=lambda path: int(path.name.split("-")[1]))


class StepProfile:
    """Records the steps that a config asks for, on rank 0 alone, into folder/profile/steps-A-B.json.gz, A and B counted from 0.

    A run that is resumed in the middle records what is left. What cannot be written is logged, and the training goes on.
    """

    def __init__(self, config: ProfileConfig | None, folder: Path, rank: int) -> None:
        self._steps = range(*config.steps) if config is not None and rank == 0 else range(0)
        self._folder = folder / PROFILES
        self._profile: profile | None = None
        self._span: record_function | None = None
        self._recorded: list[int] = []

    def before(self, step: int) -> None:
        """Step `step`, counted from 0, begins."""
        if step not in self._steps:
            return
        if self._profile is None:
            activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
            self._profile = profile(activities=activities)
            self._profile.start()
        self._span = record_function(f"step {step}")
        self._span.__enter__()

    def after(self, step: int) -> None:
        """Step `step` is done; after the last of those asked for, the trace is written."""
        if self._span is None:
            return
        self._span.__exit__(None, None, None)
        self._span = None
        self._recorded.append(step)
        if step + 1 not in self._steps:
            self.close()

    def close(self) -> None:
        """Writes what was recorded so far, if anything was: for a training that ends in the middle. It may be called twice."""
        running, self._profile = self._profile, None
        if running is None:
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        running.stop()
        if self._recorded:
            _write(running, self._folder / f"steps-{self._recorded[0]}-{self._recorded[-1]}.json.gz")
        self._recorded, self._steps = [], range(0)


def _write(recorded: profile, target: Path) -> None:
    """Whole or not at all; a disk without room is told."""
    work = target.with_name(f".{os.getpid()}-{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        recorded.export_chrome_trace(str(work))
        work.rename(target)
        logger.info("%s: a trace of these steps; ui.perfetto.dev opens it", target)
    except (OSError, RuntimeError) as error:  # RuntimeError: of the profiler's own writer
        logger.warning("%s: the trace could not be written (%s); the training goes on without it", target, error)
        with suppress(OSError):
            work.unlink()
