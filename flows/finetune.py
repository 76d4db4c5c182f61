"""Fine-tuning DAG: a model and new labelled data in, a challenger per fine-tuning out, promoted only when it is better."""

from flows.finetunings import tune
from flows.recipe import FinetuneRecipe
from flows.stages import BASE, CHAMPION, EVALUATE, EXAMPLES, REGISTER, REPORT, Builder, Outcome
from tasks.examples.kinds.table import KINDS
from tasks.finetune.base_model import BaseConfig
from tasks.promotion.register import Registration, challenger_name


def finetune(run: Builder, recipe: FinetuneRecipe) -> Outcome:
    """Labelled data in; challengers out, each scored, and the champion beside it on the same held-out examples.

    A base from a folder is not scored: only the fine-tuning teaches it what a conversation looks like.
    """
    start = recipe.start
    base = run.stage(BASE, start) if isinstance(start, BaseConfig) else run.stage(CHAMPION, start)
    kinds = {entry.name: KINDS[entry.kind] for entry in recipe.examples}
    used = {name for tuning in recipe.finetune for name in tuning.sets}
    examples = {entry.name: run.stage(EXAMPLES, entry, entry.name) for entry in recipe.examples if entry.name in used}
    tuned = tune(run, recipe.finetune, base, base, examples)
    challenger_scores = {
        one.name: run.stage(
            EVALUATE, recipe.evaluate, one.label, model=one.model, tokenizer=base, corpus=None, examples=examples[one.examples]
        )
        for one in tuned
    }
    champion_scores = {
        one.name: run.stage(
            EVALUATE, recipe.evaluate, f"champion on {one.label}", model=base, tokenizer=base, corpus=None, examples=examples[one.examples]
        )
        for one in tuned
        if kinds[one.examples].writes and recipe.base is None
    }
    scores = (*challenger_scores.values(), *champion_scores.values())
    report = run.stage(REPORT, recipe.report, base=base, scores=scores)
    registered = [
        run.stage(
            REGISTER,
            Registration(
                recipe.register_, challenger_name(recipe.register_.name, one.name, kinds[one.examples]), kinds[one.examples].metric
            ),
            one.label,
            model=one.model,
            scores=challenger_scores[one.name],
            report=report,
            rival=champion_scores.get(one.name),
        )
        for one in tuned
    ]
    return Outcome(scores, tuple(registered), report)
