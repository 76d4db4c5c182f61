"""Interruption: how a run ends after Ctrl-C or SIGTERM, whatever the libraries it stands on are waiting for; SIGUSR1 has its
trainings save."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import NoReturn

import psutil

INTERRUPTED = "Interrupted. Finished stages are kept; the same command goes on from here."
SERVER_SECONDS = 5.0  # for a Prefect server to be told what became of the run
ALONE_SECONDS = 1.0  # for one that ends with the run
_ONCE = threading.Lock()  # taken by who leaves first, and never given back


@contextmanager
def saving(save: Callable[[], None]) -> Generator[None]:
    """While open, SIGUSR1 calls `save`, which would have ended this process. In the main thread alone, where flows run."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGUSR1, lambda number, frame: threading.Thread(target=save).start())  # it takes a lock
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def leave_soon(seconds: float) -> None:
    """End this process in so many seconds, come what may: the Ctrl-C that ended us may have ended Prefect's temporary
    server too, and its client would wait for it for minutes."""
    timer = threading.Timer(seconds, leave)
    timer.daemon = True
    timer.start()


def leave() -> NoReturn:
    """End what this process started, Prefect's temporary server among it, and then the process, with a word."""
    _ONCE.acquire()  # the command and the timer may come here at once
    children = psutil.Process().children(recursive=True)
    for child in children:
        child.terminate()
    _, left = psutil.wait_procs(children, timeout=3)
    for child in left:
        child.kill()
    print(f"\n{INTERRUPTED}", file=sys.stderr, flush=True)
    os._exit(130)
