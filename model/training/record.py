"""Record of a training: its curve and its events, written beside it as it goes. A disk that is full ends neither."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from model.training.curve import CurvePoint, append_point
from model.training.events import Event, append_event

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Watch:
    """What a training tells, on rank 0: figures as it goes, and what befalls it."""

    report: Callable[[CurvePoint], None]
    tell: Callable[[Event], None]


def ignore_event(event: Event) -> None:
    """For those who follow the curve alone."""


def recording(folder: Path) -> Watch:
    """Writes both to `folder`; what cannot be written is logged, and the training goes on."""

    def report(point: CurvePoint) -> None:
        try:
            append_point(folder, point)
        except OSError as error:
            logger.warning("step %d: its figures could not be written (%s); the training goes on", point.step, error)

    def tell(event: Event) -> None:
        logger.info("step %d: %s: %s", event.step, event.kind, event.told)
        try:
            append_event(folder, replace(event, time=time.time()))
        except OSError as error:
            logger.warning("step %d: this could not be written down (%s); the training goes on", event.step, error)

    return Watch(report, tell)
