"""Artifact locks: Prefect's lock manager on the operating system's file locks.

Prefect's own file-system manager keeps a lock for ever when its holder is killed, and the next run then waits for ever.
A lock of the operating system (through the filelock library) ends with the process that held it.
"""

import threading
import time
from pathlib import Path

from filelock import FileLock, Timeout
from prefect.locking.protocol import LockManager

POLL_SECONDS = 0.1


class ArtifactLocks(LockManager):
    """One lock file per cache key; each held lock remembers its holder, a transaction of this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held: dict[str, tuple[str, FileLock]] = {}
        self._guard = threading.Lock()

    def acquire_lock(self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None) -> bool:
        """Take the lock, waiting at most `acquire_timeout` seconds (None: as long as it takes)."""
        if self.is_lock_holder(key, holder):
            return True
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._path(key), thread_local=False)
        try:
            lock.acquire(timeout=-1 if acquire_timeout is None else acquire_timeout, poll_interval=POLL_SECONDS)
        except Timeout:
            return False
        with self._guard:
            self._held[key] = (holder, lock)
        return True

    async def aacquire_lock(self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None) -> bool:
        """As `acquire_lock`; our flows are not asynchronous, so waiting may block."""
        return self.acquire_lock(key, holder, acquire_timeout, hold_timeout)

    def release_lock(self, key: str, holder: str) -> None:
        """Give the lock back. Raises ValueError when `holder` does not hold it."""
        with self._guard:
            found = self._held.get(key)
            if found is None or found[0] != holder:
                raise ValueError(f"{holder} does not hold the lock of {key}")
            del self._held[key]
        found[1].release()

    def is_locked(self, key: str) -> bool:
        """Whether any process holds it."""
        with self._guard:
            if key in self._held:
                return True
        lock = FileLock(self._path(key), thread_local=False)
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with lock.acquire(timeout=0):
                return False
        except Timeout:
            return True

    def is_lock_holder(self, key: str, holder: str) -> bool:
        """Whether `holder`, of this process, has it."""
        with self._guard:
            found = self._held.get(key)
        return found is not None and found[0] == holder

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Wait until nobody holds it; False when `timeout` seconds were not enough."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.is_locked(key):
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True

    async def await_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """As `wait_for_lock`."""
        return self.wait_for_lock(key, timeout)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.lock"
