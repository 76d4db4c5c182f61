"""Stages before a pretraining: a builder that hands them on to another one, and tells what would be trained on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from flows.runner.plan import Plan, Planned
from flows.stages import PRETRAIN, Builder, Config, Handle, Outcome, Stage, identify
from tasks.artifacts import AnyArtifact, Artifact, PretrainedModel, Tokenizer, TokenShards, Workspace
from tasks.pretrain.config import Pretraining

AnyBuilder = TypeVar("AnyBuilder", bound=Builder)


@dataclass(frozen=True)
class Reached:
    """The pretraining of a recipe, and its inputs: made, or to be made."""

    config: Pretraining
    shards: Handle[TokenShards]
    tokenizer: Handle[Tokenizer]
    base: Handle[PretrainedModel] | None


class _ReachedError(Exception):
    def __init__(self, found: Reached) -> None:
        super().__init__("the pretraining is reached")
        self.found = found


class _UntilPretraining(Generic[AnyBuilder]):
    def __init__(self, builder: AnyBuilder) -> None:
        self._builder = builder

    def stage(
        self,
        stage: Stage[Config, AnyArtifact],
        config: Config,
        subject: str = "",
        /,
        **inputs: Handle[Artifact] | tuple[Handle[Artifact], ...] | None,
    ) -> Handle[AnyArtifact]:
        if stage.name != PRETRAIN.name:
            return self._builder.stage(stage, config, subject, **inputs)
        raise _ReachedError(
            Reached(
                cast(Pretraining, config),
                cast("Handle[TokenShards]", inputs["shards"]),
                cast("Handle[Tokenizer]", inputs["tokenizer"]),
                cast("Handle[PretrainedModel] | None", inputs["base"]),
            )
        )


def until_pretraining(dag: Callable[[Builder], Outcome], builder: Builder) -> Reached:
    """Builds what stands before the pretraining of a DAG that has one."""
    try:
        dag(_UntilPretraining(builder))
    except _ReachedError as reached:
        return reached.found
    raise AssertionError("the DAG has no pretraining")


@dataclass(frozen=True)
class PlannedPretraining:
    """A pretraining as a run would make it."""

    config: Pretraining
    fingerprint: str
    shards: TokenShards
    tokenizer: Tokenizer
    base: PretrainedModel | None
    missing: tuple[Planned, ...]  # stages before it that are to be run first


def plan_pretraining(dag: Callable[[Builder], Outcome], workspace: Workspace, address: str) -> PlannedPretraining:
    """Identifies it, and runs nothing."""
    plan = Plan(workspace, address)
    found = until_pretraining(dag, plan)
    shards, tokenizer = found.shards.artifact(), found.tokenizer.artifact()
    base = None if found.base is None else found.base.artifact()
    known = identify(PRETRAIN, found.config, {"shards": shards, "tokenizer": tokenizer, "base": base}, address, workspace)
    missing = tuple(row for row in plan.rows if not row.cached)
    return PlannedPretraining(found.config, known.fingerprint, shards, tokenizer, base, missing)
