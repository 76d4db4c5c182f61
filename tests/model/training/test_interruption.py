import os
import signal
from pathlib import Path

import pytest

from model.training.interruption import Requests, Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_asks_to_stop_and_a_second_one_ends_at_once(number: signal.Signals, monkeypatch: pytest.MonkeyPatch):
    before = signal.getsignal(number)
    with Signals() as asked:
        assert not asked.stop()
        os.kill(os.getpid(), number)
        assert asked.stop()
        os.kill(os.getpid(), number)  # as a terminal and a launcher send it both
        assert asked.stop()
        monkeypatch.setattr("model.training.interruption.SAME_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt, match=f"a second {number.name}"):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_request_to_save_is_told_once():
    with Signals() as asked:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert (asked.save(), asked.save()) == (True, False)
        assert not asked.stop()


def test_files_ask_and_one_process_takes_a_request_to_save_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("model.training.interruption.POLL_SECONDS", 0.0)
    taker, other = Requests(tmp_path, "run", takes=True), Requests(tmp_path, "run", takes=False)
    (tmp_path / "run.save").touch()
    assert not other.save()
    assert taker.save()
    assert not taker.save()
    assert not (tmp_path / "run.save").exists()
    (tmp_path / "run.stop").touch()
    assert taker.stop()
    assert other.stop()
