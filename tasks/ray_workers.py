"""Ray Train workers: a training on several of them; how they are asked to save and stop, and what a lost one leads to.

The entry runs in a thread of each worker, where no signal is heard: the driver turns those that it hears into files. A worker
that dies, or a collective that does not come to its end, has the group begin again from its last checkpoint with the workers
that there are. A fault that trying again cannot help is noted in a file instead of raised, since Ray would try again.
"""

import json
import os
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from model.training.allocation import allocation_environment
from model.training.interruption import Asked, Requests, Signals
from tasks.cluster import LostWorkers, ray_environment
from tasks.errors import UserError
from tasks.settings import Json
from tasks.training_entry import ChildSpec, call_entry

if TYPE_CHECKING:
    from ray.train.torch import TorchTrainer

LOOK_SECONDS = 0.2  # between looks at what the signals and the workers say
FAULT_SECONDS = 5.0  # after a worker's fault, for the others to end: they may wait in a collective for one that has left
START_SECONDS = 5.0  # for the places of an elastic group: right after a loss Ray may still count those of the lost node
RESIZE_SECONDS = 60.0  # between looks whether a group may grow, which costs the steps since its last checkpoint


class _Files:
    """What driver and workers say to each other, in the folder that they share."""

    def __init__(self, spec: ChildSpec) -> None:
        self.folder = Path(spec.storage).absolute()
        self.stop, self.save, self.began, self.note = (self.folder / f"{spec.name}.{end}" for end in ("stop", "save", "began", "note"))

    def clear(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in (self.stop, self.save, self.began, self.note):
            path.unlink(missing_ok=True)

    def leave_note(self, kind: str, message: str) -> None:
        """What ends the training; that of the first worker who has one."""
        own = self.folder / f"{self.note.name}.{os.getpid()}"
        own.write_text(json.dumps({"kind": kind, "message": message}))
        try:
            os.link(own, self.note)
        except FileExistsError:
            pass
        finally:
            own.unlink()

    def read_note(self) -> Exception | None:
        """None where there is none."""
        if not self.note.exists():
            return None
        told = json.loads(self.note.read_text())
        return {"UserError": UserError, "InterruptedError": InterruptedError}.get(told["kind"], RuntimeError)(told["message"])


# ---------------------------------------------------------------------------------------------------------------------
# On each worker


def _train_on_worker(config: dict[str, Json]) -> None:
    """torch.distributed is set up; the entry finds its rank there."""
    spec = ChildSpec(**config)  # type: ignore[arg-type]
    files = _Files(spec)
    if files.stop.exists():
        files.leave_note("InterruptedError", f"{spec.name}: stopped before the next step")
        return
    try:
        call_entry(spec, partial(_requests, files))
    except (InterruptedError, UserError) as error:
        files.leave_note(type(error).__name__, str(error))
    except Exception as error:
        if is_lost_peer(error):
            raise
        files.leave_note("error", f"{type(error).__name__}: {error}")


@contextmanager
def _requests(files: _Files) -> Generator[Asked]:
    import ray.train

    files.began.touch()
    takes = ray.train.get_context().get_world_rank() == 0
    yield _RayRequests(Requests(files.folder, files.stop.stem, takes))


class _RayRequests:
    """Files of the driver's, and Ray's notice that a node is about to be taken away: then the group stops, to go on elsewhere."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    def stop(self) -> bool:
        """Whether to save and stop."""
        return self._requests.stop() or _is_preempted()

    def save(self) -> bool:
        """Whether to save now, since this was last called."""
        return self._requests.save()


def _is_preempted() -> bool:
    """Whether a node of the group is being taken away, as far as this worker has heard.

    Ray's public `get_preemption_info` waits for all workers at each call; the loop agrees on its answers anyway.
    """
    from ray.train.v2._internal.execution.context import get_train_context

    return get_train_context().preemption_context.preemption_info is not None


def is_lost_peer(error: BaseException) -> bool:
    """Whether an error says that another process, or the device, is gone or does not answer in time.

    gloo raises a plain RuntimeError that begins with a path in its source.
    """
    import torch
    from torch.distributed import DistError

    seen: list[BaseException] = []
    found: BaseException | None = error
    while found is not None and found not in seen:
        seen.append(found)
        if isinstance(found, DistError | torch.AcceleratorError):
            return True
        if isinstance(found, RuntimeError) and "/gloo/" in str(found):
            return True
        found = found.__cause__ or found.__context__
    return False


# ---------------------------------------------------------------------------------------------------------------------
# In the training process, which drives them


def train_on_ray(spec: ChildSpec) -> None:
    """Run the training to its end. Raises InterruptedError, UserError, LostWorkers, RuntimeError."""
    import ray

    files = _Files(spec)
    files.clear()
    join_ray(spec)
    try:
        with Signals() as asked:
            while True:
                has_ended = _fit(_trainer(spec), files, asked)
                ended = files.read_note()
                if not isinstance(ended, InterruptedError) or asked.stop():
                    break
                files.clear()  # Ray takes a node away: the workers have saved, and go on on others
        if has_ended:
            ray.shutdown()
        if ended is not None:
            raise ended
    finally:
        files.clear()


def join_ray(spec: ChildSpec) -> None:
    import ray

    if spec.address is None:
        cpus = max(spec.workers, os.cpu_count() or 1)
        ray.init(address="local", num_cpus=cpus, include_dashboard=False, object_store_memory=spec.object_store_bytes, log_to_driver=False)
        return
    variables = {**allocation_environment(), **ray_environment()}
    try:
        ray.init(address=spec.address, log_to_driver=False, runtime_env={"env_vars": variables})
    except ConnectionError as error:
        raise UserError(f"cluster.address {spec.address}: no Ray answers there. Start one (ray start --head) or leave it out.") from error


def _trainer(spec: ChildSpec) -> "TorchTrainer":
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    is_elastic = spec.least < spec.workers
    if is_elastic:
        os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = f"{START_SECONDS:g}"
    return TorchTrainer(
        _train_on_worker,
        train_loop_config=asdict(spec),
        torch_config=TorchConfig(timeout_s=round(spec.collective_seconds)),
        scaling_config=ScalingConfig(
            num_workers=(spec.least, spec.workers) if is_elastic else spec.workers,
            use_gpu=spec.gpus > 0,
            resources_per_worker={"CPU": 1, **({"GPU": spec.gpus} if spec.gpus else {})},
            elastic_resize_monitor_interval_s=RESIZE_SECONDS,
        ),
        run_config=RunConfig(
            name=f"run-{os.getpid()}-{time.time_ns()}",
            storage_path=str(Path(spec.storage).absolute()),
            failure_config=FailureConfig(max_failures=spec.restarts),
        ),
    )


def _fit(trainer: "TorchTrainer", files: _Files, asked: Signals) -> bool:
    """Until the workers have ended, hand on what the signals ask for; False when they were not waited for.

    In another thread, since Ray takes SIGINT for itself. Where Ray is left in the middle, it must not be shut down, which ends this
    process on the spot; what it started ends with the process.
    """
    failed: list[Exception] = []
    thread = threading.Thread(target=_fit_quietly, args=(trainer, failed), daemon=True)
    thread.start()
    noted = None
    while thread.is_alive():
        thread.join(LOOK_SECONDS)
        if asked.save():
            files.save.touch()
        if asked.stop():
            if not files.began.exists():
                raise InterruptedError("stopped before the first step")
            files.stop.touch()
        if noted is None and isinstance(files.read_note(), UserError | RuntimeError):
            noted = time.monotonic()
        if noted is not None and time.monotonic() - noted > FAULT_SECONDS:
            return False
    if failed and not files.note.exists():
        raise _told(failed[0]) from failed[0]
    return True


def _fit_quietly(trainer: "TorchTrainer", failed: list[Exception]) -> None:
    try:
        trainer.fit()
    except Exception as error:  # noqa: BLE001 - raised in the main thread
        failed.append(error)


def _told(error: Exception) -> Exception:
    """What Ray raised, as ours."""
    from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError

    if isinstance(error, WorkerGroupError):
        return worker_fault(error.worker_failures)
    if isinstance(error, TrainingFailedError):
        return LostWorkers(str(error)[-2000:])
    return error


def worker_fault(failures: Mapping[int, Exception]) -> Exception:
    """A worker's own error is passed on as it is; only workers that vanished make trying again worth while."""
    for failure in failures.values():
        if "ActorDied" not in type(failure).__name__ and "HealthCheck" not in type(failure).__name__ and not is_lost_peer(failure):
            return RuntimeError(f"{type(failure).__name__}: {failure}")
    return LostWorkers("; ".join(f"rank {rank}: {error}" for rank, error in failures.items())[:2000])
