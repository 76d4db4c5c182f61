"""Execution of a DAG: which faults of a stage are worth another try, and which do not end the run."""

import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.states import Failed

from flows.runner.execution import Execution, Node, Record, may_retry, waiting_for
from flows.runner.summaries import AWAITS
from flows.stages import REPORT, Identity, identify
from tasks.artifacts import Artifact, GateDecision, PretrainedModel, Scores, Workspace
from tasks.cluster import LostWorkers
from tasks.errors import UserError
from tasks.promotion.register import Registration
from tasks.report.page import ReportConfig
from tasks.tracking.patience import RegistryAway


@pytest.mark.parametrize(
    ("fault", "helps"),
    [
        (LostWorkers("a worker was killed"), True),
        (ConnectionResetError("the service hung up"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (OSError(errno.EROFS, "Read-only file system"), False),
        (FileNotFoundError("gone"), False),
        (UserError("of the input"), False),
        (RegistryAway("waited for in vain", "http://there"), False),
        (ZeroDivisionError("a bug"), False),
    ],
)
def test_another_try_is_for_what_may_pass(fault: Exception, helps: bool) -> None:
    assert may_retry(None, None, Failed(data=fault)) is helps


@dataclass(frozen=True)
class Ended:
    """A future that has ended."""

    state: State[Artifact]

    def add_done_callback(self, call: Callable[[object], None]) -> None:
        call(self)

    def wait(self) -> None:
        """It has."""

    def result(self) -> Artifact:
        return self.state.result()


AWAY = RegistryAway(
    "MLflow at http://there does not answer; what was made is kept. Fix: see that it answers, then run again", "http://there"
)
IDENTITY = Identity({}, {"model": "1111", "scores": "2222"}, "aaaa")


def ended_with(fault: Exception, *, registers: bool) -> Execution:
    """A run of which one stage failed."""
    execution = Execution.__new__(Execution)
    execution.records = [Record("register", "areas", (), identity=IDENTITY)]
    state: State[Artifact] = Failed(data=fault)
    future = cast("PrefectFuture[Artifact]", Ended(state))
    execution._nodes = [Node(execution.records[0], future, registers)]  # pyright: ignore[reportPrivateUsage]
    return execution


def test_registration_that_waits_for_its_registry_does_not_fail_the_run_and_is_told() -> None:
    execution = ended_with(AWAY, registers=True)
    execution.finish()
    assert execution.records[0].status == AWAITS
    (told,) = execution.waiting()
    assert told.startswith("registration waits: MLflow at http://there does not answer")
    assert told.endswith("then run again, or: wordmill register 1111")


@pytest.mark.parametrize(("fault", "registers"), [(AWAY, False), (UserError("refused"), True)], ids=["no registration", "no silence"])
def test_any_other_failure_still_ends_the_run(fault: Exception, registers: bool) -> None:
    with pytest.raises(type(fault)):
        ended_with(fault, registers=registers).finish()


def test_report_that_was_made_without_a_decision_is_another_than_the_one_that_has_it(tmp_path: Path) -> None:
    def identity(*decisions: Artifact | Exception) -> Identity:
        return identify(REPORT, ReportConfig(), {"base": None, "decisions": decisions}, "nowhere", Workspace(tmp_path))

    areas, kinds = GateDecision("/gate/3333", "3333"), GateDecision("/gate/4444", "4444")
    assert identity(areas, AWAY).inputs == {"decisions.0": "3333"}
    assert len({identity(*found).fingerprint for found in ((areas, AWAY), (AWAY, areas), (areas, kinds), (AWAY, AWAY))}) == 4


def test_note_of_what_waits_has_the_settings_and_all_artifacts_of_its_stage() -> None:
    inputs = {"model": PretrainedModel("/pretrain/1111", "1111"), "scores": Scores("/evaluate/2222", "2222"), "examples": None}
    waiting = waiting_for(Registration("mill", 5), Record("register", "base", ()), inputs, IDENTITY, AWAY)
    assert (waiting.fingerprint, waiting.stage, waiting.label, waiting.address) == ("1111", "aaaa", "register: base", "http://there")
    assert waiting.inputs == {"model": "/pretrain/1111", "scores": "/evaluate/2222"}
    assert '"wait_seconds":5' in waiting.config
