"""What a trial is asked between its steps."""

from pathlib import Path

from tasks.tune.search import STOP, Reporter, SearchJob
from tasks.tune.trials import TrialJob


def test_trial_is_asked_to_stop_by_the_file_of_its_search(tmp_path: Path) -> None:
    trial = TrialJob("f", "{}", str(tmp_path / "f"), ())
    job = SearchJob(str(tmp_path), (trial,), 8, 4, 60.0, 1, 0.0, None, 0)
    assert not Reporter(job, trial).stop()
    (tmp_path / STOP).touch()
    assert Reporter(job, trial).stop()
