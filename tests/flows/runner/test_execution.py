"""Execution of a DAG: which faults of a stage are worth another try."""

import errno

import pytest
from prefect.states import Failed

from flows.runner.execution import may_retry
from tasks.cluster import LostWorkers
from tasks.errors import UserError


@pytest.mark.parametrize(
    ("fault", "helps"),
    [
        (LostWorkers("a worker was killed"), True),
        (ConnectionResetError("the service hung up"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (OSError(errno.EROFS, "Read-only file system"), False),
        (FileNotFoundError("gone"), False),
        (UserError("of the input"), False),
        (ZeroDivisionError("a bug"), False),
    ],
)
def test_another_try_is_for_what_may_pass(fault: Exception, helps: bool) -> None:
    assert may_retry(None, None, Failed(data=fault)) is helps
