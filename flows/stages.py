"""Stages: each with its name, the artifact that it makes and the function that makes it; and what identifies its output."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from flows.judging import Challenger, decide_again, decide_on, guard_digests, judge
from tasks.artifacts import (
    AnnotatedCorpus,
    AnyArtifact,
    Artifact,
    Corpus,
    Examples,
    FinetunedModel,
    GateDecision,
    LossPrediction,
    ModelMemory,
    PretrainedModel,
    QualityModel,
    RawCorpus,
    RegisteredModel,
    ReplayText,
    Report,
    Scores,
    Selection,
    TextChange,
    Tokenizer,
    TokenShards,
    UniqueCorpus,
    Workspace,
    fingerprint,
)
from tasks.cluster import Launch
from tasks.contracts import ContractName
from tasks.corpus.annotate import AnnotateConfig, annotate, list_digests
from tasks.corpus.decontaminate import DecontaminateConfig, benchmark_and_allow_digests, decontaminate
from tasks.corpus.deduplicate import DeduplicateConfig, earlier_digests, remove_duplicates
from tasks.corpus.forgotten import Forgotten, read_forgotten
from tasks.corpus.ingest import IngestConfig, forgotten_digests, ingest, source_digests
from tasks.corpus.quality import QualityConfig, quality_digests, train_quality
from tasks.corpus.replay import ReplayTextConfig, take_replay
from tasks.corpus.select import SelectConfig, preset_digests, select_documents
from tasks.evaluate.change import Changing, measure_change
from tasks.evaluate.evaluate import evaluate
from tasks.evaluate.suite import EvaluateConfig, suite_digests
from tasks.examples.examples import example_digests, prepare_examples
from tasks.examples.kinds.table import AnyExamples
from tasks.executor.filetasks import FileTasks
from tasks.finetune.base_model import BaseConfig, base_digests, take_base
from tasks.finetune.config import FinetuneConfig
from tasks.finetune.finetune import finetune
from tasks.finetune.heads import Head, take_head
from tasks.ledger import StageOutcome
from tasks.pretrain.adapt import Adaptation, adapt_tokenizer
from tasks.pretrain.config import Pretraining
from tasks.pretrain.ladder import Laddered, RungOf, train_rung
from tasks.pretrain.prediction import predict_loss
from tasks.pretrain.pretrain import pretrain_model, pretraining_digests
from tasks.promotion.champion import ChampionConfig, Registry, champion_digest, fetch_champion
from tasks.promotion.gate import Contest
from tasks.promotion.gather import GatherConfig, gather_examples
from tasks.promotion.register import Candidate, Registration, register_model
from tasks.promotion.remember import MemoryConfig, remember
from tasks.report.facts import RunStory
from tasks.report.ladder import ladder_picture
from tasks.report.page import ReportConfig, write_report
from tasks.settings import Json, identity
from tasks.shards.shards import ShardsConfig, write_shards
from tasks.tokenizer.tokenizer import TokenizerConfig, existing_digests, train_tokenizer
from tasks.tracking.address import registry_name

Made = TypeVar("Made", bound=Artifact, covariant=True)
Config = TypeVar("Config")
Inputs = Mapping[str, Artifact | tuple[Artifact | Exception, ...] | None]  # a fault stands for what was made without


@dataclass(frozen=True)
class Given:
    """The artifacts that a node reads, by the names that the DAG gives them."""

    inputs: Inputs

    def one(self, name: str, *kinds: type[AnyArtifact]) -> AnyArtifact:
        """The input of that name, of one of these kinds."""
        found = self.inputs[name]
        assert isinstance(found, kinds), f"input {name}: found {type(found).__name__}"
        return found

    def maybe(self, name: str, *kinds: type[AnyArtifact]) -> AnyArtifact | None:
        """The same, where the DAG may have none."""
        return None if self.inputs.get(name) is None else self.one(name, *kinds)

    def every(self, name: str, kind: type[AnyArtifact]) -> tuple[AnyArtifact, ...]:
        """All inputs of that name, in the order of the DAG."""
        found = self.inputs[name]
        assert isinstance(found, tuple)
        assert all(isinstance(one, kind) for one in found), f"input {name}: found {', '.join(map(repr, found))}"
        return tuple(one for one in found if isinstance(one, kind))


@dataclass(frozen=True)
class Tools:
    """What a run lends a stage beside its inputs. What is asked for by a call is made then, and not before."""

    files: FileTasks
    launch: Launch
    registry: Callable[[], Registry]
    story: Callable[[], RunStory]
    forgotten: Callable[[], tuple[Forgotten, ...]]


@dataclass(frozen=True)
class Stage(Generic[Config, AnyArtifact]):
    """One kind of node of the DAG. `build` writes the artifact's files into a folder."""

    name: str
    artifact: type[AnyArtifact]
    build: Callable[[Config, Given, Path, Tools], StageOutcome]
    digests: Callable[[Config], Mapping[str, str]] | None = None  # of files from outside that its config names
    continues: bool = False  # a killed build goes on from what it left
    waits_for: tuple[str, ...] = ()  # inputs that must be there first but do not bear on the output
    despite: tuple[str, ...] = ()  # inputs that it does without should they have failed
    resolve: Callable[[Config, str], Mapping[str, str]] | None = None  # what it names that is no file: an alias, an artifact
    registers: bool = False  # its output depends on which registry it is
    forgets: Callable[[Config, Collection[Forgotten]], Mapping[str, str]] | None = None  # which documents to be forgotten it leaves out
    contracts: Mapping[str, ContractName] = field(default_factory=dict[str, ContractName])  # files it writes -> contract they are held to


def challenger_of(given: Given) -> Challenger:
    """What the gate is given of a model."""
    return Challenger(
        given.one("model", PretrainedModel, FinetunedModel),
        given.one("scores", Scores),
        given.one("memory", ModelMemory),
        given.maybe("examples", Examples),
        given.maybe("base", PretrainedModel),
    )


def candidate_of(given: Given) -> Candidate:
    """What is registered; its decision and report may be wanting where MLflow did not answer."""
    return Candidate(
        given.one("model", PretrainedModel, FinetunedModel),
        given.maybe("memory", ModelMemory),
        given.maybe("decision", GateDecision),
        given.maybe("report", Report),
    )


@dataclass(frozen=True)
class Contending:
    """What a model competes for, by which rule, and how it is registered."""

    contest: Contest
    registration: Registration


@dataclass(frozen=True)
class Remembering:
    """What travels with a model: how much, and what its examples are called where it learned some."""

    examples: str | None = None
    begins: bool = True  # a line of its own, which is held against this model from now on
    memory: MemoryConfig = field(default_factory=MemoryConfig)


# The corpus stages hold each table to its contract themselves, in the task that writes it.
INGEST = Stage[IngestConfig, RawCorpus](
    "ingest",
    RawCorpus,
    lambda config, given, out, tools: ingest(config, out, tools.files, tools.forgotten()),
    source_digests,
    forgets=forgotten_digests,
)
QUALITY = Stage[QualityConfig, QualityModel](
    "quality", QualityModel, lambda config, given, out, tools: train_quality(config, out), quality_digests
)
ANNOTATE = Stage[AnnotateConfig, AnnotatedCorpus](
    "annotate",
    AnnotatedCorpus,
    lambda config, given, out, tools: annotate(config, given.one("raw", RawCorpus), given.maybe("quality", QualityModel), out, tools.files),
    list_digests,
)
SELECT = Stage[SelectConfig, Selection](
    "select",
    Selection,
    lambda config, given, out, tools: select_documents(config, given.one("clean", AnnotatedCorpus), out, tools.files),
    preset_digests,
)
DEDUPLICATE = Stage[DeduplicateConfig, UniqueCorpus](
    "deduplicate",
    UniqueCorpus,
    lambda config, given, out, tools: remove_duplicates(
        config, given.one("clean", AnnotatedCorpus), given.one("selection", Selection), out, tools.files
    ),
    earlier_digests,
)
EXAMPLES = Stage[AnyExamples, Examples](
    "examples", Examples, lambda config, given, out, tools: prepare_examples(config, out), example_digests
)
GATHER = Stage[GatherConfig, Examples](
    "gather",
    Examples,
    lambda config, given, out, tools: gather_examples(config, given.one("champion", PretrainedModel), out),
)
DECONTAMINATE = Stage[DecontaminateConfig, Corpus](
    "decontaminate",
    Corpus,
    lambda config, given, out, tools: decontaminate(
        config,
        given.one("clean", AnnotatedCorpus),
        given.one("unique", UniqueCorpus),
        given.every("examples", Examples),
        out,
        tools.files,
        given.maybe("base", PretrainedModel),
    ),
    benchmark_and_allow_digests,
)
TOKENIZER = Stage[TokenizerConfig, Tokenizer](
    "tokenizer", Tokenizer, lambda config, given, out, tools: train_tokenizer(config, given.one("corpus", Corpus), out), existing_digests
)
ADAPT = Stage[Adaptation, Tokenizer](  # its artifact is a tokenizer like any other, to be found among them
    "tokenizer",
    Tokenizer,
    lambda config, given, out, tools: adapt_tokenizer(config, given.one("base", PretrainedModel), given.one("corpus", Corpus), out),
)
REPLAY = Stage[ReplayTextConfig, ReplayText](
    "replay",
    ReplayText,
    lambda config, given, out, tools: take_replay(
        config, given.one("base", PretrainedModel), given.one("corpus", Corpus), given.every("examples", Examples), out
    ),
)
SHARDS = Stage[ShardsConfig, TokenShards](
    "shards",
    TokenShards,
    lambda config, given, out, tools: write_shards(
        config, given.one("corpus", Corpus), given.one("tokenizer", Tokenizer), out, tools.files, given.maybe("replayed", ReplayText)
    ),
)
PRETRAIN = Stage[Pretraining, PretrainedModel](
    "pretrain",
    PretrainedModel,
    lambda config, given, out, tools: pretrain_model(
        config,
        given.one("shards", TokenShards),
        given.one("tokenizer", Tokenizer),
        out,
        tools.launch,
        given.maybe("base", PretrainedModel),
    ),
    pretraining_digests,
    continues=True,
    resolve=lambda config, registry: config.begun_from,
)
RUNG = Stage[RungOf, PretrainedModel](
    "rung",
    PretrainedModel,
    lambda config, given, out, tools: train_rung(
        config, given.one("shards", TokenShards), given.one("tokenizer", Tokenizer), out, tools.launch
    ),
    lambda config: pretraining_digests(config.laddered.whole),
    continues=True,
)
LADDER = Stage[Laddered, LossPrediction](
    "ladder",
    LossPrediction,
    lambda config, given, out, tools: predict_loss(
        config,
        given.every("rungs", PretrainedModel),
        given.one("shards", TokenShards),
        given.one("tokenizer", Tokenizer),
        out,
        ladder_picture,
    ),
    lambda config: pretraining_digests(config.whole),
)
FINETUNE = Stage[FinetuneConfig, FinetunedModel](
    "finetune",
    FinetunedModel,
    lambda config, given, out, tools: finetune(
        config,
        given.one("base", PretrainedModel),
        given.one("tokenizer", Tokenizer, PretrainedModel),
        given.every("examples", Examples),
        out,
        tools.launch,
    ),
    continues=True,
)
HEAD = Stage[Head, FinetunedModel](
    "head", FinetunedModel, lambda config, given, out, tools: take_head(config, given.one("model", FinetunedModel), out)
)
EVALUATE = Stage[EvaluateConfig, Scores](
    "evaluate",
    Scores,
    lambda config, given, out, tools: evaluate(
        config, given.one("model", PretrainedModel, FinetunedModel), given.maybe("corpus", Corpus), given.maybe("examples", Examples), out
    ),
    suite_digests,
    contracts={"scores.parquet": "Scores", "items.parquet": "Items", "figures.parquet": "ItemFigures"},
)
CHANGE = Stage[Changing, TextChange](
    "change",
    TextChange,
    lambda config, given, out, tools: measure_change(
        config, given.one("before", PretrainedModel), given.one("after", PretrainedModel), given.one("corpus", Corpus), out
    ),
)
CHAMPION = Stage[ChampionConfig, PretrainedModel](
    "champion", PretrainedModel, lambda config, given, out, tools: fetch_champion(config, out, tools.registry()), resolve=champion_digest
)
BASE = Stage[BaseConfig, PretrainedModel]("base", PretrainedModel, lambda config, given, out, tools: take_base(config, out), base_digests)
MEMORY = Stage[Remembering, ModelMemory](
    "memory",
    ModelMemory,
    lambda config, given, out, tools: remember(
        config.memory,
        given.one("model", PretrainedModel, FinetunedModel),
        given.maybe("corpus", Corpus),
        given.maybe("base", PretrainedModel, ModelMemory),
        {} if config.examples is None else {config.examples: given.one("examples", Examples)},
        out,
        judge,
        config.begins,
    ),
)
GATE = Stage[Contending, GateDecision](
    "gate",
    GateDecision,
    lambda config, given, out, tools: decide_on(
        config.contest, challenger_of(given), out, tools.registry(), config.registration.wait_seconds
    ),
    lambda config: guard_digests(config.contest),
    registers=True,
)
REPORT = Stage[ReportConfig, Report](  # told from the story, which is gathered once model or corpus, scores and decisions are there
    "report",
    Report,
    lambda config, given, out, tools: write_report(config, tools.story(), out),
    despite=("decisions",),
)
REGISTER = Stage[Contending, RegisteredModel](
    "register",
    RegisteredModel,
    lambda config, given, out, tools: register_model(
        config.registration,
        candidate_of(given),
        out,
        tools.registry(),
        lambda folder: decide_again(config.contest, challenger_of(given), folder, tools.registry(), config.registration.wait_seconds),
    ),
    waits_for=("report",),
    registers=True,
)


class Handle(Protocol[Made]):
    """An artifact that is there, or will be."""

    def artifact(self) -> Made:
        """Wait for it."""
        ...


class Builder(Protocol):
    """What a DAG is written against: one builder runs it with Prefect, another only plans it."""

    def stage(
        self,
        stage: Stage[Config, AnyArtifact],
        config: Config,
        subject: str = "",
        /,
        **inputs: Handle[Artifact] | tuple[Handle[Artifact], ...] | None,
    ) -> Handle[AnyArtifact]:
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
    report: Handle[Report] | None  # None where there was nothing to run


@dataclass(frozen=True)
class Identity:
    """What a stage's output is a function of, and the fingerprint over it."""

    config: Json
    inputs: Mapping[str, str]
    fingerprint: str


def outside(stage: Stage[Config, AnyArtifact], config: Config, workspace: Workspace) -> dict[str, str]:
    """What a stage's output is a function of that no stage made: files, and which of its documents are to be forgotten."""
    found = {} if stage.digests is None else dict(stage.digests(config))
    if stage.forgets is not None:
        found |= stage.forgets(config, read_forgotten(workspace.root))
    return {f"file {name}": digest for name, digest in found.items()}


def identify(stage: Stage[Config, AnyArtifact], config: Config, inputs: Inputs, registry: str, workspace: Workspace) -> Identity:
    """Identity from config, input artifacts, what comes from outside and, where it matters, the registry's address."""
    made_from: dict[str, str] = {}
    for name, value in inputs.items():
        if name in stage.waits_for:
            continue
        if isinstance(value, tuple):
            made_from.update({f"{name}.{index}": item.fingerprint for index, item in enumerate(value) if isinstance(item, Artifact)})
        elif value is not None:
            made_from[name] = value.fingerprint
    made_from.update(outside(stage, config, workspace))
    if stage.resolve is not None:
        made_from.update(stage.resolve(config, registry))
    elif stage.registers:
        made_from["registry"] = registry_name(registry)
    said = identity(config)
    return Identity(said, made_from, fingerprint(stage.name, said, made_from))
