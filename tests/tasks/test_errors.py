"""Faults of the machine: told as what is lacking and how to mend it, whatever raised them."""

import errno

import pytest

from tasks.errors import machine_fault


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/ws/a"), "no space left on the disk (/ws/a)"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "no space left on the disk"),
        (OSError(errno.EROFS, "Read-only file system", "/ws/a"), "the disk is read-only (/ws/a)"),
        (MemoryError(), "out of memory (MemoryError)"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), "out of memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "Fix: lower micro_rows"),
    ],
)
def test_fault_of_the_machine_is_told_with_its_fix(error: Exception, told: str) -> None:
    assert told in (machine_fault(error) or "")
    wrapped = ValueError("while a checkpoint was written")
    wrapped.__cause__ = error
    assert told in (machine_fault(wrapped) or "")


def test_other_faults_are_none_of_the_machine_even_where_a_log_follows() -> None:
    assert machine_fault(RuntimeError("training failed: KeyError\nout of memory")) is None
    assert machine_fault(FileNotFoundError(errno.ENOENT, "No such file", "a")) is None
