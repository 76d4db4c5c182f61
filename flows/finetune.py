"""Fine-tuning DAG: a model and labelled data in, a challenger per fine-tuning out, promoted only when it is better."""

from collections.abc import Mapping

from flows.contenders import decide, register, tuned_contenders
from flows.finetunings import take_start, tune
from flows.recipe import FinetuneRecipe
from flows.stages import CHAMPION, EXAMPLES, GATHER, REPORT, Builder, Handle, Outcome
from tasks.artifacts import Examples, PretrainedModel
from tasks.promotion.gather import ENDS, GatherConfig


def finetune(run: Builder, recipe: FinetuneRecipe) -> Outcome:
    """All labelled data of the recipe in; challengers out, each scored, judged and registered."""
    base = take_start(run, recipe.start)
    used = {name for tuning in recipe.finetune for name in tuning.sets}
    examples = {entry.name: run.stage(EXAMPLES, entry, entry.name) for entry in recipe.examples if entry.name in used}
    return challenge(run, recipe, base, examples)


def nightly(run: Builder, recipe: FinetuneRecipe, gathering: Mapping[str, GatherConfig]) -> Outcome:
    """The same, with labelled rows that no night has used, and some of those that the champion learned from.

    Where all of a set's rows were set aside, or it has drifted too far, nothing learns from it.
    """
    assert recipe.champion is not None
    assert recipe.night is not None
    if not gathering:
        return Outcome((), (), None)
    base = run.stage(CHAMPION, recipe.champion)
    gathered = {name: run.stage(GATHER, config, name, champion=base) for name, config in gathering.items()}
    examples = {name: one for name, one in gathered.items() if ENDS not in one.artifact().notes}
    return challenge(run, recipe, base, examples, recipe.night.replay) if examples else Outcome((), (), None)


def challenge(
    run: Builder, recipe: FinetuneRecipe, base: Handle[PretrainedModel], examples: Mapping[str, Handle[Examples]], replay: float = 0
) -> Outcome:
    """Fine-tune, score, decide, tell, register; of a fine-tuning whose examples are not all there nothing is made."""
    taught = [tuning.replaying(replay) for tuning in recipe.finetune if examples.keys() >= set(tuning.sets)]
    tuned = tune(run, taught, base, base, examples)
    contenders = tuned_contenders(run, recipe, tuned, base, base, base, examples, recipe.line)
    scores = tuple(one.scores for one in contenders)
    decisions = decide(run, contenders)
    report = run.stage(REPORT, recipe.report, base=base, scores=scores, decisions=tuple(decisions))
    return Outcome(scores, tuple(register(run, contenders, decisions, report)), report)
