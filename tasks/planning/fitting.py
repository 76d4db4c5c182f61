"""Fitting: whether a training has room on its device, what takes most of it, and the nearest settings that would have room."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Literal

from model.config.layout_config import RECOMPUTED
from model.config.training_config import MOST_BETA2
from model.training.budget import TrainingMemory
from tasks.machine import Machine
from tasks.planning.hardware import Hardware
from tasks.planning.training_work import MEMORY_PARTS, TrainingWork

Verdict = Literal["fits", "tight", "does not fit", "not known"]

LIBRARY_BYTES = 10**9  # of a process beside its training: interpreter, torch, tables; the demo's on CPUs held 0.8 to 1.2 GB
REFUSED = 1.2  # times the memory that there is: a run that is estimated to take more is not begun
TIGHT = 0.9  # of the memory: above it, the estimate's own error decides
MOST_SETTINGS = 3
MOST_WORKERS = 64
SMALLER = (0.75, 0.5, 0.25, 0.125, 0.0625)  # shares of the layers, and of the width, that are tried


@dataclass(frozen=True)
class Setting:
    """Keys to set, and the memory that a process then takes."""

    keys: tuple[str, ...]  # as after --set
    peak: int


@dataclass(frozen=True)
class Fit:
    """Of one training."""

    precision: str  # that was counted
    memory: TrainingMemory  # of one process, without libraries
    peak: int  # with them
    room: int | None  # bytes; None: not known
    verdict: Verdict
    largest: str  # part
    nearest: tuple[Setting, ...]  # that would fit, where this does not

    @property
    def is_refused(self) -> bool:
        """Whether it plainly does not fit."""
        return self.room is not None and self.peak > REFUSED * self.room


def fit_of(work: TrainingWork, hardware: Hardware, machine: Machine) -> Fit:
    """How much it takes, of how much."""
    precision, room = work.compute_precision(machine, hardware.is_gpu), hardware.memory
    memory = work.memory(precision, hardware.is_gpu)
    peak = memory.peak + LIBRARY_BYTES
    verdict: Verdict = "not known" if room is None else "does not fit" if peak > room else "tight" if peak > TIGHT * room else "fits"
    parts = {name: getattr(memory, name) for name in MEMORY_PARTS}
    nearest = nearest_settings(work, hardware, machine, room) if room is not None and peak > room else ()
    return Fit(precision, memory, peak, room, verdict, max(parts, key=lambda name: parts[name]), nearest)


@dataclass(frozen=True)
class _Option:
    """One setting made smaller."""

    keys: tuple[str, ...]
    change: Callable[[TrainingWork], TrainingWork]


def nearest_settings(work: TrainingWork, hardware: Hardware, machine: Machine, room: int) -> tuple[Setting, ...]:
    """At most three that fit: one thing changed as little as it can be, else two together, and so on; a smaller model comes last."""
    ladders, found, kept = _ladders(work, hardware), [], []
    for count in range(1, len(ladders) + 1):
        for names in combinations(ladders, count):
            if len(found) == MOST_SETTINGS or any(set(names) >= before for before in kept):
                continue
            setting = _least_change(work, hardware, machine, room, [ladders[name] for name in names])
            if setting is not None:
                found.append(setting)
                kept.append(set(names))
    return tuple(found)


def _least_change(
    work: TrainingWork, hardware: Hardware, machine: Machine, room: int, ladders: Sequence[Sequence[_Option]]
) -> Setting | None:
    for places in sorted(product(*(range(len(ladder)) for ladder in ladders)), key=sum):
        options = [ladder[place] for ladder, place in zip(ladders, places, strict=True)]
        changed = work
        for option in options:
            changed = option.change(changed)
        peak = changed.memory(changed.compute_precision(machine, hardware.is_gpu), hardware.is_gpu).peak + LIBRARY_BYTES
        if peak <= TIGHT * room:
            return Setting(tuple(key for option in options for key in option.keys), peak)
    return None


def _ladders(work: TrainingWork, hardware: Hardware) -> dict[str, tuple[_Option, ...]]:
    """What may be changed, from little to much each; those first that cost least."""
    found = {
        "micro_rows": tuple(_fewer_rows(work)),
        "recompute": tuple(_recompute(work)),
        "moments": tuple(_shorter_moments(work)),
        "precision": tuple(_shorter_numbers(work, hardware)),
        "shards": tuple(_shards(work, hardware)),
        "layers": tuple(_fewer_layers(work)),
        "width": tuple(_narrower(work)),
    }
    return {name: options for name, options in found.items() if options}


def _fewer_rows(work: TrainingWork) -> Iterator[_Option]:
    rows = min(work.micro_rows, -(-work.batch_rows // work.processes)) // 2
    while rows:
        yield _Option((f"{work.key}.micro_rows={rows}",), lambda work, rows=rows: replace(work, micro_rows=rows))
        rows //= 2


def _recompute(work: TrainingWork) -> Iterator[_Option]:
    if work.shape.is_recurrent:
        return
    for kind in RECOMPUTED[RECOMPUTED.index(work.layout.activation_checkpointing) + 1 :]:
        yield _Option(
            (f"{work.key}.layout.activation_checkpointing={kind}",),
            lambda work, kind=kind: replace(work, layout=replace(work.layout, activation_checkpointing=kind)),
        )


def _shorter_moments(work: TrainingWork) -> Iterator[_Option]:
    optimizer = work.optimizer
    holds = optimizer.kind == "lion" or (optimizer.kind in ("adamw", "muon") and optimizer.beta2 <= MOST_BETA2)
    if holds and optimizer.state_dtype == "float32":
        yield _Option(
            (f"{work.key}.optimizer.state_dtype=bfloat16",),
            lambda work: replace(work, optimizer=replace(work.optimizer, state_dtype="bfloat16")),
        )


def _shorter_numbers(work: TrainingWork, hardware: Hardware) -> Iterator[_Option]:
    if work.precision == "float32" and hardware.is_gpu:
        yield _Option((f"{work.key}.precision=bfloat16",), lambda work: replace(work, precision="bfloat16"))


def _shards(work: TrainingWork, hardware: Hardware) -> Iterator[_Option]:
    """Over the workers that there are, then over more: each brings a device of its own, which processes of one machine do not."""
    if not hardware.is_gpu or not work.workers.count or work.optimizer.kind == "adafactor":  # which needs whole matrices
        return
    count = work.processes if not work.layout.shards and work.processes > 1 else 2 * work.processes
    while count <= min(MOST_WORKERS, work.batch_rows):
        keys = () if work.layout.shards else (f"{work.key}.layout.shards=true",)
        more = () if count == work.processes else (f"{work.key}.workers={count}",)
        if work.batch_rows % count == 0:
            yield _Option(
                (*keys, *more),
                lambda work, count=count: replace(
                    work, layout=replace(work.layout, shards=True), workers=replace(work.workers, count=count, least=0)
                ),
            )
        count *= 2


def _fewer_layers(work: TrainingWork) -> Iterator[_Option]:
    """Of a new model; a fine-tuning has that of its base."""
    depths = {max(1, round(work.shape.layers * share)) for share in SMALLER} if work.stage == "pretrain" else set[int]()
    for layers in sorted(depths - {work.shape.layers}, reverse=True):
        yield _Option((f"model.layers={layers}",), lambda work, layers=layers: replace(work, shape=replace(work.shape, layers=layers)))


def _narrower(work: TrainingWork) -> Iterator[_Option]:
    """Widths that the heads divide into even parts."""
    shape, part = work.shape, 2 * work.shape.heads
    is_free = work.stage == "pretrain" and not (shape.head_dim or shape.mlp_width)
    widths = {round(shape.width * share) // part * part for share in SMALLER} if is_free else set[int]()
    for width in sorted(widths - {0, shape.width}, reverse=True):
        yield _Option((f"model.width={width}",), lambda work, width=width: replace(work, shape=replace(work.shape, width=width)))
