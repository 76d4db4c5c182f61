"""What the tests of fine-tuning share."""

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager

import pytest

from model.training.run import Run


@pytest.fixture
def killed_at_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> Callable[[], AbstractContextManager[None]]:
    """A training within this block ends, interrupted, as soon as its first checkpoint is written."""

    save = Run.save

    def save_and_die(run: Run, waits: bool) -> None:
        save(run, waits=True)
        raise KeyboardInterrupt

    @contextmanager
    def block():
        with monkeypatch.context() as patched:
            patched.setattr("model.training.run.Run.save", save_and_die)
            with pytest.raises(KeyboardInterrupt):
                yield

    return block
