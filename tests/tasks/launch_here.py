"""A launcher for tests: the training runs in this process."""

import json

from model.training.interruption import Signals
from tasks.cluster import Training


def here(training: Training) -> None:
    """Runs it on what its job is after a way through JSON."""
    training.entry(json.loads(json.dumps(training.job)), Signals)
