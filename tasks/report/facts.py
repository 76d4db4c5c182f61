"""Report facts of one run, gathered by the flow. Plain and frozen; `page.py` makes HTML of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from model.training.curve import CurvePoint
from tasks.corpus.mixture import MixtureRow
from tasks.evaluate.inspection import Inside
from tasks.ledger import Ledger, Receipt
from tasks.pretrain.audit import Audit
from tasks.prices import Cost
from tasks.promotion.decision import Decision
from tasks.scores import ScoreRow
from tasks.shards.packing_table import PackingRow
from tasks.tokenizer.tokenizer_quality import TokenizerQuality

if TYPE_CHECKING:
    from model.training.events import Event
    from model.training.left_out import LeftOut
    from tasks.evaluate.change import Change
    from tasks.lineage.step_trace import StepDocument
    from tasks.lineage.training_cost import Restart
    from tasks.lineage.trainings import Reached
    from tasks.pretrain.prediction import Prediction

MAJORITY = "majority"  # always answers with the most frequent label
UNIGRAM = "unigram"  # token frequencies alone
PREVIOUS = "previous run"  # the same recipe's model before this one
MEAN = "mean"  # always answers with the mean of the training figures
BASELINES = (MAJORITY, MEAN, UNIGRAM, PREVIOUS)


@dataclass(frozen=True)
class StageStory:
    """One stage of the run, in the order the flow started them.

    `seconds` is wall time of the build: of this run's, or for a cached stage of the one that made the artifact, so that
    the page can say what caching saved. `inputs` are names of other stages; a name that is not among them is ignored.
    """

    name: str  # unique: "finetune-areas"
    label: str  # as shown: "finetune: areas"
    status: Literal["ran", "cached"]
    seconds: float
    fingerprint: str
    inputs: tuple[str, ...] = ()
    ledger: Ledger = field(default_factory=Ledger)
    figures: Mapping[str, float] = field(default_factory=dict[str, float])
    notes: Mapping[str, str] = field(default_factory=dict[str, str])
    receipts: tuple[Receipt, ...] = ()


@dataclass(frozen=True)
class ModelStory:
    """The pretrained model. `shape` is one phrase: "4 layers, 192 channels, 6 heads"."""

    parameters: int
    training_tokens: int  # tokens seen, repetitions counted
    shape: str = ""


@dataclass(frozen=True)
class SpikeStory:
    """A step of a training whose loss stood out, and what it read."""

    training: str  # a key of the story's curves
    step: int  # counted from 1
    loss: float  # nats per token
    usual: float  # the median of the worst steps just before
    command: str  # that tells the same
    documents: tuple[StepDocument, ...] = ()
    untold: str = ""  # why there are no documents

    @property
    def page(self) -> str:
        """Where its own page lies, beside the report."""
        return f"steps/step-{self.step}.html"


@dataclass(frozen=True)
class SkipStory:
    """A step whose update was left out, what it read, and how to have that forgotten."""

    step: int  # counted from 1; where its batch was left out, its number at the time
    data_step: int | None  # counted from 0: what its batch is a function of
    is_left_out: bool  # by a return; the step has another batch since
    told: str  # why it was skipped
    command: str = ""  # that tells what it read; empty for a training that cannot be traced
    forget: tuple[str, ...] = ()  # commands, one for each document
    documents: tuple[StepDocument, ...] = ()
    untold: str = ""  # why there are no documents

    @property
    def page(self) -> str:
        """Where its own page lies, beside the report."""
        return f"steps/left-out-{self.data_step}.html" if self.is_left_out else f"steps/step-{self.step}.html"


@dataclass(frozen=True)
class TrainingStory:
    """What befell a training, and what it cost."""

    training: str  # a key of the story's curves
    fingerprint: str
    events: tuple[Event, ...]  # as they came
    restarts: tuple[Restart, ...]
    left_out: tuple[LeftOut, ...]
    seconds: float  # that its processes took together
    skipped: int  # steps, in the run as it stands
    skips: tuple[SkipStory, ...]  # the first of all that there were, those of batches that were left out among them
    checkpoints: tuple[int, ...]  # steps of those that it keeps, newest first
    checkpoint_bytes: int
    best: Reached | None
    peak_flops: float = 0.0  # of all processes; 0: not told
    profiles: tuple[str, ...] = ()  # torch's traces, as paths from the report's folder


@dataclass(frozen=True)
class LadderStory:
    """What a ladder of small trainings predicted of the pretraining, and what that came to."""

    prediction: Prediction
    result: float  # validation loss, nats per target


@dataclass(frozen=True)
class Sample:
    """A generation: `text` continues `prompt` and does not repeat it."""

    model: str
    prompt: str
    text: str


@dataclass(frozen=True)
class InsideStory:
    """A text, seen through the model that read and wrote it."""

    model: str
    inside: Inside


@dataclass(frozen=True)
class DroppedSample:
    """Text of a row that `stage` (a stage's name) dropped for `reason` (a key of its ledger)."""

    stage: str
    reason: str
    text: str


@dataclass(frozen=True)
class RunStory:
    """Everything the page shows of a run. What is empty has no section."""

    title: str
    recipe_name: str
    flow_run: str
    started: str  # ISO 8601, with offset
    seconds: float  # wall time from the start of the flow to this report
    stages: tuple[StageStory, ...]
    mixture: tuple[MixtureRow, ...] = ()  # of the corpus that the run made
    model: ModelStory | None = None
    tokenizer: TokenizerQuality | None = None
    packing: tuple[PackingRow, ...] = ()
    audit: Audit | None = None  # of the batches of the pretraining
    curves: Mapping[str, tuple[CurvePoint, ...]] = field(default_factory=dict[str, tuple[CurvePoint, ...]])
    spikes: tuple[SpikeStory, ...] = ()  # of the pretraining, largest first
    trainings: tuple[TrainingStory, ...] = ()
    ladder: LadderStory | None = None
    changes: tuple[Change, ...] = ()  # of a model that went on from a base
    scores: tuple[ScoreRow, ...] = ()
    decisions: tuple[Decision, ...] = ()  # of the gate, one a name
    samples: tuple[Sample, ...] = ()
    insides: tuple[InsideStory, ...] = ()
    dropped: tuple[DroppedSample, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict[str, str])  # machine, processor, cores, memory, ...
    versions: Mapping[str, str] = field(default_factory=dict[str, str])  # library -> version
    processor_seconds: float = 0.0  # user and system time of this run, all processes; 0: not measured
    configuration: str = ""  # the whole recipe as YAML
    links: Mapping[str, str] = field(default_factory=dict[str, str])  # "MLflow" -> URL; only http and https are shown
    cost: Cost | None = None  # of the run so far; None: the recipe has no prices
