"""Interruption: how a training is asked to save, or to save and stop: by signals, or by files where signals do not reach.

SIGINT and SIGTERM: save and stop after the step that is on its way; a second one, a second later or more, ends at once. SIGUSR1: save
and go on. SIGHUP, for which there is no second time: the terminal, or the process that started this one, is gone; as SIGTERM, where it
is not ignored.
A worker that another process started, as Ray's, watches for files instead: `<name>.stop` and `<name>.save`.
"""

import signal
import threading
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import Protocol, Self

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
POLL_SECONDS = 0.5
SAME_SECONDS = 1.0  # a signal that comes so soon after the first is the same request, sent by a terminal and by a launcher too


class Asked(Protocol):
    """What a training is asked for. Called once a step, on every process: an answer of any counts for all."""

    def stop(self) -> bool:
        """Whether to save and stop."""
        ...

    def save(self) -> bool:
        """Whether to save now, since this was last called."""
        ...


class Nobody:
    """Never asks for anything."""

    def stop(self) -> bool:
        """No."""
        return False

    def save(self) -> bool:
        """No."""
        return False


class Signals:
    """Signals to this process, heard within a `with`. In the main thread alone; elsewhere nothing is heard."""

    def __init__(self) -> None:
        self._stops, self._saves = False, False
        self._asked_at = 0.0
        self._before: dict[signal.Signals, object] = {}

    def stop(self) -> bool:
        """Whether SIGINT, SIGTERM or SIGHUP came."""
        return self._stops

    def save(self) -> bool:
        """Whether SIGUSR1 came since the last call."""
        saves, self._saves = self._saves, False
        return saves

    def _hear_stop(self, number: int, frame: FrameType | None) -> None:
        if self._stops and number != signal.SIGHUP and time.monotonic() - self._asked_at > SAME_SECONDS:
            raise KeyboardInterrupt(f"a second {signal.Signals(number).name}")
        if not self._stops:
            self._stops, self._asked_at = True, time.monotonic()

    def _hear_save(self, number: int, frame: FrameType | None) -> None:
        self._saves = True

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING:
                if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                    continue  # nohup
                self._before[number] = signal.signal(number, self._hear_stop)
            self._before[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, self._hear_save)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  (what signal.signal gave)
        self._before = {}


class Requests:
    """Files that another process makes: `<name>.stop` stays until that process takes it away, `<name>.save` is taken by rank 0."""

    def __init__(self, folder: Path, name: str, takes: bool) -> None:
        """`takes`: this process removes a request to save that it has heard; one of the processes does."""
        self._stop_file, self._save_file, self._takes = folder / f"{name}.stop", folder / f"{name}.save", takes
        self._looked, self._stops, self._saves = 0.0, False, False

    def stop(self) -> bool:
        """Whether the file to stop is there; looked for every half second."""
        self._look()
        return self._stops

    def save(self) -> bool:
        """Whether a save was asked for since the last call."""
        self._look()
        saves, self._saves = self._saves, False
        return saves

    def _look(self) -> None:
        if time.monotonic() - self._looked < POLL_SECONDS:
            return
        self._looked = time.monotonic()
        self._stops = self._stop_file.exists()
        if self._takes and self._save_file.exists():
            self._save_file.unlink(missing_ok=True)
            self._saves = True
