"""Hardware: what each process of a training computes on, and how much memory it has there."""

from dataclasses import dataclass

from model.training.data_sheets import DataSheet, sheet_of
from tasks.cluster import ClusterConfig
from tasks.machine import Machine, told_kind
from tasks.planning.training_work import TrainingWork

ASSUMED_GPU = "H100"  # where a recipe wants GPUs, this machine has too few, and `cluster.gpu` names none


@dataclass(frozen=True)
class Hardware:
    """Of one training."""

    is_here: bool  # on this machine, whose memory is known and whose runs can be compared
    is_gpu: bool
    name: str  # "8 x NVIDIA H100", "2 cores of AMD EPYC 7763"
    memory: int | None  # bytes that one process may take; None: not known
    sheet: DataSheet | None  # of its GPU
    is_assumed: bool = False  # nobody said which GPU


def hardware_of(work: TrainingWork, cluster: ClusterConfig, machine: Machine) -> Hardware:
    """GPUs where the workers ask for them, or where a training without Ray finds one; else this machine's processors."""
    finds_gpu = work.workers.count == 0 and bool(machine.gpus)
    if not (work.wants_gpus or finds_gpu):
        return _processors(work, cluster, machine)
    needed = max(1, work.gpus)
    is_named = cluster.gpu is None or all(sheet_of(gpu.name) == sheet_of(cluster.gpu) for gpu in machine.gpus)
    if cluster.address is None and len(machine.gpus) >= needed and (is_named or finds_gpu):
        gpu = min(machine.gpus, key=lambda one: one.memory)
        memory = cluster.device_memory or gpu.memory
        return Hardware(True, True, f"{needed} x {gpu.name}", _shared(memory, work), sheet_of(gpu.name))
    name = cluster.gpu or ASSUMED_GPU
    memory = None if cluster.device_memory is None else _shared(cluster.device_memory, work)
    return Hardware(False, True, f"{needed} x {name}", memory, sheet_of(name), cluster.gpu is None)


def _processors(work: TrainingWork, cluster: ClusterConfig, machine: Machine) -> Hardware:
    if cluster.address is not None:
        return Hardware(False, False, f"{work.processes} workers of {cluster.address}", cluster.device_memory, None)
    room = cluster.device_memory or machine.memory // work.processes
    return Hardware(True, False, told_kind(Machine(machine.processor, machine.cores, 0).kind), room, None)


def _shared(memory: int, work: TrainingWork) -> int:
    """Of a GPU, by as many workers as share it."""
    return round(memory * work.workers.gpus) if 0 < work.workers.gpus < 1 else memory
