"""Pretraining DAG: the whole chain as a table of contents, where every line is a stage, its config and what it reads."""

from flows.corpus import build_corpus
from flows.finetunings import tune
from flows.recipe import Recipe
from flows.stages import EVALUATE, PRETRAIN, REGISTER, REPORT, SHARDS, TOKENIZER, Builder, Outcome
from tasks.examples.kinds.table import KINDS
from tasks.inference.objective_file import base_metric
from tasks.pretrain.pretrain import Pretraining
from tasks.promotion.register import Registration


def pretrain(run: Builder, recipe: Recipe) -> Outcome:
    """Raw text in; a model out that is trained, fine-tuned, scored, explained and registered."""
    corpus, examples = build_corpus(run, recipe)
    kinds = {entry.name: KINDS[entry.kind] for entry in recipe.examples}
    tokenizer = run.stage(TOKENIZER, recipe.tokenizer, corpus=corpus)
    shards = run.stage(SHARDS, recipe.shards, corpus=corpus, tokenizer=tokenizer)
    base = run.stage(PRETRAIN, Pretraining(recipe.model, recipe.pretrain), shards=shards, tokenizer=tokenizer)
    base_scores = run.stage(EVALUATE, recipe.evaluate, "base", model=base, tokenizer=tokenizer, corpus=corpus, examples=None)
    tuned = tune(run, recipe.finetune, base, tokenizer, examples)
    tuned_scores = {
        one.name: run.stage(
            EVALUATE, recipe.evaluate, one.label, model=one.model, tokenizer=tokenizer, corpus=None, examples=examples[one.examples]
        )
        for one in tuned
    }
    scores = (base_scores, *tuned_scores.values())
    report = run.stage(REPORT, recipe.report, base=base, scores=scores)
    registered = [
        run.stage(
            REGISTER,
            Registration(recipe.register_, recipe.register_.name, base_metric(recipe.pretrain.objective)),
            "base",
            model=base,
            scores=base_scores,
            report=report,
            rival=None,
        ),
        *(
            run.stage(
                REGISTER,
                Registration(recipe.register_, f"{recipe.register_.name}-{one.name}", kinds[one.examples].metric),
                one.label,
                model=one.model,
                scores=tuned_scores[one.name],
                report=report,
                rival=None,
            )
            for one in tuned
        ),
    ]
    return Outcome(scores, tuple(registered), report)
