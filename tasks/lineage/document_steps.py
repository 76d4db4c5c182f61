"""Document steps: when a pretraining came upon a document, and in which of these steps it learned from it.

Three things may become of a batch: it is learned from; its step was skipped, so that it was read and nothing was learned; or
it was left out, when the run went back to before it: what had learned from it was thrown away with its weights.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from model.training.left_out import step_of_data
from tasks.lineage.step_trace import TracedRun

SHOWN_STEPS = 3  # of those that were skipped


@dataclass(frozen=True)
class Seen:
    """A time that a row with the document was trained on."""

    step: int  # counted from 1
    row: int  # among all rows of the step


@dataclass(frozen=True)
class Times:
    """When rows with a document came."""

    seen: tuple[Seen, ...]  # and were learned from, in order
    skipped: tuple[int, ...]  # steps, from 1, whose update was left out
    left_out: int  # batches that the run left out when it went back

    @property
    def besides(self) -> str:
        """What is to be said beside the steps that learned from it."""
        told = [f"; read in skipped {steps_text(self.skipped)} too"] if self.skipped else []
        return "".join([*told, f"; left out {_often(self.left_out)} more, after a return" if self.left_out else ""])

    @property
    def untaught(self) -> str:
        """Why nothing was learned from it though it was read; empty where it never was."""
        left = f"left out {_often(self.left_out)}: the run went back to before it, and threw away what had learned from it"
        read = f"read in skipped {steps_text(self.skipped)}: nothing was learned from it"
        return "; ".join([*([left] if self.left_out else []), *([read] if self.skipped else [])])


def times_of(run: TracedRun, found: Collection[tuple[int, int]]) -> Times:
    """Pairs (data step, row of its batch), both from 0, by what became of them; without steps that another run took for this one."""
    seen: list[Seen] = []
    skipped: set[int] = set()
    left_out: set[int] = set()
    for read, row in sorted(set(found)):
        step = step_of_data(read, run.left_out, run.batch_steps)
        if step is not None and step < run.begun_at:
            continue
        if step is None:
            left_out.add(read)
        elif step + 1 in run.skipped:
            skipped.add(step + 1)
        elif step < run.done:
            seen.append(Seen(step + 1, (read - run.data_step(step + 1)) * run.batch_rows + row))
    return Times(tuple(seen), tuple(sorted(skipped)), len(left_out))


def times_text(seen: Collection[Seen]) -> str:
    """`3 times: steps 2 to 8`."""
    steps = sorted(time.step for time in seen)
    if len(steps) == 1:
        return f"once: step {steps[0]}"
    return f"{len(steps):,} times: steps {steps[0]:,} to {steps[-1]:,}"


def steps_text(steps: Sequence[int]) -> str:
    """`steps 3, 8, 9 and 2 more`."""
    shown = ", ".join(f"{step:,}" for step in steps[:SHOWN_STEPS])
    more = f" and {len(steps) - SHOWN_STEPS:,} more" if len(steps) > SHOWN_STEPS else ""
    return f"{'step' if len(steps) == 1 else 'steps'} {shown}{more}"


def _often(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"
