"""Training entry: the function that trains, in a process of its own or on Ray workers, and what such a process is told.

An entry that was asked to stop raises InterruptedError once its checkpoint is written: nothing of it is published, and the next
run goes on from there.
"""

import importlib
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from model.training.interruption import Asked
from tasks.errors import UserError, machine_fault
from tasks.settings import Json

Asking = Callable[[], AbstractContextManager[Asked]]  # opened around the steps: before and after them there is nothing to save
Entry = Callable[[dict[str, Json], Asking], None]


@dataclass(frozen=True)
class ChildSpec:
    """What the child process is told of a training."""

    entry: str  # "tasks.pretrain.pretrain:train_pretrain"
    job: dict[str, Json]
    name: str  # of the folder that it writes to
    workers: int  # at most; 0: without Ray
    least: int  # workers that are enough
    gpus: float
    threads: int
    address: str | None
    object_store_bytes: int
    collective_seconds: float
    restarts: int
    storage: str  # folder for Ray's own bookkeeping and for requests to workers


def call_entry(spec: ChildSpec, asking: Asking) -> None:
    """Run the entry on its job. Raises UserError for faults of the input and of the machine, else what the entry raises."""
    logging.basicConfig(format="%(message)s")
    for name in ("model", "tasks"):  # our own lines, into the job's log
        logging.getLogger(name).setLevel(logging.INFO)
    if spec.threads:
        import torch

        torch.set_num_threads(spec.threads)
    module, name = spec.entry.split(":")
    entry: Entry = getattr(importlib.import_module(module), name)
    try:
        entry(spec.job, asking)
    except InterruptedError:
        raise
    except Exception as error:
        fault = machine_fault(error)
        if fault is None:
            raise
        raise UserError(f"{spec.name}: {fault}") from error
