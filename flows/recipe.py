"""Recipe: one YAML, one section per stage, frozen, checked whole before any work."""

import re
from dataclasses import asdict
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from flows.continued import check_beside, check_replay, one_start, with_replay
from flows.holding_out import HoldingOut, check_holdout, held_examples
from flows.tunings import check_model_fits, check_tunings, names_of
from model.config.model_config import ModelConfig, preset
from model.config.training_config import check_curriculum, check_mixture, step_batches
from tasks.cluster import ClusterConfig
from tasks.corpus.annotate import AnnotateConfig
from tasks.corpus.decontaminate import DecontaminateConfig
from tasks.corpus.deduplicate import DeduplicateConfig
from tasks.corpus.ingest import IngestConfig, source_digests
from tasks.corpus.quality import QualityConfig
from tasks.corpus.replay import ReplayConfig, ReplayTextConfig
from tasks.corpus.select import SelectConfig
from tasks.evaluate.change import Changing
from tasks.evaluate.evaluate import EvaluateConfig
from tasks.examples.kinds.table import AnyExamples
from tasks.executor.filetasks import FilesConfig
from tasks.finetune.base_model import BaseConfig
from tasks.finetune.config import FinetuneConfig
from tasks.pretrain.adapt import Adaptation, AdaptConfig
from tasks.pretrain.config import PretrainConfig, Pretraining, check_objective
from tasks.pretrain.ladder import LadderConfig
from tasks.prices import Prices
from tasks.promotion.champion import ChampionConfig
from tasks.promotion.gate_config import GateConfig
from tasks.promotion.names import BASE
from tasks.promotion.night_config import NightConfig
from tasks.promotion.register_config import RegisterConfig
from tasks.reading.files import left_aside
from tasks.reading.read import listing_of
from tasks.reading.sources import FileSource, place_of
from tasks.report.page import ReportConfig
from tasks.settings import Later, Placement, Section
from tasks.shards.shards import ShardsConfig
from tasks.tokenizer.objective_symbols import check_reserved, forms_of
from tasks.tokenizer.tokenizer import TokenizerConfig

Name = Annotated[str, Field(pattern=r"^[\w.-]+$")]


class TrackingConfig(Section):
    """Where figures go."""

    uri: Annotated[str | None, Placement()] = Field(
        default=None, description="MLflow server; none: MLFLOW_TRACKING_URI, else a SQLite file in the workspace"
    )


class CleanConfig(Section):
    """Cleaning in two steps: what is mended and measured, and which rules over the figures decide."""

    annotate: AnnotateConfig = AnnotateConfig()
    select: SelectConfig = SelectConfig()


class CorpusSections(HoldingOut):
    """What the recipes that start from raw text share."""

    name: Name = Field(description="also the MLflow experiment")
    workspace: Annotated[str, Placement()] = Field(default="workspace", description="folder of artifacts, journal and databases")
    concurrency: Annotated[int, Placement()] = Field(default=2, ge=1, description="stages that may work at once")
    cluster: ClusterConfig = ClusterConfig()
    files: FilesConfig = FilesConfig()
    tracking: TrackingConfig = TrackingConfig()
    prices: Prices = Prices()
    ingest: IngestConfig
    quality: QualityConfig | None = Field(default=None, description="a classifier whose score is a statistic")
    clean: CleanConfig = CleanConfig()
    deduplicate: DeduplicateConfig = DeduplicateConfig()
    decontaminate: DecontaminateConfig = DecontaminateConfig()
    examples: tuple[AnyExamples, ...] = ()
    report: ReportConfig = ReportConfig()

    @model_validator(mode="after")
    def _one_corpus_holdout(self) -> "CorpusSections":
        parted = {"decontaminate": (self.decontaminate.heldout_share, self.decontaminate.heldout_seed)}
        check_holdout(self.heldout, {**held_examples(self.examples), **parted})
        return self


class CorpusRecipe(CorpusSections):
    """From raw text to a corpus, and no further."""

    makes: Literal["corpus"] = Field(description="says that there is no model in this recipe")


def fill_preset(section: object) -> object:
    """`model: {preset: NAME, key: value}` is the known shape with those keys changed. ValueError for an unknown name."""
    if not isinstance(section, dict) or "preset" not in section:
        return section
    changes = {name: value for name, value in section.items() if name != "preset"}
    return asdict(preset(str(section["preset"]))) | changes


class Recipe(CorpusSections):
    """From raw text to a registered model: a new one, or one that goes on from a champion or a base."""

    makes: Literal["model"] = "model"
    champion: Annotated[ChampionConfig | None, Later()] = None
    base: Annotated[BaseConfig | None, Later()] = None
    adapt: Annotated[AdaptConfig, Later()] = AdaptConfig()
    replay: Annotated[ReplayConfig, Later()] = ReplayConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    shards: ShardsConfig = ShardsConfig()
    model: Annotated[ModelConfig, BeforeValidator(fill_preset)] = ModelConfig()
    pretrain: PretrainConfig = PretrainConfig()
    ladder: Annotated[LadderConfig, Later()] = LadderConfig()
    finetune: tuple[FinetuneConfig, ...] = ()
    evaluate: EvaluateConfig = EvaluateConfig()
    gate: GateConfig = GateConfig()
    register_: RegisterConfig = Field(default=RegisterConfig(), alias="register")

    @property
    def names(self) -> dict[str, str]:
        """Model -> the name that it competes for in the registry; the base's key is BASE."""
        return names_of(self.register_, self.register_.name, self.examples, self.finetune, has_base=True)

    @property
    def start(self) -> ChampionConfig | BaseConfig | None:
        """What it goes on from; None: a new model."""
        return one_start(self.champion, self.base)

    @property
    def begins_a_line(self) -> bool:
        """Whether the model has another name than the champion that it goes on from."""
        return self.names[BASE] != line_of(self.champion)

    @property
    def pretraining(self) -> Pretraining:
        """What the pretraining follows; of a base its shape, and the share of replay."""
        if self.start is None:
            return Pretraining(self.model, self.pretrain)
        return Pretraining(None, with_replay(self.pretrain, self.replay.share))

    @property
    def adaptation(self) -> Adaptation:
        """What the base's tokenizer is held to."""
        return Adaptation(self.adapt, self.pretrain.objective.kind, self.shards.context, self.replay.sources)

    @property
    def replays_memory(self) -> bool:
        """Whether general text comes from the base's memory."""
        return self.replay.share > 0 and not self.replay.sources

    @property
    def replay_text(self) -> ReplayTextConfig:
        """How it is kept clear of what is judged on: as the corpus is."""
        told = self.decontaminate
        return ReplayTextConfig(ngram_words=told.ngram_words, ngram_han=told.ngram_han, max_overlap=told.max_overlap)

    @property
    def changing(self) -> Changing:
        """How base and model are compared."""
        return Changing(self.evaluate, self.replay.sources)

    @model_validator(mode="before")
    @classmethod
    def _hand_sources_down(cls, values: object) -> object:
        """Tells `shards` which sources are general text, where it does not say so itself."""
        if not isinstance(values, dict) or not isinstance(values.get("replay"), dict):
            return values
        given, shards = dict(values), values.get("shards", {})
        if isinstance(shards, dict) and "sources" in values["replay"]:
            given["shards"] = {"general": values["replay"]["sources"], **shards}
        return given

    @model_validator(mode="after")
    def _fits_together(self) -> "Recipe":
        check_beside(self.start, self.model_fields_set)
        self._check_batches()
        check_mixture(self.pretrain.mixture)
        check_curriculum(self.pretrain.curriculum, self.shards.context)
        if self.pretrain.mixture and self.shards.group_by == "none":
            raise ValueError("pretrain.mixture weighs groups of rows, but shards.group_by is none: set it to source or language")
        check_tunings(self.examples, self.finetune)
        if self.start is None:
            self._check_new_model()
        else:
            check_replay(self.replay, self.shards, self.pretrain, [source.name for source in self.ingest.sources])
        names_of(self.register_, self.register_.name, self.examples, self.finetune, has_base=True)
        check_holdout(self.heldout, {"evaluate": (self.evaluate.heldout_share, self.evaluate.heldout_seed)})
        return self

    def _check_batches(self) -> None:
        """Rows of a batch come out whole, and so do those of a worker."""
        context = self.shards.context
        rows = self.pretrain.batch_tokens // context
        if rows < 1 or self.pretrain.batch_tokens % context:
            raise ValueError(
                f"pretrain.batch_tokens {self.pretrain.batch_tokens} is no multiple of shards.context {context}; "
                f"the nearest: {max(1, round(self.pretrain.batch_tokens / context)) * context}"
            )
        try:
            step_batches(self.pretrain.batch_schedule, self.pretrain.batch_tokens)
        except ValueError as error:
            raise ValueError(f"pretrain.{error}") from error
        workers = self.pretrain.placement.count
        if workers // self.pretrain.layout.tensor > rows:
            raise ValueError(
                f"pretrain.workers {workers} are more than the {rows} rows of a batch ({self.pretrain.batch_tokens} tokens of context "
                f"{context}), of which each worker takes its share: lower it to at most {rows}, or raise batch_tokens"
            )

    def _check_new_model(self) -> None:
        """Its shape fits rows, objective and fine-tunings."""
        context = self.shards.context
        if context > self.model.context:
            raise ValueError(
                f"shards.context {context} is longer than the model's positions (model.context {self.model.context}): "
                f"lower the one to at most {self.model.context} or raise the other"
            )
        check_objective(self.pretraining, context)
        if self.tokenizer.existing is None:
            check_reserved(forms_of(self.pretrain.objective, self.model, context), self.tokenizer.reserve)
        check_model_fits(self.model, self.examples, self.finetune)


class FinetuneRecipe(HoldingOut):
    """From a model and labelled data to a challenger that must be better to be promoted.

    The model is the registered champion, or a Hugging Face folder from elsewhere.
    """

    name: Name
    workspace: Annotated[str, Placement()] = "workspace"
    concurrency: Annotated[int, Placement()] = Field(default=2, ge=1)
    cluster: ClusterConfig = ClusterConfig()
    tracking: TrackingConfig = TrackingConfig()
    prices: Prices = Prices()
    champion: ChampionConfig | None = None
    base: BaseConfig | None = None
    examples: tuple[AnyExamples, ...] = Field(min_length=1)
    finetune: tuple[FinetuneConfig, ...] = Field(min_length=1)
    night: NightConfig | None = Field(
        default=None, description="learn each night from labelled rows that no night has used; none: from all rows, at each run"
    )
    evaluate: EvaluateConfig = EvaluateConfig()
    gate: GateConfig = GateConfig()
    report: ReportConfig = ReportConfig()
    register_: RegisterConfig = Field(default=RegisterConfig(), alias="register")

    @property
    def names(self) -> dict[str, str]:
        """Fine-tuned model -> the name that it competes for in the registry."""
        return names_of(self.register_, self._name, self.examples, self.finetune, has_base=False)

    @property
    def line(self) -> str | None:
        """The registry name of the champion that it starts from."""
        return line_of(self.champion)

    @property
    def _name(self) -> str:
        """Under which a model that writes goes on: the champion's, unless the recipe gives one."""
        return self.register_.name if self.line is None or "name" in self.register_.model_fields_set else self.line

    @property
    def start(self) -> ChampionConfig | BaseConfig:
        """The one of the two that the recipe names."""
        start = self.champion or self.base
        assert start is not None
        return start

    @model_validator(mode="after")
    def _fits_together(self) -> "FinetuneRecipe":
        if (self.champion is None) == (self.base is None):
            raise ValueError("a fine-tuning starts from champion or from base: give one of the two")
        if self.night is not None and self.champion is None:
            raise ValueError("a night goes on from a champion, which remembers what it learned: give champion in place of base")
        check_tunings(self.examples, self.finetune)
        names_of(self.register_, self._name, self.examples, self.finetune, has_base=False)
        judged = {"evaluate": (self.evaluate.heldout_share, self.evaluate.heldout_seed)}
        check_holdout(self.heldout, {**held_examples(self.examples), **judged})
        return self


def line_of(champion: ChampionConfig | None) -> str | None:
    """Its name in the registry."""
    return None if champion is None else re.split(r"[/@]", champion.uri.removeprefix("models:/"))[0]


AnyRecipe = Recipe | CorpusRecipe | FinetuneRecipe


def check_sources(recipe: AnyRecipe) -> None:
    """UserError when a source file of the recipe is not there or may not be read. Their digests are taken, and kept."""
    if isinstance(recipe, CorpusSections):
        source_digests(recipe.ingest)


def notes_of(recipe: AnyRecipe) -> list[str]:
    """What of the recipe's input is left aside, and is no fault: told before anything runs. UserError as for `check_sources`."""
    used = {name for tuning in ([] if isinstance(recipe, CorpusRecipe) else recipe.finetune) for name in tuning.sets}
    idle = [] if isinstance(recipe, CorpusRecipe) else [entry.name for entry in recipe.examples if entry.name not in used]
    what = "only kept out of the corpus" if isinstance(recipe, Recipe) else "left out"
    notes = [f"examples {name}: no fine-tuning uses them; they are {what}" for name in idle]
    for source in recipe.ingest.sources if isinstance(recipe, CorpusSections) else []:
        if isinstance(source, FileSource):
            notes += [f"{place_of(source)}: {told}" for told in left_aside(listing_of(source))]
    return notes
