"""From a model and new labelled data: a challenger per task, gated, promoted only when it is better."""

from flows.recipe import FinetuneRecipe
from flows.stages import BASE, CHAMPION, EVALUATE, EXAMPLES, FINETUNE, REGISTER, REPORT, Builder, Outcome
from tasks.register import Registration, challenger_name, deciding_metric


def finetune(run: Builder, recipe: FinetuneRecipe) -> Outcome:
    """Labelled data in; challengers out, each scored, and the champion beside it on the same held-out examples.

    A base from a folder is not scored: only the fine-tuning teaches it what a conversation looks like.
    """
    base = run.stage(CHAMPION, recipe.champion) if recipe.base is None else run.stage(BASE, recipe.base)
    kinds = {entry.name: entry.kind for entry in recipe.examples}
    examples = {entry.name: run.stage(EXAMPLES, entry, f"examples: {entry.name}") for entry in recipe.examples}
    tuned = {
        task.name: run.stage(
            FINETUNE,
            task,
            f"finetune: {task.name}",
            base=base,
            tokenizer=base,
            examples=examples[task.examples],
        )
        for task in recipe.finetune
    }
    challenger_scores = {
        task.name: run.stage(
            EVALUATE, recipe.evaluate, f"evaluate: {task.name}",
            model=tuned[task.name], tokenizer=base, corpus=None, examples=examples[task.examples],
        )
        for task in recipe.finetune
    }  # fmt: skip
    champion_scores = {
        task.name: run.stage(
            EVALUATE, recipe.evaluate, f"evaluate: champion on {task.name}",
            model=base, tokenizer=base, corpus=None, examples=examples[task.examples],
        )
        for task in recipe.finetune
        if kinds[task.examples] == "instruction" and recipe.base is None
    }  # fmt: skip
    scores = (*challenger_scores.values(), *champion_scores.values())
    report = run.stage(REPORT, recipe.report, base=base, scores=scores)
    registered = [
        run.stage(
            REGISTER,
            Registration(recipe.register_, challenger_name(recipe.register_.name, task.name, kinds[task.examples]),
                         deciding_metric(kinds[task.examples])),
            f"register: {task.name}", model=tuned[task.name], scores=challenger_scores[task.name], report=report,
            rival=champion_scores.get(task.name),
        )
        for task in recipe.finetune
    ]  # fmt: skip
    return Outcome(scores, tuple(registered), report)
