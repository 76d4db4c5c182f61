"""Training time: seconds that a training will take, from earlier ones of the workspace, a probe, or a stated share of the peak."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tasks.machine import Machine
from tasks.planning.estimate import Estimate, around, from_runs, runs
from tasks.planning.hardware import Hardware
from tasks.planning.past_training import PastTraining
from tasks.planning.probes import Probed
from tasks.planning.training_work import TrainingWork

# Factors by which the bounds go apart, for each way in which an earlier training differs from the one to come.
OTHER_MACHINE = 2.0
OTHER_STAGE = 1.5  # rows of fine-tunings are short, and padded
OTHER_PLACEMENT = 1.6
OTHER_SIZE = 1.25
SIZE_POWER = 0.1  # and by this power of the ratio of sizes: shares of the peak drift slowly with the size
OTHER_SUBJECT = 1.15
OTHER_BATCH = 1.1
PROBED = 1.25  # twenty steps, without evaluations and checkpoints
SHORT_ROWS = 4.0  # of a fine-tuning whose rows were not read yet: they may be so many times shorter than the context
SAME = 1.03  # sizes and batches within this factor of one another count as the same

# What is assumed where nothing was measured: the share of the peak (MFU) that a training reaches, and how far it may lie off.
GPU_SHARE, GPU_SPREAD = 0.4, 1.6  # published for 124 M on 8 x H100: 40 % (llm.c, modded-nanogpt #7); 26 % to 50 % around it
CPU_SHARE, CPU_SPREAD = 0.3, 3.0  # of the best product of two float32 matrices: ours lie between 0.1 and 0.9 of it
START_SECONDS = {"process": 8.0, "ray": 20.0}  # imports, data, saving the model; of the demo on two cores
START_SPREAD = 2.0


@dataclass(frozen=True)
class _Alike:
    """How an earlier training differs; less is nearer."""

    machine: bool
    stage: bool
    placement: bool
    size: bool
    subject: bool
    batch: bool

    @property
    def key(self) -> tuple[bool, bool, bool, bool, bool, bool]:
        return self.machine, self.stage, self.placement, self.size, self.subject, self.batch


def training_estimate(
    work: TrainingWork, hardware: Hardware, machine: Machine, known: Sequence[PastTraining], probe: Probed | None, peak: float | None
) -> Estimate | None:
    """From the earlier trainings that are most alike, else from `probe`, else from a share of the peak.

    `peak`: FLOP/s of this machine's processors, where they were measured. None where the steps are not known, or nothing is.
    """
    found = _estimate(work, hardware, machine, known, probe, peak)
    return (
        found
        if found is None or work.mean_tokens
        else replace(found, low=found.low / SHORT_ROWS, told=f"{found.told}, rows at their longest")
    )


def _estimate(
    work: TrainingWork, hardware: Hardware, machine: Machine, known: Sequence[PastTraining], probe: Probed | None, peak: float | None
) -> Estimate | None:
    if work.tokens is None:
        return None
    alike = {past.fingerprint: _alike(work, machine, past) for past in known}
    comparable = [past for past in known if past.is_gpu == hardware.is_gpu]
    usable = [past for past in comparable if hardware.is_here or not alike[past.fingerprint].placement]  # elsewhere: what ran there too
    if usable:
        best = min(alike[past.fingerprint].key for past in usable)
        chosen = [past for past in usable if alike[past.fingerprint].key == best]
        if probe is None or not any(best[:5]):
            return _from_past(work, machine, chosen, _Alike(*best))
    if hardware.is_here and probe is not None:
        seconds = work.tokens / probe.tokens_per_second
        return around(seconds, PROBED, "by --probe").plus(_start(work, probe.beside_seconds))
    return assumed(work, hardware, peak)


def assumed(work: TrainingWork, hardware: Hardware, peak: float | None) -> Estimate | None:
    """At a stated share of the peak of its GPUs, or of this machine's processors. None where neither is known."""
    if work.flops is None:
        return None
    if hardware.sheet is not None:
        sheet = hardware.sheet
        rate = sheet.single if work.precision == "float32" else sheet.half
        told = f"at {GPU_SHARE:.0%} MFU of {'an' if sheet.names[0][0] in 'AHL' else 'a'} {' '.join(sheet.names)} ({rate:g} TFLOP/s)"
        seconds = work.flops / (GPU_SHARE * rate * 1e12 * max(1, work.gpus))
        return around(seconds, GPU_SPREAD, told.replace("%", " %")).plus(_start(work, None))
    if hardware.is_here and peak is not None:
        told = f"at {CPU_SHARE:.0%} of {peak / 1e9:,.0f} GFLOP/s here".replace("%", " %")
        return around(work.flops / (CPU_SHARE * peak), CPU_SPREAD, told).plus(_start(work, None))
    return None


def _alike(work: TrainingWork, machine: Machine, past: PastTraining) -> _Alike:
    placed = (past.processes, past.threads) == (work.processes, work.workers.threads)
    return _Alike(
        machine=dict(past.machine) != machine.kind,
        stage=past.stage != work.stage,
        placement=not placed,
        size=not _same(past.parameters, work.parameters),
        subject=past.subject != work.subject,
        batch=not _same(past.tokens_per_step, work.tokens_per_step),
    )


def is_same(work: TrainingWork, machine: Machine, past: PastTraining) -> bool:
    """Whether an earlier training was this one, on as many processes of this kind of machine, whatever it learned from."""
    placed = (past.processes, past.threads) == (work.processes, work.workers.threads)
    named = (past.stage, past.subject) == (work.stage, work.subject)
    return dict(past.machine) == machine.kind and placed and named and _same(past.parameters, work.parameters)


def _same(one: float, other: float) -> bool:
    return max(one, other) <= SAME * min(one, other)


def _from_past(work: TrainingWork, machine: Machine, chosen: Sequence[PastTraining], alike: _Alike) -> Estimate:
    assert work.tokens is not None
    far = max(max(past.parameters / work.parameters, work.parameters / past.parameters) for past in chosen)
    differs = [
        (alike.stage, "of another stage", OTHER_STAGE),
        (alike.subject and not (alike.size or alike.stage), "of another training", OTHER_SUBJECT),
        (alike.size, "of another size", OTHER_SIZE * far**SIZE_POWER),
        (alike.batch and not (alike.size or alike.subject), "of other batches", OTHER_BATCH),
        (alike.placement, "on other workers", OTHER_PLACEMENT),
        (alike.machine, "on another machine", OTHER_MACHINE),
    ]
    told = runs(len(chosen), ", ".join(what for holds, what, _ in differs if holds))
    steps = from_runs([work.tokens / _pace(work, machine, past, alike) for past in chosen], told)
    for holds, _, factor in differs:
        steps = steps.widened(factor) if holds else steps
    knows_start = not (alike.placement or alike.machine)
    starts = [past.overhead for past in chosen if past.overhead is not None and knows_start]
    return steps.plus(from_runs(starts, told) if starts else _start(work, None))


def _pace(work: TrainingWork, machine: Machine, past: PastTraining, alike: _Alike) -> float:
    """Tokens a second of the training to come, were it as fast in FLOP/s as the earlier one was on as many processors."""
    pace = past.tokens_per_second
    if (alike.size or alike.subject or alike.stage) and past.flops_per_token is not None:
        pace *= past.flops_per_token / work.flops_per_token
    if alike.placement:
        pace *= _units(work.processes, work.workers.threads, machine) / _units(past.processes, past.threads, machine)
    return pace


def _units(processes: int, threads: int, machine: Machine) -> float:
    """GPUs, or processors that are at work."""
    return processes if machine.gpus else min(machine.cores, processes * (threads or machine.cores))


def _start(work: TrainingWork, measured: float | None) -> Estimate:
    """What it takes beside its steps."""
    usual = START_SECONDS["ray" if work.workers.count else "process"]
    return around(measured or usual, START_SPREAD, "")
