import sys

import pytest

from model.training.allocation import ALLOCATION
from tasks.cluster import child_environment


@pytest.mark.skipif(sys.platform != "linux", reason="settings of glibc")
def test_training_process_keeps_freed_memory(monkeypatch: pytest.MonkeyPatch):
    for name in ALLOCATION:
        monkeypatch.delenv(name, raising=False)
    assert ALLOCATION.items() <= child_environment(None).items()


def test_allocator_settings_of_the_user_come_first(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    assert child_environment(None)["MALLOC_TRIM_THRESHOLD_"] == "131072"


def test_no_settings_where_there_is_no_glibc(monkeypatch: pytest.MonkeyPatch):
    for name in ALLOCATION:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not ALLOCATION.keys() & child_environment(None).keys()
