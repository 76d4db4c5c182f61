"""Task backends: this process, a pool of processes on this machine, or Ray performs the file tasks."""

import logging
import multiprocessing
import os
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from tasks.errors import UserError
from tasks.executor.parts import AnyWork, Task, perform

WATCH_SECONDS = 1.0


class Backend(Protocol):
    """Where tasks are performed; a future ends with None, with the task's own exception, or with Lost."""

    width: int

    def submit(self, task: Task[AnyWork]) -> "Future[None]":
        """Start a task, or queue it."""
        ...

    def close(self) -> None:
        """Stop at once."""
        ...


class Here:
    """This process: one file after another."""

    width = 1

    def submit(self, task: Task[AnyWork]) -> "Future[None]":
        done: Future[None] = Future()
        perform(task)
        done.set_result(None)
        return done

    def close(self) -> None:
        return


class Processes:
    """A pool of processes on this machine; they end with it."""

    def __init__(self, workers: int) -> None:
        from pebble import ProcessPool

        self.width = workers
        context = multiprocessing.get_context("spawn")
        self._pool: ProcessPool = ProcessPool(workers, context=context, initializer=_end_with, initargs=[os.getpid()])

    def submit(self, task: Task[AnyWork]) -> "Future[None]":
        return self._pool.schedule(perform, args=[task])

    def close(self) -> None:
        self._pool.stop()
        self._pool.join()


def _end_with(parent: int) -> None:
    """A worker's first act: from now on it dies when its run does, also by `kill -9`."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the run's to answer; it stops the pool

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class OnRay:
    """Ray tasks, here or on a cluster that shares the workspace."""

    def __init__(self, workers: int, address: str | None, object_store_bytes: int) -> None:
        import ray

        if not ray.is_initialized():
            try:
                if address is None:
                    ray.init(
                        num_cpus=workers,
                        include_dashboard=False,
                        object_store_memory=object_store_bytes,
                        log_to_driver=False,
                        logging_level=logging.ERROR,
                    )
                else:
                    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            except ConnectionError as error:
                raise UserError(
                    f"cluster.address {address}: no Ray answers there. Start one (ray start --head) or leave it out."
                ) from error
        self.width = int(ray.cluster_resources().get("CPU", workers))
        self._remote = ray.remote(max_retries=0)(perform)

    def submit(self, task: Task[AnyWork]) -> "Future[None]":
        return self._remote.remote(task).future()

    def close(self) -> None:
        import ray

        ray.shutdown()


@dataclass(frozen=True)
class Loss:
    """Why a task is not done though it raised nothing: its worker died, or the whole node (`of_node`)."""

    cause: str
    of_node: bool = False


def loss_of(future: "Future[None]") -> Loss | None:
    """The loss of a task that ended, None when it is done; the task's own exception is raised."""
    from pebble import ProcessExpired

    error = future.exception()
    if error is None:
        return None
    if isinstance(error, ProcessExpired):
        return Loss(f"its worker ended with exit code {error.exitcode}")
    if type(error).__module__.startswith("ray."):
        return _ray_loss(error)
    raise error


def _ray_loss(error: BaseException) -> Loss:
    """Ray wraps a task's own exception; only lost workers and nodes are losses."""
    import ray.exceptions

    if isinstance(error, ray.exceptions.RayTaskError):
        raise error.as_instanceof_cause()
    if isinstance(error, ray.exceptions.NodeDiedError):
        return Loss("its node died", of_node=True)
    if isinstance(error, ray.exceptions.WorkerCrashedError | ray.exceptions.OutOfMemoryError):
        return Loss(f"its worker died ({type(error).__name__})")
    raise error
