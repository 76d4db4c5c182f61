"""Signals to trainings in processes of their own: what is saved, how it is told, and what a second one does."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from model.training.interruption import SAME_SECONDS, Signals
from tasks.cluster import ClusterConfig, Launcher, Training, Workers
from tasks.settings import Json
from tasks.training_entry import Asking, Entry

ROOT = Path(__file__).parents[2]
SAVE_SECONDS = 3.0


def note(job: dict[str, Json], line: str) -> None:
    with (Path(str(job["out"])) / "notes").open("a") as file:
        file.write(f"{line}\n")


def take_steps(job: dict[str, Json], asking: Asking) -> None:
    """Until it is asked to stop, or has saved three times; a save takes a while."""
    note(job, "began")
    saves = 0
    with asking() as asked:
        note(job, "steps")
        while not asked.stop() and saves < 3:
            time.sleep(0.02)
            if asked.save():
                saves += 1
                note(job, "saved")
        if saves < 3:
            note(job, "saving")
            until = time.monotonic() + SAVE_SECONDS
            while time.monotonic() < until:
                time.sleep(0.02)
            note(job, "kept")
            raise InterruptedError("stopped at step 7 of 9; it goes on from there")


def prepare_long(job: dict[str, Json], asking: Asking) -> None:
    note(job, "began")
    time.sleep(600)


@pytest.fixture
def launcher(tmp_path: Path) -> Launcher:
    return Launcher(ClusterConfig(), tmp_path / "logs")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "stage" / "0123.partial"
    folder.mkdir(parents=True)
    return folder


def launch(launcher: Launcher, entry: Entry, out: Path) -> None:
    launcher.launch(Training(entry, {"out": str(out)}, out, Workers(0, 0, 0)), lambda _: None)


def notes(out: Path) -> list[str]:
    path = out / "notes"
    return path.read_text().splitlines() if path.exists() else []


def await_note(out: Path, line: str, times: int = 1) -> None:
    deadline = time.monotonic() + 30
    while notes(out).count(line) < times:
        assert time.monotonic() < deadline, notes(out)
        time.sleep(0.02)


def meanwhile(act: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


def child() -> psutil.Process:
    (found,) = [one for one in psutil.Process().children() if "tasks.training_process" in one.cmdline()]
    return found


def once_noted(out: Path, line: str, act: Callable[[], object]) -> threading.Thread:
    def wait_and_act() -> None:
        await_note(out, line)
        act()

    return meanwhile(wait_and_act)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_training_that_gets_a_signal_of_its_own_saves_and_is_told_as_interrupted(
    launcher: Launcher, out: Path, number: signal.Signals
) -> None:
    once_noted(out, "steps", lambda: child().send_signal(number))
    with pytest.raises(InterruptedError, match="^stopped at step 7 of 9; it goes on from there$"):
        launch(launcher, take_steps, out)
    assert notes(out) == ["began", "steps", "saving", "kept"]


def test_signal_before_the_first_step_ends_the_process_at_once(launcher: Launcher, out: Path) -> None:
    once_noted(out, "began", lambda: child().terminate())
    with pytest.raises(InterruptedError, match=r"^stage-0123: ended at once; it goes on from its last checkpoint, where it has one$"):
        launch(launcher, prepare_long, out)


def test_run_that_is_stopped_has_its_training_save(launcher: Launcher, out: Path) -> None:
    once_noted(out, "steps", launcher.stop)
    with pytest.raises(InterruptedError, match="the run was stopped"):
        launch(launcher, take_steps, out)
    assert notes(out) == ["began", "steps", "saving", "kept"]


def test_second_signal_ends_a_training_while_it_saves(launcher: Launcher, out: Path) -> None:
    once_noted(out, "steps", lambda: child().terminate())
    once_noted(out, "saving", lambda: (time.sleep(SAME_SECONDS + 0.1), child().terminate()))
    with pytest.raises(InterruptedError):
        launch(launcher, take_steps, out)
    assert notes(out) == ["began", "steps", "saving"]


def test_save_that_is_asked_for_lets_the_training_go_on_to_its_end(launcher: Launcher, out: Path) -> None:
    def save_three_times() -> None:
        await_note(out, "steps")
        for times in (1, 2, 3):
            launcher.save()
            await_note(out, "saved", times)

    meanwhile(save_three_times)
    launch(launcher, take_steps, out)
    assert notes(out) == ["began", "steps", "saved", "saved", "saved"]


def test_training_that_cannot_hear_a_request_yet_lives_on(launcher: Launcher, out: Path) -> None:
    def save_until_it_begins() -> None:
        while "began" not in notes(out):
            launcher.save()
            time.sleep(0.005)
        launcher.stop()

    thread = meanwhile(save_until_it_begins)
    with pytest.raises(InterruptedError):
        launch(launcher, prepare_long, out)
    thread.join()
    assert notes(out) == ["began"]


RUN = """
import sys
from pathlib import Path
from tests.tasks.test_training_process import launch, take_steps
from tasks.cluster import ClusterConfig, Launcher
out = Path(sys.argv[1])
launch(Launcher(ClusterConfig(), out.parents[1] / "logs"), take_steps, out)
"""


def test_training_whose_run_was_killed_saves_before_another_one_begins(launcher: Launcher, out: Path) -> None:
    run = subprocess.Popen([sys.executable, "-c", RUN, str(out)], cwd=ROOT)
    await_note(out, "steps")
    run.kill()
    run.wait()
    once_noted(out, "kept", lambda: (await_note(out, "steps", 2), launcher.stop()))
    with pytest.raises(InterruptedError):
        launch(launcher, take_steps, out)
    assert notes(out) == ["began", "steps", "saving", "kept"] * 2


def test_end_of_the_process_that_started_it_is_no_second_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.training.interruption.SAME_SECONDS", 0.0)
    with Signals() as asked:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGHUP)
        assert asked.stop()
        with pytest.raises(KeyboardInterrupt, match="a second SIGTERM"):
            signal.raise_signal(signal.SIGTERM)


def test_hangup_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals() as asked:
            signal.raise_signal(signal.SIGHUP)
            assert not asked.stop()
    finally:
        signal.signal(signal.SIGHUP, before)
