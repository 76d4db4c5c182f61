"""Trainings in processes of their own: what they hand back, and on how many workers they may run."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from pydantic import ValidationError

from model.training.curve import CurvePoint, append_point
from tasks.cluster import ClusterConfig, Launcher, LostWorkers, Training, WorkerCount, Workers
from tasks.errors import UserError, machine_fault
from tasks.finetune.config import FinetuneConfig
from tasks.pretrain.config import PretrainConfig
from tasks.settings import Json, identity
from tasks.training_entry import Asking, Entry
from tests.curve_points import point


def refuse(job: dict[str, Json], asking: Asking) -> None:
    raise UserError(f"the input {job['name']} is at fault")


def fail(job: dict[str, Json], asking: Asking) -> None:
    raise ZeroDivisionError("a bug")


def vanish(job: dict[str, Json], asking: Asking) -> None:
    os._exit(7)


def be_killed(job: dict[str, Json], asking: Asking) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave_half_a_verdict(job: dict[str, Json], asking: Asking) -> None:
    out = Path(str(job["out"]))
    (out.parents[1] / "logs" / "stage-0123.job.error").touch()
    os._exit(2)


def write_points(job: dict[str, Json], asking: Asking) -> None:
    for step in (1, 2, 3):
        append_point(Path(str(job["out"])), point(step, step / 2))


def sleep_long(job: dict[str, Json], asking: Asking) -> None:
    (Path(str(job["out"])) / "started").touch()
    time.sleep(600)


@pytest.fixture
def launcher(tmp_path: Path) -> Launcher:
    return Launcher(ClusterConfig(), tmp_path / "logs")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "stage" / "0123.partial"
    folder.mkdir(parents=True)
    return folder


def launch(launcher: Launcher, entry: Entry, out: Path, follow: Callable[[CurvePoint], None] = lambda _: None) -> None:
    launcher.launch(Training(entry, {"out": str(out), "name": "x"}, out, Workers(0, 0, 0)), follow)


def test_points_of_a_training_are_handed_on_in_order(launcher: Launcher, out: Path) -> None:
    found: list[CurvePoint] = []
    launch(launcher, write_points, out, found.append)
    assert found == [point(step, step / 2) for step in (1, 2, 3)]


def test_points_that_an_earlier_run_wrote_are_not_handed_on_again(launcher: Launcher, out: Path) -> None:
    launch(launcher, write_points, out)
    found: list[CurvePoint] = []
    launch(launcher, write_points, out, found.append)
    assert [one.step for one in found] == [1, 2, 3]


def test_fault_of_the_input_comes_back_as_it_was(launcher: Launcher, out: Path) -> None:
    with pytest.raises(UserError, match="^the input x is at fault$"):
        launch(launcher, refuse, out)


def test_bug_comes_back_with_the_end_of_the_log(launcher: Launcher, out: Path) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)ZeroDivisionError: a bug; log: .*\.log\n.*Traceback"):
        launch(launcher, fail, out)


def test_process_that_vanished_is_worth_another_try(launcher: Launcher, out: Path) -> None:
    with pytest.raises(LostWorkers, match="ended with code 7"):
        launch(launcher, vanish, out)


def test_process_that_the_system_killed_is_told_with_what_to_lower(launcher: Launcher, out: Path) -> None:
    with pytest.raises(LostWorkers, match=r"was killed, most often because memory ran out\. Fix: lower its micro_rows, or concurrency"):
        launch(launcher, be_killed, out)


def test_verdict_that_a_full_disk_took_half_of_is_told_as_the_full_disk(
    launcher: Launcher, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LostWorkers, match="ended with code 2"):
        launch(launcher, leave_half_a_verdict, out)
    monkeypatch.setattr("tasks.cluster.shutil.disk_usage", lambda path: SimpleNamespace(free=4096))
    with pytest.raises(OSError, match="No space left") as fault:
        launch(launcher, leave_half_a_verdict, out)
    assert "no space left on the disk" in str(machine_fault(fault.value))


def test_stop_ends_a_training_and_refuses_later_ones(launcher: Launcher, out: Path) -> None:
    stopper = threading.Thread(target=stop_once_started, args=(launcher, out / "started"))
    stopper.start()
    with pytest.raises(InterruptedError):
        launch(launcher, sleep_long, out)
    stopper.join()
    with pytest.raises(InterruptedError, match="being stopped"):
        launch(launcher, write_points, out)
    assert not [child for child in psutil.Process().children() if "tasks.training_process" in child.cmdline()]


def stop_once_started(launcher: Launcher, sign: Path) -> None:
    while not sign.exists():
        time.sleep(0.02)
    launcher.stop()


def test_workers_are_a_number_or_the_least_and_the_most() -> None:
    assert PretrainConfig(workers=3, threads=2).placement == Workers(3, 0, 2)
    assert PretrainConfig.model_validate({"workers": [1, 4], "threads": 2}).placement == Workers(4, 0, 2, least=1)


def test_workers_bear_on_no_fingerprint() -> None:
    assert identity(PretrainConfig(workers=(1, 4))) == identity(PretrainConfig())


@pytest.mark.parametrize("workers", [-1, (4, 1), (0, 2)])
def test_workers_that_nothing_can_be_started_with_are_refused(workers: WorkerCount) -> None:
    with pytest.raises(
        ValidationError, match=r"expected a number, 0 for this machine without Ray, or \[least, most\], the least 1 or more"
    ):
        PretrainConfig(workers=workers)


def test_fine_tuning_on_more_workers_than_its_batch_has_examples_is_refused() -> None:
    with pytest.raises(ValidationError, match="workers 5 are more than the 4 examples of a batch"):
        FinetuneConfig(name="x", examples="x", batch_rows=4, workers=(1, 5))
