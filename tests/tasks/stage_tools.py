"""What a run lends its stages, for tests that run stages by hand."""

from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

from flows.stages import Tools
from tasks.cluster import Launch, Training
from tasks.corpus.forgotten import read_forgotten
from tasks.executor.filetasks import FileTasks


def unwanted(what: str, *arguments: object) -> NoReturn:
    """No stage under test may ask for this."""
    pytest.fail(f"a stage asked for {what}")


def no_training(training: Training) -> None:
    """No stage under test may train."""
    unwanted("a training")


def tools(root: Path, files: FileTasks, launch: Launch = no_training) -> Tools:
    """Those of a workspace at `root`."""
    return Tools(files, launch, partial(unwanted, "the registry"), partial(unwanted, "the story"), partial(read_forgotten, root))
