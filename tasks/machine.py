"""Machine: its kind, as manifests note it, and the memory and GPUs that trainings find on it. Imports no torch."""

import math
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
CPUINFO = Path("/proc/cpuinfo")
ASKED = ("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
PATIENCE_SECONDS = 10.0  # for nvidia-smi


@dataclass(frozen=True)
class Gpu:
    """A GPU as its driver names it."""

    name: str
    memory: int  # bytes


@dataclass(frozen=True)
class Machine:
    """What computes, and how much memory there is."""

    processor: str
    cores: int  # that this process may use
    memory: int  # bytes, of all processes together: the machine's, or of a container its limit
    gpus: tuple[Gpu, ...] = ()
    has_bfloat16: bool = False  # the processor, in hardware

    @property
    def kind(self) -> dict[str, str]:
        """What makes seconds comparable: of two runs on one kind they should be much the same."""
        names = [gpu.name for gpu in self.gpus]
        gpus = ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
        return {"processor": self.processor, "cores": str(self.cores), **({"gpus": gpus} if gpus else {})}


def told_kind(kind: Mapping[str, str]) -> str:
    """In words: `2 cores of AMD EPYC 7763, 1 x NVIDIA H100`."""
    return ", ".join([f"{kind['cores']} cores of {kind['processor']}", *([kind["gpus"]] if "gpus" in kind else [])])


@cache
def this_machine() -> Machine:
    """As it is now; looked at once a process."""
    words = set(_cpuinfo("flags").split())
    named = _cpuinfo("model name") or platform.processor() or platform.machine()
    return Machine(named, _cores(), _memory(), _gpus(), has_bfloat16=bool(words & {"avx512_bf16", "amx_bf16", "amx_tile"}))


def _cpuinfo(name: str) -> str:
    """What Linux says of the first processor; empty where it does not."""
    try:
        lines = CPUINFO.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def _cores() -> int:
    """As many as the scheduler gives this process, and a container's quota."""
    free = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for told in _limits("cpu.max"):
        quota, _, period = told.partition(" ")
        if quota != "max":
            free = min(free, max(1, math.ceil(int(quota) / int(period))))
    return free


def _memory() -> int:
    limits = [int(told) for name in ("memory.max", "memory.limit_in_bytes") for told in _limits(name) if told != "max"]
    return min([psutil.virtual_memory().total, *limits])


def _limits(name: str) -> list[str]:
    """What the own control group and those above it say, of either version of cgroups."""
    try:
        own = [line.split(":", 2)[2].strip("/") for line in OWN_CGROUP.read_text().splitlines()]
    except OSError:
        own = []
    found: list[str] = []
    for top in (CGROUPS, CGROUPS / name.partition(".")[0]):
        for folder in {above for path in ["", *own] for above in (top / path, *(top / path).parents) if above.is_relative_to(top)}:
            try:
                found.append((folder / name).read_text().strip())
            except OSError:
                continue
    return [told for told in found if told]


def _gpus() -> tuple[Gpu, ...]:
    """As nvidia-smi lists them; none where it is not installed, or does not answer."""
    if shutil.which(ASKED[0]) is None:
        return ()
    try:
        done = subprocess.run(ASKED, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return gpus_in(done.stdout) if done.returncode == 0 else ()


def gpus_in(told: str) -> tuple[Gpu, ...]:
    """Of nvidia-smi's lines `NVIDIA H100 80GB HBM3, 81559`, in MiB; a line that is none (a GPU without a figure) is passed over."""
    cells = [line.rpartition(",") for line in told.splitlines()]
    return tuple(Gpu(name.strip(), int(memory) * 2**20) for name, _, memory in cells if memory.strip().isdigit())
