"""Batch-size schedule: how many batches an optimizer step takes. What a batch holds is left to the data steps: model/training/left_out.py.

Batches are numbered from 0 in the order in which steps take them, and steps from 0 too; without phases a step takes one.
"""

from dataclasses import dataclass
from functools import cached_property

from model.config.training_config import StepBatches


@dataclass(frozen=True)
class _Span:
    """From a step, and the first batch that it takes, on."""

    step: int
    batch: int
    each: int  # batches of a step


@dataclass(frozen=True)
class BatchSteps:
    """Phases in order; before the first of them a step takes one batch."""

    phases: tuple[StepBatches, ...] = ()

    @cached_property
    def _spans(self) -> tuple[_Span, ...]:
        spans = [_Span(0, 0, 1)]
        for phase in self.phases:
            last = spans[-1]
            spans.append(_Span(phase.from_step, last.batch + (phase.from_step - last.step) * last.each, phase.batches))
        return tuple(reversed(spans))

    def count(self, step: int) -> int:
        """Batches that a step takes."""
        return next(span.each for span in self._spans if span.step <= step)

    def before(self, step: int) -> int:
        """Batches that the steps before this one take: the number of its first."""
        span = next(span for span in self._spans if span.step <= step)
        return span.batch + (step - span.step) * span.each

    def step_of(self, batch: int) -> int:
        """The inverse: the step that takes this batch."""
        span = next(span for span in self._spans if span.batch <= batch)
        return span.step + (batch - span.batch) // span.each

    def until(self, step: int) -> tuple[StepBatches, ...]:
        """The phases that bear on the steps before this one."""
        return tuple(phase for phase in self.phases if phase.from_step < step)


ONE = BatchSteps()  # a batch a step
