"""What the tests of fine-tuning share."""

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from model.training.checkpoint import save_checkpoint


@pytest.fixture
def killed_at_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> Callable[[], AbstractContextManager[None]]:
    """A training within this block ends, interrupted, as soon as its first checkpoint is written."""

    def save_and_die(*parts: object) -> Path:
        save_checkpoint(*parts)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    @contextmanager
    def block():
        with monkeypatch.context() as patched:
            patched.setattr("model.training.training.save_checkpoint", save_and_die)
            with pytest.raises(KeyboardInterrupt):
                yield

    return block
