"""File tasks, one per file: the corpus stages hand files to a backend (this process, a pool, Ray) and get outcomes back.

Whatever the backend and the number of workers, the bytes written are the same. Each finished task is a part: a folder in the
workspace under its fingerprint, which a later run, or another stage over the same file, takes as it is. So a killed stage
goes on where it was, and a source that grew by a file costs that file. Text never passes between processes: only names do.
"""

import json
import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

from pydantic import Field

from tasks.artifacts import fingerprint
from tasks.errors import UserError
from tasks.executor.backends import Backend, Here, Loss, OnRay, Processes, loss_of
from tasks.executor.parts import AnyWork, Part, Task, Work, read_part, remove_left
from tasks.ledger import StageOutcome
from tasks.settings import Json, Placement, Section

if TYPE_CHECKING:
    from tqdm import tqdm

AHEAD = 4  # tasks a worker has waiting
NODES = 20  # that may die under one file before it is taken for the cause
SHOWN = 5  # lost files in a message

logger = logging.getLogger("wordmill")


class FilesConfig(Section):
    """Where the corpus is worked on. Nothing here bears on a result."""

    place: Annotated[Literal["processes", "ray"], Placement()] = Field(
        default="processes", description="a pool on this machine, or Ray (cluster.address, else one started here)"
    )
    workers: Annotated[int | None, Placement()] = Field(
        default=None, ge=0, description="processes; null: one a core; 0: this process alone, one file after another"
    )


class FileTasks:
    """Performs file tasks for the stages of one run; the pool or Ray is started when it is first needed."""

    def __init__(self, parts: Path, config: FilesConfig, address: str | None = None, object_store_bytes: int = 128 * 2**20) -> None:
        self.parts, self.config = parts, config
        self._address, self._object_store_bytes = address, object_store_bytes
        self._backend: Backend | None = None
        self._lock = threading.Lock()

    def run(self, stage: str, revision: Json, function: Callable[[AnyWork, Path], StageOutcome], works: Sequence[AnyWork]) -> list[Part]:
        """The parts of all works, in their order. `revision` is what the outcome is a function of beside the work itself.

        A work whose worker died is tried once more, by itself, when all others are done. UserError that names every work whose
        worker died again: nothing is made without them. What a task raises is raised here, once the others have been stopped.
        """
        tasks = [
            Task(stage, function, work, self.parts / stage / fingerprint(stage, revision, {"work": _text(work.identity())}))
            for work in works
        ]
        remove_left(self.parts / stage)
        parts: list[Part | None] = [read_part(task.folder) for task in tasks]
        with self._progress(stage, works, parts) as bar:
            missing = [index for index, part in enumerate(parts) if part is None]
            for index in self._perform(tasks, missing):
                parts[index] = finished_part(tasks[index])
                bar.update(works[index].size)
                bar.set_postfix_str(f"{sum(p.outcome.ledger.rows_out for p in parts if p is not None):,} documents", False)
        return [part for part in parts if part is not None]

    def close(self) -> None:
        """Stop all work at once."""
        with self._lock:
            backend, self._backend = self._backend, None
        if backend is not None:
            backend.close()

    @contextmanager
    def _progress(self, stage: str, works: Sequence[Work], parts: Sequence[Part | None]) -> "Generator[tqdm[NoReturn]]":
        from tqdm import tqdm

        total = sum(work.size for work in works)
        done = sum(work.size for work, part in zip(works, parts, strict=True) if part is not None)
        with tqdm(desc=stage, total=total, initial=done, unit="B", unit_scale=True, disable=None, leave=False) as bar:
            yield bar

    def _perform(self, tasks: Sequence[Task[AnyWork]], missing: Sequence[int]) -> Iterator[int]:
        """Numbers of tasks as they are done: side by side, then those whose worker died one by one."""
        if not missing:
            return
        backend = self._started()
        try:
            lost = yield from _performed(backend, tasks, missing, backend.width * AHEAD)
            for index, loss in lost.items():
                logger.warning("%s: %s; it is tried again by itself", tasks[index].work.label, loss.cause)
            lost_again: dict[int, Loss] = {}
            for index in lost:
                lost_again |= yield from _performed(backend, tasks, [index], 1)
        except BaseException:
            self.close()
            raise
        if lost_again:
            raise _without_them([(tasks[index], loss) for index, loss in lost_again.items()], len(tasks))

    def _started(self) -> Backend:
        with self._lock:
            if self._backend is None:
                workers = os.cpu_count() or 1 if self.config.workers is None else self.config.workers
                if self.config.place == "ray":
                    self._backend = OnRay(max(1, workers), self._address, self._object_store_bytes)
                else:
                    self._backend = Processes(workers) if workers else Here()
            return self._backend


def _performed(
    backend: Backend, tasks: Sequence[Task[AnyWork]], chosen: Sequence[int], at_once: int
) -> Generator[int, None, dict[int, Loss]]:
    """Yields the numbers of tasks as they are done, and returns why the others were lost.

    A node that dies takes many tasks with it that it was not for: they are done elsewhere, and it does not count.
    """
    waiting = iter(chosen)
    nodes: Counter[int] = Counter()
    running: dict[Future[None], int] = {}
    lost: dict[int, Loss] = {}
    while True:
        while len(running) < at_once and (index := next(waiting, None)) is not None:
            running[backend.submit(tasks[index])] = index
        if not running:
            return lost
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            index = running.pop(future)
            loss = loss_of(future)
            nodes[index] += loss is not None and loss.of_node
            if loss is None:
                yield index
            elif loss.of_node and nodes[index] < NODES:
                running[backend.submit(tasks[index])] = index
            else:
                lost[index] = loss


def finished_part(task: Task[AnyWork]) -> Part:
    """The part that a task left."""
    part = read_part(task.folder)
    if part is None:
        raise UserError(
            f"{task.work.label}: its part {task.folder} is not there or was altered while the run went on. "
            "Fix: on several machines the workspace must be a folder that all of them share."
        )
    return part


def _without_them(lost: Sequence[tuple[Task[AnyWork], Loss]], count: int) -> UserError:
    """A stage without some of its files would be another one under the same name: it fails instead."""
    shown = [f"  {task.work.label}: {loss.cause}" for task, loss in lost[:SHOWN]]
    more = [f"  and {len(lost) - SHOWN} more"] if len(lost) > SHOWN else []
    return UserError(
        "\n".join(
            [
                f"{lost[0][0].stage}: {len(lost)} of {count} files lost their worker twice, the second time with nothing else at work:",
                *shown,
                *more,
                "Nothing is made without them; the other files are done and are not done again. Fix: run again with more memory "
                "(a worker that is killed is most often out of it), or leave these files out of their source and report them.",
            ]
        )
    )


def _text(value: dict[str, Json]) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
