"""Prefetching: batches made by one thread while the device computes. Which ones does not depend on it: they go by step."""

import queue
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from model.data.batches import Batch, Batches
from model.data.digest import share_digest

AHEAD = 2  # steps


@dataclass(frozen=True)
class Made:
    """What one process has of a step, and what it counts to."""

    slices: list[Batch]
    targets: int  # that count
    tokens: int  # without padding
    sequences: int
    digest: int  # model/data/digest.py: of these rows


class Prefetch:
    """The slices of the global batches of steps, each the range of its data steps, in order, made by a thread that ends with the `with`."""

    def __init__(self, batches: Batches, slices: Sequence[tuple[int, int]], steps: Iterable[range], pins_memory: bool) -> None:
        self._batches, self._slices, self._pins = batches, tuple(slices), pins_memory
        self._steps = steps
        self._made: queue.Queue[Made | BaseException] = queue.Queue(AHEAD)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._make_all, name="prefetch", daemon=True)

    def next(self) -> Made:
        """The slices of the next step. Raises what making them raised."""
        made = self._made.get()
        if isinstance(made, BaseException):
            raise made
        return made

    def _make_all(self) -> None:
        for step in self._steps:
            try:
                made = _joined([self._make(data_step) for data_step in step])
            except BaseException as error:  # noqa: BLE001 - raised again where the batch is taken
                self._put(error)
                return
            if not self._put(made):
                return

    def _make(self, data_step: int) -> Made:
        batches = [self._batches.batch(data_step, start, stop) for start, stop in self._slices]
        digests = [share_digest(batch, start, stop) for batch, (start, stop) in zip(batches, self._slices, strict=True)]
        return Made(
            [batch.pin_memory() for batch in batches] if self._pins else batches,
            sum(int(batch.scored()) for batch in batches),
            sum(int(batch.lengths.sum()) for batch in batches),
            sum(batch.lengths.numel() for batch in batches),
            sum(digests),
        )

    def _put(self, made: Made | BaseException) -> bool:
        """Waits for room; False once nobody takes any more."""
        while not self._over.is_set():
            try:
                self._made.put(made, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()


def _joined(parts: Sequence[Made]) -> Made:
    """What a step has of all its batches."""
    return Made(
        [batch for part in parts for batch in part.slices],
        sum(part.targets for part in parts),
        sum(part.tokens for part in parts),
        sum(part.sequences for part in parts),
        sum(part.digest for part in parts),
    )
