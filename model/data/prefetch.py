"""Prefetching: batches made by one thread while the device computes. Which ones does not depend on it: they go by step."""

import queue
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from model.data.batches import Batch, Batches

AHEAD = 2  # steps


class Prefetch:
    """The slices of the global batches of steps [first, stop), in order, made by a thread that ends with the `with`."""

    def __init__(self, batches: Batches, slices: Sequence[tuple[int, int]], first: int, stop: int, pins_memory: bool) -> None:
        self._batches, self._slices, self._pins = batches, tuple(slices), pins_memory
        self._steps = range(first, stop)
        self._made: queue.Queue[list[Batch] | BaseException] = queue.Queue(AHEAD)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._make, name="prefetch", daemon=True)

    def next(self) -> list[Batch]:
        """The slices of the next step. Raises what making them raised."""
        made = self._made.get()
        if isinstance(made, BaseException):
            raise made
        return made

    def _make(self) -> None:
        for step in self._steps:
            try:
                batches = [self._batches.batch(step, start, stop) for start, stop in self._slices]
                made = [batch.pin_memory() for batch in batches] if self._pins else batches
            except BaseException as error:  # noqa: BLE001 - raised again where the batch is taken
                self._put(error)
                return
            if not self._put(made):
                return

    def _put(self, made: list[Batch] | BaseException) -> bool:
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
