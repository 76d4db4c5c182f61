"""Search by Ray Tune: trials side by side, each a training in a process of its own; ASHA ends those that fall behind.

It runs in a child process (tasks/training_process.py), as trainings do. A trial reports each validation loss; where ASHA (Li et
al., arXiv 1810.05934) has it end, it ends between two steps. A file `trials.stop` in the search's folder has all trials save and end.
What is left of a trial is its line in trials.jsonl and the curve in its folder.
"""

import json
import os
import shutil
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from model.training.curve import CurveReader
from model.training.interruption import Requests, Signals
from tasks.cluster import STOP_SECONDS
from tasks.errors import UserError
from tasks.ray_workers import join_ray
from tasks.settings import Json
from tasks.training_entry import Asking, ChildSpec, call_entry
from tasks.tune.trials import TrialJob

if TYPE_CHECKING:
    from ray import tune

STOP = "trials.stop"  # a file in the search's folder: all trials are to save and end
FIGURE, STEP = "validation_loss", "step"
FAILURE = "failure.txt"  # in the folder of a trial: why it cannot be trained. ASHA hears nothing of it: its percentiles bear no outlier
KEEPS = 3  # of so many trials, the best one goes on beyond a rung; eta of arXiv 1810.05934
LOOK_SECONDS = 0.2
LEAVE_SECONDS = STOP_SECONDS - 30  # that trials may take to save, before they are left alone: the launcher waits for us, too
QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no CSV, JSON or TensorBoard files
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_THRESHOLD_S": "60",
    "RAY_AIR_NEW_OUTPUT": "0",
}


@dataclass(frozen=True)
class SearchJob:
    """What the child process is told of a search."""

    folder: str
    trials: tuple[TrialJob, ...]
    steps: int  # of a trial that is not ended early
    first_rung: int  # steps before ASHA first ends a trial
    seconds: float  # for all
    threads: int  # of a trial
    gpus: float  # of a trial
    address: str | None  # Ray cluster to join
    object_store_bytes: int

    def to_json(self) -> dict[str, Json]:
        """As plain JSON."""
        return json.loads(json.dumps(asdict(self)))


def search(told: dict[str, Json], asking: Asking = Signals) -> None:
    """Entry of the child process: until all trials have ended, or the time is over; InterruptedError where it was asked to stop."""
    job = TypeAdapter(SearchJob).validate_python(told)
    os.environ.update(QUIET)
    deadline = time.monotonic() + job.seconds
    folder = Path(job.folder)
    (folder / STOP).unlink(missing_ok=True)
    import ray

    join_ray(_spec(job, None))
    _check_room(job, ray.cluster_resources())
    failed: list[Exception] = []
    thread = threading.Thread(target=_fit, args=(job, failed), daemon=True)  # in another than the main one Ray leaves signals alone
    with asking() as asked:
        thread.start()
        while thread.is_alive():
            thread.join(LOOK_SECONDS)
            if asked.stop() or time.monotonic() > deadline:
                (folder / STOP).touch()
                thread.join(LEAVE_SECONDS)
                break
        is_stopped = asked.stop()
    if not thread.is_alive():
        ray.shutdown()
        shutil.rmtree(folder / "ray", ignore_errors=True)
        (folder / STOP).unlink(missing_ok=True)
    if failed:
        raise failed[0]
    if is_stopped:
        raise InterruptedError("tune: stopped; trials that have ended are kept")


def _check_room(job: SearchJob, resources: Mapping[str, float]) -> None:
    for name, needed in (("CPU", float(job.threads)), ("GPU", job.gpus)):
        found = resources.get(name, 0.0)
        if needed > found:
            key = "threads" if name == "CPU" else "gpus_per_worker"
            raise UserError(
                f"pretrain.{key} {needed:g}: a trial needs as many, but Ray has {found:g}. Fix: lower it, or join a larger cluster."
            )


def _fit(job: SearchJob, failed: list[Exception]) -> None:
    try:
        _tuner(job).fit()
    except Exception as error:  # noqa: BLE001 - raised in the main thread
        failed.append(error)


def _tuner(job: SearchJob) -> "tune.Tuner":
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    from tasks.tune.ray_parts import Ends, Given

    asha = ASHAScheduler(time_attr=STEP, max_t=job.steps, grace_period=min(job.first_rung, job.steps), reduction_factor=KEEPS)
    each = {"CPU": job.threads, **({"GPU": job.gpus} if job.gpus else {})}
    return tune.Tuner(
        tune.with_resources(partial(run_trial, job), each),
        tune_config=tune.TuneConfig(
            metric=FIGURE, mode="min", scheduler=asha, search_alg=Given(job), num_samples=len(job.trials), reuse_actors=False
        ),
        run_config=tune.RunConfig(name="trials", storage_path=str((Path(job.folder) / "ray").absolute()), callbacks=[Ends(job)], verbose=0),
    )


# ---------------------------------------------------------------------------------------------------------------------
# In the process of a trial


def run_trial(job: SearchJob, config: dict[str, int]) -> None:
    """Trains one of the trials, or tells again what was measured of it before."""
    trial = job.trials[config["trial"]]
    reporter = Reporter(job, trial)
    if trial.known:
        for step, loss in trial.known:
            reporter.report(step, loss, "")
        return
    if reporter.stop():
        return
    try:
        call_entry(_spec(job, trial), reporter.asking)
    except InterruptedError:
        return
    except UserError as error:
        (Path(trial.folder) / FAILURE).write_text(str(error), encoding="utf-8")
        return
    reporter.tell("finished")


class Reporter:
    """Tells Ray Tune of validation losses, between two steps: there a trial that is to end leaves its training by SystemExit."""

    def __init__(self, job: SearchJob, trial: TrialJob) -> None:
        self._curve = CurveReader(Path(trial.folder))
        self._requests = Requests(Path(job.folder), STOP.removesuffix(".stop"), takes=False)

    @contextmanager
    def asking(self) -> "Generator[Reporter]":
        """Open around the steps."""
        yield self

    def save(self) -> bool:
        """Nobody asks for that."""
        return False

    def stop(self) -> bool:
        """Whether to save and stop. Called once a step."""
        self.tell("")
        return self._requests.stop()

    def tell(self, ends: str) -> None:
        """The validation losses since the last call; `ends`: why none will follow."""
        points = [point for point in self._curve.new_points() if point.validation_loss is not None]
        for number, point in enumerate(points, 1):
            assert point.validation_loss is not None
            self.report(point.step, point.validation_loss, ends if number == len(points) else "")

    def report(self, step: int, loss: float, ends: str) -> None:
        """To Ray Tune, which may end this thread here."""
        from ray import tune

        tune.report({STEP: step, FIGURE: loss, "ends": ends})


def _spec(job: SearchJob, trial: TrialJob | None) -> ChildSpec:
    return ChildSpec(
        entry="tasks.pretrain.pretrain:train_pretrain",
        job={} if trial is None else json.loads(trial.job),
        name="tune" if trial is None else f"trial {trial.fingerprint}",
        workers=0,
        least=0,
        gpus=job.gpus,
        threads=job.threads,
        address=job.address,
        object_store_bytes=job.object_store_bytes,
        collective_seconds=0,
        restarts=0,
        storage=job.folder,
    )
