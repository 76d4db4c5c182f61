"""What a stage is: a name, the artifact it makes, the function that makes it; and what identifies its output."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from tasks.artifacts import (
    AnnotatedCorpus,
    AnyArtifact,
    Artifact,
    Corpus,
    Examples,
    FinetunedModel,
    PretrainedModel,
    QualityModel,
    RawCorpus,
    RegisteredModel,
    Report,
    Scores,
    Selection,
    Tokenizer,
    TokenShards,
    UniqueCorpus,
    Workspace,
    fingerprint,
)
from tasks.contracts import ContractName
from tasks.corpus.annotate import annotate, list_digests
from tasks.corpus.decontaminate import benchmark_and_allow_digests, decontaminate
from tasks.corpus.deduplicate import earlier_digests, remove_duplicates
from tasks.corpus.forgotten import read_forgotten
from tasks.corpus.ingest import forgotten_digests, ingest, source_digests
from tasks.corpus.quality import quality_digests, train_quality
from tasks.corpus.select import preset_digests, select_documents
from tasks.evaluate.evaluate import evaluate, suite_digests
from tasks.examples.examples import example_digests, prepare_examples
from tasks.finetune.base_model import base_digests, take_base
from tasks.finetune.finetune import finetune
from tasks.finetune.heads import take_head
from tasks.ledger import StageOutcome
from tasks.pretrain.pretrain import pretrain_model, pretraining_digests
from tasks.promotion.champion import champion_digest, fetch_champion
from tasks.promotion.register import register_model
from tasks.report.facts import RunStory
from tasks.report.page import ReportConfig, write_report
from tasks.settings import Json, identity
from tasks.shards.shards import write_shards
from tasks.tokenizer.tokenizer import existing_digests, train_tokenizer
from tasks.tracking.address import registry_mark

Made = TypeVar("Made", bound=Artifact, covariant=True)
Inputs = Mapping[str, Artifact | tuple[Artifact, ...] | None]


@dataclass(frozen=True)
class Stage(Generic[AnyArtifact]):
    """One kind of node of the DAG. `build(config, **inputs, out=folder, **provided)` writes the artifact's files."""

    name: str
    artifact: type[AnyArtifact]
    build: Callable[..., StageOutcome]
    digests: Callable[..., Mapping[str, str]] | None = None  # of files from outside that its config names
    continues: bool = False  # a killed build goes on from what it left
    waits_for: tuple[str, ...] = ()  # inputs that must be there first but do not bear on the output
    resolve: Callable[..., Mapping[str, str]] | None = None  # (config, registry address): what an alias stands for now
    provided: tuple[str, ...] = ()  # what the run hands in beside the inputs: launch, files, registry, story, forgotten
    forgets: Callable[..., Mapping[str, str]] | None = None  # (config, marked documents): which of them it leaves out
    contracts: Mapping[str, ContractName] = field(
        default_factory=dict[str, ContractName]
    )  # files it writes -> contract they are held to


def build_report(
    config: ReportConfig, base: Artifact, scores: tuple[Scores, ...], story: RunStory, out: Path
) -> StageOutcome:
    """The page is written from the story, which the run gathers once `base` (model or corpus) and all `scores` are there."""
    return write_report(config, story, out)


# The corpus stages hold each table to its contract themselves, in the task that writes it.
INGEST = Stage("ingest", RawCorpus, ingest, source_digests, provided=("files", "forgotten"), forgets=forgotten_digests)
QUALITY = Stage("quality", QualityModel, train_quality, quality_digests)
ANNOTATE = Stage("annotate", AnnotatedCorpus, annotate, list_digests, provided=("files",))
SELECT = Stage("select", Selection, select_documents, preset_digests, provided=("files",))
DEDUPLICATE = Stage("deduplicate", UniqueCorpus, remove_duplicates, earlier_digests, provided=("files",))
EXAMPLES = Stage("examples", Examples, prepare_examples, example_digests)
DECONTAMINATE = Stage("decontaminate", Corpus, decontaminate, benchmark_and_allow_digests, provided=("files",))
TOKENIZER = Stage("tokenizer", Tokenizer, train_tokenizer, existing_digests)
SHARDS = Stage("shards", TokenShards, write_shards, provided=("files",))
PRETRAIN = Stage("pretrain", PretrainedModel, pretrain_model, pretraining_digests, continues=True, provided=("launch",))
FINETUNE = Stage("finetune", FinetunedModel, finetune, continues=True, provided=("launch",))
HEAD = Stage("head", FinetunedModel, take_head)
EVALUATE = Stage("evaluate", Scores, evaluate, suite_digests, contracts={"scores.parquet": "Scores"})
CHAMPION = Stage("champion", PretrainedModel, fetch_champion, resolve=champion_digest, provided=("registry",))
BASE = Stage("base", PretrainedModel, take_base, base_digests)
REPORT = Stage("report", Report, build_report, provided=("story",))
REGISTER = Stage("register", RegisteredModel, register_model, waits_for=("report",), provided=("registry",))


class Handle(Protocol[Made]):
    """An artifact that is there, or will be."""

    def artifact(self) -> Made:
        """Wait for it."""
        ...


class Builder(Protocol):
    """What a DAG is written against: one builder runs it with Prefect, another only plans it."""

    def stage(
        self, stage: Stage[AnyArtifact], config: object, subject: str = "", /,
        **inputs: Handle[Artifact] | tuple[Handle[Artifact], ...] | None,
    ) -> Handle[AnyArtifact]:  # fmt: skip
        """A node: `stage` with `config` over `inputs`; nodes that do not depend on one another run concurrently.

        `subject`: what this one is about, where a DAG has several of the stage.
        """
        ...


def label_of(stage: str, subject: str) -> str:
    """What a node is called: "evaluate: base"; "ingest"."""
    return f"{stage}: {subject}" if subject else stage


@dataclass(frozen=True)
class Outcome:
    """What a DAG ends in."""

    scores: tuple[Handle[Scores], ...]
    registered: tuple[Handle[RegisteredModel], ...]
    report: Handle[Report]


@dataclass(frozen=True)
class Identity:
    """What a stage's output is a function of, and the fingerprint over it."""

    config: Json
    inputs: Mapping[str, str]
    fingerprint: str


def outside(stage: Stage[AnyArtifact], config: object, workspace: Workspace) -> dict[str, str]:
    """What a stage's output is a function of that no stage made: files, and which of its documents are to be forgotten."""
    found = {} if stage.digests is None else dict(stage.digests(config))
    if stage.forgets is not None:
        found |= stage.forgets(config, read_forgotten(workspace.root))
    return {f"file {name}": digest for name, digest in found.items()}


def identify(
    stage: Stage[AnyArtifact], config: object, inputs: Inputs, registry: str, workspace: Workspace
) -> Identity:
    """Identity from config, input artifacts, what comes from outside and, where it matters, the registry's address."""
    marks: dict[str, str] = {}
    for name, value in inputs.items():
        if name in stage.waits_for:
            continue
        if isinstance(value, tuple):
            marks.update({f"{name}.{index}": item.fingerprint for index, item in enumerate(value)})
        elif value is not None:
            marks[name] = value.fingerprint
    marks.update(outside(stage, config, workspace))
    if stage.resolve is not None:
        marks.update(stage.resolve(config, registry))
    elif "registry" in stage.provided:
        marks["registry"] = registry_mark(registry)
    said = identity(config)
    return Identity(said, marks, fingerprint(stage.name, said, marks))
