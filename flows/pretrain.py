"""Pretraining DAG: the whole chain as a table of contents, where every line is a stage, its config and what it reads."""

from collections.abc import Mapping
from dataclasses import replace

from flows.beginning import start_of
from flows.contenders import base_contender, decide, register, tuned_contenders
from flows.corpus import build_corpus
from flows.finetunings import take_start, tune
from flows.recipe import Recipe
from flows.stages import (
    ADAPT,
    CHANGE,
    EVALUATE,
    MEMORY,
    PRETRAIN,
    REPLAY,
    REPORT,
    SHARDS,
    TOKENIZER,
    Builder,
    Handle,
    Outcome,
    Remembering,
)
from tasks.artifacts import Corpus, Examples, PretrainedModel, ReplayText, Tokenizer
from tasks.inference.objective_file import base_metric


def pretrain(run: Builder, recipe: Recipe) -> Outcome:
    """Raw text in; a model out that is trained, or goes on from a base, and is fine-tuned, scored, explained and registered."""
    before = None if recipe.start is None else take_start(run, recipe.start)
    corpus, examples = build_corpus(run, recipe, before)
    tokenizer = tokenizer_of(run, recipe, corpus, before)
    shards = run.stage(
        SHARDS, recipe.shards, corpus=corpus, tokenizer=tokenizer, replayed=replayed_text(run, recipe, corpus, examples, before)
    )
    learning = replace(recipe.pretraining, start=start_of(recipe))
    base = run.stage(PRETRAIN, learning, shards=shards, tokenizer=tokenizer, base=before)
    change = None if before is None else run.stage(CHANGE, recipe.changing, before=before, after=base, corpus=corpus)
    base_scores = run.stage(EVALUATE, recipe.evaluate, "base", model=base, tokenizer=tokenizer, corpus=corpus, examples=None)
    memory = run.stage(MEMORY, Remembering(begins=recipe.begins_a_line), "base", model=base, corpus=corpus, base=before, examples=None)
    tuned = tune(run, recipe.finetune, base, tokenizer, examples)
    contenders = [
        base_contender(run, recipe, base_metric(recipe.pretrain.objective), base, base_scores, memory),
        *tuned_contenders(run, recipe, tuned, base, memory, tokenizer, examples),
    ]
    scores = tuple(one.scores for one in contenders)
    decisions = decide(run, contenders)
    report = run.stage(REPORT, recipe.report, base=base, scores=scores, decisions=tuple(decisions), change=change)
    return Outcome(scores, tuple(register(run, contenders, decisions, report)), report)


def tokenizer_of(run: Builder, recipe: Recipe, corpus: Handle[Corpus], before: Handle[PretrainedModel] | None) -> Handle[Tokenizer]:
    """Trained on the corpus; or that of the base, whose fit to the corpus is measured."""
    if before is None:
        return run.stage(TOKENIZER, recipe.tokenizer, corpus=corpus)
    return run.stage(ADAPT, recipe.adaptation, "of the base", base=before, corpus=corpus)


def replayed_text(
    run: Builder, recipe: Recipe, corpus: Handle[Corpus], examples: Mapping[str, Handle[Examples]], before: Handle[PretrainedModel] | None
) -> Handle[ReplayText] | None:
    """General text of the base's memory; none where the corpus has some, or nothing is to be replayed."""
    if before is None or not recipe.replays_memory:
        return None
    return run.stage(REPLAY, recipe.replay_text, base=before, corpus=corpus, examples=tuple(examples.values()))
