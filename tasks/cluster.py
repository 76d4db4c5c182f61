"""Training launcher: a process of its own on this machine (`workers: 0`), or Ray Train workers, here or on a cluster.

Either way the caller's process stays free of torch and Ray. A child that is stopped saves first; it stops with its parent.
"""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from model.training.allocation import allocation_environment
from model.training.curve import CurvePoint, CurveReader
from model.training.data_sheets import DATA_SHEETS, sheet_of
from tasks.errors import UserError
from tasks.settings import Json, Placement, Section
from tasks.training_entry import ChildSpec, Entry

# Between the polite signal and the last one: a step on its way, then a checkpoint, 12 bytes a parameter in float32 with AdamW's
# moments; of 7 billion parameters that is 84 GB, 84 s at 1 GB/s. A second signal to the run ends it at once.
STOP_SECONDS = 150.0
INTERRUPTED = 130  # exit code of a child that was stopped
STOPPED = (INTERRUPTED, -signal.SIGINT, -signal.SIGTERM, -signal.SIGHUP)  # the signals: before it heard them
VERDICT_BYTES = 2**20  # with less on the disk, what a child has to say may not be written


UNITS = {"MB": 10**6, "MiB": 2**20, "GB": 10**9, "GiB": 2**30, "TB": 10**12}


def _bytes(value: object) -> object:
    """`80GB` as bytes; a number stays what it is. ValueError for other words."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", value)
    if match is None or match[2] not in UNITS:
        raise ValueError(f"found {value!r}; expected bytes, or a number with {', '.join(UNITS)}, such as 80GB")
    return round(float(match[1]) * UNITS[match[2]])


def _check_gpu(name: str | None) -> str | None:
    if name is not None and sheet_of(name) is None:
        known = dict.fromkeys(" ".join(sheet.names) for sheet in DATA_SHEETS)
        raise ValueError(f"found {name!r}; expected a GPU whose data sheet is known: {', '.join(known)}")
    return name


class ClusterConfig(Section):
    """Which Ray to use. Nothing here bears on a result."""

    address: Annotated[str | None, Placement()] = Field(
        default=None, description="Ray cluster to join, such as ray-head:6379 or auto; none: one is started for the training"
    )
    object_store_bytes: Annotated[int, Placement()] = Field(
        default=128 * 2**20, ge=80 * 2**20, description="shared memory of a Ray started here; nothing large goes through it"
    )
    collective_seconds: Annotated[float, Placement()] = Field(
        default=300,
        ge=5,
        description="seconds that workers wait for one another before all begin again from the last checkpoint. More than one of "
        "them takes to save, to compile or to read its first batch, when the others stand still; less than a hung GPU may cost",
    )
    restarts: Annotated[int, Placement()] = Field(
        default=3,
        ge=0,
        description="times that the workers of a training begin again after one was lost; none of them is a node taken away",
    )
    gpu: Annotated[str | None, Placement(), AfterValidator(_check_gpu)] = Field(
        default=None, description="GPU of the workers, such as H100, for what `wordmill plan` tells where they are not this machine's own"
    )
    device_memory: Annotated[int | None, Placement(), BeforeValidator(_bytes)] = Field(
        default=None, gt=0, description="memory of a worker's device, such as 80GB, for the same; none: this machine's, else not known"
    )


def _check_count(count: int | tuple[int, int]) -> int | tuple[int, int]:
    least, most = (count, count) if isinstance(count, int) else count
    if least < 0 or (least == 0 and not isinstance(count, int)) or least > most:
        shown = count if isinstance(count, int) else [*count]
        raise ValueError(f"found {shown}; expected a number, 0 for this machine without Ray, or [least, most], the least 1 or more")
    return count


WorkerCount = Annotated[int | tuple[int, int], AfterValidator(_check_count)]  # or the least and the most


@dataclass(frozen=True)
class Workers:
    """On how many processes a training runs."""

    count: int  # Ray Train workers, at most; 0: one process on this machine, without Ray
    gpus: float  # of each
    threads: int  # of each; 0: what torch chooses
    least: int = 0  # workers that are enough where there are no more; 0: all of them are needed

    @property
    def counts(self) -> tuple[int, int]:
        """The least and the most processes that train: one where there are no workers."""
        most = max(1, self.count)
        return self.least or most, most

    @classmethod
    def of(cls, count: WorkerCount, gpus: float, threads: int) -> "Workers":
        """From a recipe's figures."""
        return cls(count, gpus, threads) if isinstance(count, int) else cls(count[1], gpus, threads, count[0])


@dataclass(frozen=True)
class Training:
    """One training: a module-level function, what it is called with, where it writes its curve, and on how many workers."""

    entry: Entry
    job: dict[str, Json]
    out: Path
    workers: Workers


Launch = Callable[[Training], None]  # runs a training to its end


class LostWorkers(Exception):
    """Workers died more often than a run is restarted; trying again may help. Caught by the retries of the flows."""


class Launcher:
    """Starts jobs as child processes, follows their curves, and stops them all when the run is cancelled."""

    def __init__(self, config: ClusterConfig, logs: Path) -> None:
        self.config, self.logs = config, logs
        self._children: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._local_ray = threading.Lock()  # two Rays on one machine would both think they own its GPUs
        self._stopped = False

    def launch(self, training: Training, follow: Callable[[CurvePoint], None]) -> None:
        """Run a training to its end; `follow` gets each point that rank 0 appends to the curve.

        Raises UserError for the input's faults, LostWorkers when workers kept dying, InterruptedError when it was stopped, by
        `stop` or by a signal to the child itself, RuntimeError with the end of the log for anything else.
        """
        if training.workers.count > 0 and self.config.address is None:
            with self._local_ray:
                self._run(training, follow)
        else:
            self._run(training, follow)

    def save(self) -> None:
        """Have every child write a checkpoint now, and go on."""
        with self._lock:
            for child in self._children:
                child.send_signal(signal.SIGUSR1)

    def stop(self) -> None:
        """Stop every child: politely, so that it saves, then for good. Later launches are refused."""
        with self._lock:
            self._stopped = True
            children = list(self._children)
        for child in children:
            child.send_signal(signal.SIGINT)
        deadline = time.monotonic() + STOP_SECONDS
        for child in children:
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)

    def _run(self, training: Training, follow: Callable[[CurvePoint], None]) -> None:
        entry, workers, folder = training.entry, training.workers, training.out
        name = f"{folder.parent.name}-{folder.name.removesuffix('.partial')}"
        self.logs.mkdir(parents=True, exist_ok=True)
        path, log = self.logs / f"{name}.job.json", self.logs / f"{name}.log"
        verdict = path.with_suffix(".error")
        verdict.unlink(missing_ok=True)
        spec = ChildSpec(
            f"{entry.__module__}:{entry.__qualname__}",
            training.job,
            folder.name,
            workers.count,
            workers.least or workers.count,
            workers.gpus,
            workers.threads,
            self.config.address,
            self.config.object_store_bytes,
            self.config.collective_seconds,
            self.config.restarts,
            str(self.logs / "ray"),
        )
        path.write_text(json.dumps(asdict(spec)))
        curve = CurveReader(folder, skips_old=True)
        child = self._start(path, log)
        while True:
            ended = child.poll() is not None
            for point in curve.new_points():
                follow(point)
            if ended:
                break
            time.sleep(0.25)
        with self._lock:
            self._children.discard(child)
        if self._stopped:
            raise InterruptedError("the run was stopped; training goes on from its last checkpoint")
        if child.returncode in STOPPED:
            told = (_read_verdict(verdict) or {}).get(
                "message", f"{name}: ended at once; it goes on from its last checkpoint, where it has one"
            )
            raise InterruptedError(told)
        if child.returncode != 0:
            raise _failure(verdict, log, child.returncode)

    def _start(self, spec: Path, log: Path) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._stopped:
                raise InterruptedError("the run is being stopped")
            with log.open("ab") as output:
                blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})  # inherited: it would kill a child that does
                try:  # not hear it yet
                    child = subprocess.Popen(
                        [sys.executable, "-m", "tasks.training_process", str(spec)],
                        stdout=output,
                        stderr=output,
                        stdin=subprocess.DEVNULL,
                        start_new_session=True,
                        cwd=Path(__file__).parents[1],
                        env=child_environment(self.config.address),
                    )
                finally:
                    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            self._children.add(child)
        return child


def _failure(verdict: Path, log: Path, code: int) -> Exception:
    tail = log.read_text(errors="replace")[-3000:]
    found = _read_verdict(verdict)
    if found is None:
        if shutil.disk_usage(log.parent).free < VERDICT_BYTES:
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(log.parent))
        how = f"ended with code {code}"
        if code == -signal.SIGKILL:
            how = "was killed, most often because memory ran out. Fix: lower its micro_rows, or concurrency, or take a machine with more"
        return LostWorkers(f"the training process {how}; log: {log}\n{tail}")
    if found["kind"] == "UserError":
        return UserError(found["message"])
    if found["kind"] == "LostWorkers":
        return LostWorkers(f"{found['message']}; log: {log}")
    return RuntimeError(f"training failed: {found['message']}; log: {log}\n{tail}")


def _read_verdict(verdict: Path) -> dict[str, str] | None:
    """What the child left; None where it left nothing, or a full disk took half of it."""
    try:
        return json.loads(verdict.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def child_environment(address: str | None) -> dict[str, str]:
    """Variables of a training process and of the Ray that it starts; the allocator's give way to the user's own.

    Those made a training step on a CPU 1.13 times as fast in bfloat16, 1.03 in float32, at up to 5 % more peak memory.
    """
    own_ray = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"} if address is None else {}  # this machine: nobody takes it away in parts
    return {**allocation_environment(), **os.environ, **ray_environment(), **own_ray, **_quiet_environment()}


def ray_environment() -> dict[str, str]:
    """How soon Ray Train notices a lost worker, and how long it waits for one to leave."""
    return {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5", "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": "3"}


def _quiet_environment() -> dict[str, str]:
    return {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TRAIN_METRICS_ENABLED": "0",
        "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "RAY_DEDUP_LOGS": "0",
        "TOKENIZERS_PARALLELISM": "false",
        "RAY_AUTH_MODE": "disabled",  # a cluster of this process alone, on the loopback device
        "DO_NOT_TRACK": "1",
    }
