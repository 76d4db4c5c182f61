"""Pretraining DAG: the whole chain as a table of contents, where every line is a stage, its config and what it reads."""

from flows.beginning import start_of
from flows.contenders import base_contender, decide, register, tuned_contenders
from flows.corpus import build_corpus
from flows.finetunings import tune
from flows.recipe import Recipe
from flows.stages import EVALUATE, MEMORY, PRETRAIN, REPORT, SHARDS, TOKENIZER, Builder, Outcome, Remembering
from tasks.inference.objective_file import base_metric
from tasks.pretrain.pretrain import Pretraining


def pretrain(run: Builder, recipe: Recipe) -> Outcome:
    """Raw text in; a model out that is trained, fine-tuned, scored, explained and registered."""
    corpus, examples = build_corpus(run, recipe)
    tokenizer = run.stage(TOKENIZER, recipe.tokenizer, corpus=corpus)
    shards = run.stage(SHARDS, recipe.shards, corpus=corpus, tokenizer=tokenizer)
    base = run.stage(PRETRAIN, Pretraining(recipe.model, recipe.pretrain, start_of(recipe)), shards=shards, tokenizer=tokenizer)
    base_scores = run.stage(EVALUATE, recipe.evaluate, "base", model=base, tokenizer=tokenizer, corpus=corpus, examples=None)
    memory = run.stage(MEMORY, Remembering(), "base", model=base, corpus=corpus, base=None, examples=None)
    tuned = tune(run, recipe.finetune, base, tokenizer, examples)
    contenders = [
        base_contender(run, recipe, base_metric(recipe.pretrain.objective), base, base_scores, memory),
        *tuned_contenders(run, recipe, tuned, base, memory, tokenizer, examples),
    ]
    scores = tuple(one.scores for one in contenders)
    decisions = decide(run, contenders)
    report = run.stage(REPORT, recipe.report, base=base, scores=scores, decisions=tuple(decisions))
    return Outcome(scores, tuple(register(run, contenders, decisions, report)), report)
