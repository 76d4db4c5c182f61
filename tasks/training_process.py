"""Training process: the child's side of the launcher, `python -m tasks.training_process JOB.json`.

Under torchrun each of its processes is one of the training's: `torchrun --nproc-per-node 8 -m tasks.training_process JOB.json`.
SIGINT and SIGTERM: save and stop, exit code 130; SIGUSR1: save now. It ends so too when the process that started it is gone.
"""

import fcntl
import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path

from model.training.interruption import Signals
from tasks.cluster import INTERRUPTED, STOP_SECONDS, LostWorkers
from tasks.errors import UserError
from tasks.training_entry import ChildSpec, call_entry

logger = logging.getLogger(__name__)


def main(spec: Path) -> int:
    """Run one job; what went wrong, or where it was stopped, is left beside the spec for the parent."""
    _end_by_signals()
    told = ChildSpec(**json.loads(spec.read_text()))
    threading.Thread(target=_stop_with, args=(os.getppid(),), daemon=True).start()
    from model.distributed.device import is_under_torchrun, process_rank  # with torch, which takes seconds: signals are heard by now

    try:
        if is_under_torchrun():
            with _together(told.collective_seconds), _alone(spec.with_suffix(".lock")) if process_rank()[0] == 0 else nullcontext():
                call_entry(told, Signals)
            return 0
        with _alone(spec.with_suffix(".lock")):
            if told.workers == 0:
                call_entry(told, Signals)
            else:
                from tasks.ray_workers import train_on_ray

                train_on_ray(told)
    except KeyboardInterrupt:
        return INTERRUPTED
    except InterruptedError as error:
        _leave_verdict(spec, "InterruptedError", str(error))
        return INTERRUPTED
    except (UserError, LostWorkers) as error:
        _leave_verdict(spec, type(error).__name__, str(error))
        return 2
    except Exception as error:  # noqa: BLE001 - told with its traceback
        _leave_verdict(spec, "error", f"{type(error).__name__}: {error}")
        traceback.print_exc()
        return 1
    return 0


def _end_by_signals() -> None:
    """Until there are steps to save, a signal ends the process. The parent blocked SIGUSR1, which would have killed it as yet."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # a script's background jobs inherit SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})


@contextmanager
def _together(seconds: float) -> Generator[None]:
    """While open, the processes that torchrun started are one group, whose members wait no longer than this for one another."""
    import torch
    import torch.distributed as dist

    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=timedelta(seconds=seconds))
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def _alone(lock: Path) -> Generator[None]:
    """While open, no other process trains the same: one that lost its parent may still be saving."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.warning("an earlier process of this training is still saving; it is waited for")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _leave_verdict(spec: Path, kind: str, message: str) -> None:
    spec.with_suffix(".error").write_text(json.dumps({"kind": kind, "message": message}))


def _stop_with(parent: int) -> None:
    """Save and stop when the process that started this one is gone; SIGHUP, since it is no second signal after another one."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGHUP)
    time.sleep(STOP_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a Ray that is left in the middle, or a thread that still writes, has no say any more
