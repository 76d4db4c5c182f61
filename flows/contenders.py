"""Contenders: the models of a run that compete for a name in the registry; the part of the DAGs that judges and registers them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flows.finetunings import Tuned
from flows.recipe import FinetuneRecipe, Recipe
from flows.stages import EVALUATE, GATE, MEMORY, REGISTER, Builder, Contending, Handle, Remembering
from tasks.artifacts import (
    Artifact,
    Examples,
    FinetunedModel,
    GateDecision,
    ModelMemory,
    PretrainedModel,
    RegisteredModel,
    Report,
    Scores,
)
from tasks.promotion.gate import Contest
from tasks.promotion.names import BASE
from tasks.promotion.register import Registration


@dataclass(frozen=True)
class Contender:
    """A model, what it is judged by, and what would travel with it."""

    label: str  # in labels of stages: base, areas
    contending: Contending
    model: Handle[PretrainedModel] | Handle[FinetunedModel]
    scores: Handle[Scores]
    memory: Handle[ModelMemory]
    examples: Handle[Examples] | None  # that it is judged on; None for a pretrained model, which text judges
    base: Handle[PretrainedModel] | None  # that it started from, where the gate is to ask it too


def tuned_contenders(
    run: Builder,
    recipe: Recipe | FinetuneRecipe,
    tuned: Sequence[Tuned],
    start: Handle[PretrainedModel],
    base: Handle[Artifact],
    tokenizer: Handle[Artifact],
    examples: Mapping[str, Handle[Examples]],
    line: str | None = None,
) -> list[Contender]:
    """Each fine-tuned model with its scores on the held-out examples of its set.

    `start` is what they were tuned from, `base` has the memory that they carry on.
    `line`: the name of the champion that they started from; one that has another name begins a line of its own.
    """
    return [
        Contender(
            one.label,
            contending(recipe, one.name, None),
            one.model,
            run.stage(
                EVALUATE, recipe.evaluate, one.label, model=one.model, tokenizer=tokenizer, corpus=None, examples=examples[one.examples]
            ),
            run.stage(
                MEMORY,
                Remembering(one.examples, begins=recipe.names[one.name] != line),
                one.label,
                model=one.model,
                corpus=None,
                base=base,
                examples=examples[one.examples],
            ),
            examples[one.examples],
            start if recipe.gate.score_base else None,
        )
        for one in tuned
    ]


def base_contender(
    run: Builder, recipe: Recipe, metric: str, base: Handle[PretrainedModel], scores: Handle[Scores], memory: Handle[ModelMemory]
) -> Contender:
    """The pretrained model, judged by its `metric` on held-out text."""
    return Contender("base", contending(recipe, BASE, metric), base, scores, memory, None, None)


def contending(recipe: Recipe | FinetuneRecipe, model: str, metric: str | None) -> Contending:
    """For which name a model competes, and by which rule."""
    name, settings = recipe.names[model], recipe.register_
    return Contending(Contest(recipe.gate, settings.promote, name, metric), Registration(name, settings.wait_seconds))


def decide(run: Builder, contenders: Sequence[Contender]) -> list[Handle[GateDecision]]:
    """A decision for each."""
    return [
        run.stage(
            GATE, one.contending, one.label, model=one.model, scores=one.scores, memory=one.memory, examples=one.examples, base=one.base
        )
        for one in contenders
    ]


def register(
    run: Builder,
    contenders: Sequence[Contender],
    decisions: Sequence[Handle[GateDecision]],
    report: Handle[Report],
) -> list[Handle[RegisteredModel]]:
    """A version for each; the alias of those that are promoted."""
    return [
        run.stage(
            REGISTER,
            one.contending,
            one.label,
            model=one.model,
            memory=one.memory,
            decision=decision,
            scores=one.scores,
            examples=one.examples,
            base=one.base,
            report=report,
        )
        for one, decision in zip(contenders, decisions, strict=True)
    ]
