"""Saver: checkpoints written by a thread from a copy of the state, while the training goes on.

The copy takes as many bytes of the machine's memory as weights and moments together, 12 a parameter in float32, from the first save on.
A disk that is full, or does not take a file for another reason, ends the save and not the run. Where a layout divides the model, each
process copies and writes what it has of it, and the threads meet in a group of their own.
"""

import threading
import time
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn

from model.config.training_config import TrainingConfig
from model.distributed.control import Control
from model.distributed.layout import Layout
from model.optim.average import Average
from model.training.checkpoint import (
    Share,
    Snapshot,
    Tensors,
    TrainingState,
    checkpoint_path,
    checkpoints_in,
    delete_checkpoint,
    kept_steps,
    optimizer_tensors,
    random_states,
    step_of,
    write_checkpoint,
)
from model.training.events import Event
from model.training.mirror import Mirror
from model.training.step_guard import StepGuard
from model.training.stored import Place

LAST_WAIT = 60.0  # seconds, for a save that others may have left, once the training has failed
SLOWEST_WRITE = timedelta(hours=1)  # that a process waits for the others' files; one that dies is noticed at once


class Saver:
    """One at a time: a save begins when the one before has ended. Rank 0 writes; on others it takes part, where the model is divided."""

    def __init__(
        self,
        folder: Path,
        training: TrainingConfig,
        control: Control,
        is_writer: bool,
        place: Mirror | None = None,
        layout: Layout | None = None,
    ) -> None:
        """`layout`: one that divides the model. Every process makes a saver, at the same time."""
        self._folder, self._training, self._control, self._is_writer, self._place = folder, training, control, is_writer, place
        self._layout = layout if layout is not None and layout.is_divided else None
        self._meeting = None if self._layout is None else Control(waits=SLOWEST_WRITE)
        self._buffers: dict[str, Tensor] = {}
        self._thread: threading.Thread | None = None
        self._events: list[Event] = []
        self._fault: BaseException | None = None
        self.begun_at: int | None = None  # step of another run's checkpoint that this one began at: that of its own is kept

    def save(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        guard: StepGuard,
        state: TrainingState,
        waits: bool,
        average: Average | None = None,
    ) -> None:
        """Takes the copy and begins to write it; every process calls it. `waits`: returns when it is written."""
        began = time.perf_counter()
        layout = self._layout
        random = random_states(self._control, 1 if layout is None else layout.mesh.tensor)
        if not self._is_writer and layout is None:
            return
        self.wait()
        share, own = (None, None) if layout is None else _share(layout)
        weights = model.state_dict() if layout is None else {name: held.tensor for name, held in layout.held.items()}
        moments = optimizer_tensors(model, optimizer)
        snapshot = Snapshot(
            state,
            self._copied("model", {name: value for name, value in weights.items() if own is None or name in own}),
            self._copied("optimizer", {name: value for name, value in moments.items() if own is None or name.rsplit("/", 1)[0] in own}),
            random,
            self._copied("guard", guard.state()),
            {} if average is None else self._copied("average", average.state()),
            share,
        )
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        stood = time.perf_counter() - began
        self._thread = threading.Thread(target=self._write, args=(snapshot, began, stood), name="save", daemon=self._meeting is not None)
        self._thread.start()
        if waits:
            self.wait()

    def wait(self) -> None:
        """Until nothing is being written. Raises what the thread met that was no matter of the disk."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._fault is not None:
            raise self._fault

    def events(self) -> list[Event]:
        """What was saved, or could not be, since the last call."""
        found, self._events = self._events, []
        return found

    def _write(self, snapshot: Snapshot, began: float, stood: float) -> None:
        step = snapshot.state.step
        try:
            size = write_checkpoint(self._folder, snapshot, self._meeting)
            if not self._is_writer:
                return
            stays = self._tidy(snapshot.state.best_step)
            total = time.perf_counter() - began
            self._events.append(
                Event("saved", step, f"{checkpoint_path(self._folder, step).name}", seconds=stood, bytes=size, total_seconds=total)
            )
            if self._place is not None:
                self._place.put(checkpoint_path(self._folder, step))
                self._place.keep(stays)
        except OSError as error:
            told = f"{error}; the training goes on, and what came before is still there"
            self._events.append(Event("save failed", step, told, seconds=stood, total_seconds=time.perf_counter() - began))
        except BaseException as error:  # noqa: BLE001 - raised again by `wait`, in the training's own thread
            self._fault = error

    def _tidy(self, best: int | None) -> set[int]:
        """Deletes what is not to be kept; returns the steps that are."""
        chosen, found = self._training, {step_of(path): path for path in checkpoints_in(self._folder)}
        pinned = [step for step in (best, self.begun_at) if step is not None]
        stays = kept_steps(list(found), chosen.checkpoint_every, chosen.keep_checkpoints, chosen.keep_every, pinned)
        for step in found.keys() - stays:
            delete_checkpoint(found[step])
        return stays

    def _copied(self, part: str, tensors: Tensors) -> dict[str, Tensor]:
        """On the CPU, in buffers that every save uses again."""
        copies: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            key, shape = f"{part} {name}", tensor.shape
            buffer = self._buffers.get(key)
            if buffer is None or buffer.shape != shape or buffer.dtype != tensor.dtype:
                buffer = self._buffers[key] = torch.empty(shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
            copies[name] = buffer.copy_(tensor.detach(), non_blocking=True)
        return copies

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """What is being written is finished, whatever ended the training; of a divided model only if the others are there to do so."""
        if self._thread is not None:
            self._thread.join(None if self._meeting is None or error is None else LAST_WAIT)


def _share(layout: Layout) -> tuple[Share, frozenset[str]]:
    """What this process writes of a divided model, and the names of those parameters."""
    own = {name: Place(held.shape, held.slice) for name, held in layout.held.items() if held.is_own and held.tensor.numel()}
    number, count = layout.writer
    return Share(number, count, own), frozenset(own)
