"""One task per file: the corpus stages hand files to a place (this process, a pool of processes, Ray) and get outcomes back.

Whatever the place and the number of workers, the bytes written are the same. Each finished task is a part: a folder in the
workspace under its fingerprint, which a later run, or another stage over the same file, takes as it is. So a killed stage
goes on where it was, and a source that grew by a file costs that file. Text never passes between processes: only names do.
"""

import json
import os
import shutil
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

from pydantic import Field

from tasks.artifacts import fingerprint
from tasks.errors import UserError
from tasks.ledger import StageOutcome
from tasks.parts import AnyWork, Part, Task, Work, read_part, remove_left
from tasks.places import Here, OnRay, Place, Processes, cause_of_loss
from tasks.settings import Json, Placement, Section

if TYPE_CHECKING:
    from tqdm import tqdm

ATTEMPTS = 2  # of a file whose worker died
AHEAD = 4  # tasks a worker has waiting


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

    def __init__(
        self, parts: Path, config: FilesConfig, address: str | None = None, object_store_bytes: int = 128 * 2**20
    ) -> None:
        self.parts, self.config = parts, config
        self._address, self._object_store_bytes = address, object_store_bytes
        self._place: Place | None = None
        self._lock = threading.Lock()

    def run(
        self,
        stage: str,
        revision: Json,
        function: Callable[[AnyWork, Path], StageOutcome],
        works: Sequence[AnyWork],
        give_up: Callable[[AnyWork, Path], StageOutcome],
    ) -> list[Part]:
        """The parts of all works, in their order. `revision` is what the outcome is a function of beside the work itself.

        A work whose worker died twice is set aside: `give_up(work, folder)` writes what stands for it. What a task
        raises is raised here, once the others have been stopped.
        """
        tasks = [
            Task(
                stage,
                function,
                work,
                self.parts / stage / fingerprint(stage, revision, {"work": _text(work.identity())}),
            )
            for work in works
        ]
        remove_left(self.parts / stage)
        parts: list[Part | None] = [read_part(task.folder) for task in tasks]
        with self._progress(stage, works, parts) as bar:
            for index, part in self._perform(
                tasks, [index for index, part in enumerate(parts) if part is None], give_up
            ):
                parts[index] = part
                bar.update(works[index].size)
                bar.set_postfix_str(
                    f"{sum(p.outcome.ledger.rows_out for p in parts if p is not None):,} documents", False
                )
        return [part for part in parts if part is not None]

    def close(self) -> None:
        """Stop all work at once."""
        with self._lock:
            place, self._place = self._place, None
        if place is not None:
            place.close()

    @contextmanager
    def _progress(self, stage: str, works: Sequence[Work], parts: Sequence[Part | None]) -> "Generator[tqdm[NoReturn]]":
        from tqdm import tqdm

        total = sum(work.size for work in works)
        done = sum(work.size for work, part in zip(works, parts, strict=True) if part is not None)
        with tqdm(desc=stage, total=total, initial=done, unit="B", unit_scale=True, disable=None, leave=False) as bar:
            yield bar

    def _perform(
        self, tasks: Sequence[Task[AnyWork]], missing: Sequence[int], give_up: Callable[[AnyWork, Path], StageOutcome]
    ) -> Iterator[tuple[int, Part]]:
        if not missing:
            return
        place = self._started()
        waiting = iter(missing)
        attempts: dict[int, int] = {}
        running: dict[Future[None], int] = {}
        try:
            while True:
                while len(running) < place.width * AHEAD and (index := next(waiting, None)) is not None:
                    running[place.submit(tasks[index])] = index
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    index = running.pop(future)
                    cause = cause_of_loss(future)
                    attempts[index] = attempts.get(index, 0) + 1
                    if cause is not None and attempts[index] < ATTEMPTS:
                        running[place.submit(tasks[index])] = index
                    else:
                        yield index, _finished(tasks[index], cause, give_up)
        except BaseException:
            self.close()
            raise

    def _started(self) -> Place:
        with self._lock:
            if self._place is None:
                workers = os.cpu_count() or 1 if self.config.workers is None else self.config.workers
                if self.config.place == "ray":
                    self._place = OnRay(max(1, workers), self._address, self._object_store_bytes)
                else:
                    self._place = Processes(workers) if workers else Here()
            return self._place


def _finished(task: Task[AnyWork], cause: str | None, give_up: Callable[[AnyWork, Path], StageOutcome]) -> Part:
    """The part that a task left; for a lost file what stands for it, which is never taken again by another run."""
    if cause is None:
        part = read_part(task.folder)
        if part is None:
            raise UserError(
                f"{task.work.label}: its part {task.folder} is not there or was altered while the run went on. "
                "Fix: on several machines the workspace must be a folder that all of them share."
            )
        return part
    folder = task.folder.with_name(task.folder.name + ".lost")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return Part(folder, give_up(task.work, folder), cause)


def _text(value: dict[str, Json]) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
