"""Locks on artifacts end with the process that held them."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.runner.locks import ArtifactLocks

ROOT = Path(__file__).parents[3]
HOLD = """
import sys, time
from pathlib import Path
from flows.runner.locks import ArtifactLocks
locks = ArtifactLocks(Path(sys.argv[1]))
assert locks.acquire_lock("key", "other")
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of `key`."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_lock_held_by_another_process_is_refused(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    locks = ArtifactLocks(tmp_path)
    assert locks.is_locked("key")
    assert not locks.acquire_lock("key", "me", acquire_timeout=0)
    assert not locks.is_lock_holder("key", "me")


def test_lock_of_a_killed_process_is_free_again(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    locks = ArtifactLocks(tmp_path)
    assert not locks.is_locked("key")
    assert locks.acquire_lock("key", "me", acquire_timeout=0)


def test_waiter_gets_the_lock_once_it_is_released(tmp_path: Path) -> None:
    locks = ArtifactLocks(tmp_path)
    assert locks.acquire_lock("key", "first")
    got: list[bool] = []
    waiter = threading.Thread(target=lambda: got.append(ArtifactLocks(tmp_path).acquire_lock("key", "second")))
    waiter.start()
    assert not got
    locks.release_lock("key", "first")
    waiter.join()
    assert got == [True]


def test_two_transactions_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    locks = ArtifactLocks(tmp_path)
    assert locks.acquire_lock("key", "first")
    assert locks.acquire_lock("key", "first")
    assert not locks.acquire_lock("key", "second", acquire_timeout=0)
    assert locks.acquire_lock("other", "second", acquire_timeout=0)


def test_only_its_holder_releases_a_lock(tmp_path: Path) -> None:
    locks = ArtifactLocks(tmp_path)
    locks.acquire_lock("key", "first")
    with pytest.raises(ValueError, match="second does not hold the lock of key"):
        locks.release_lock("key", "second")
    locks.release_lock("key", "first")
    assert not locks.is_locked("key")


def test_waiting_for_a_held_lock_ends_with_its_time(tmp_path: Path) -> None:
    locks = ArtifactLocks(tmp_path)
    locks.acquire_lock("key", "first")
    assert not locks.wait_for_lock("key", timeout=0)
    locks.release_lock("key", "first")
    assert locks.wait_for_lock("key", timeout=0)
