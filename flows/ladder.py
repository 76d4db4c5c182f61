"""Ladder DAG: small trainings of a pretraining's own tokens, and the loss that they predict of the whole run."""

from flows.corpus import build_corpus
from flows.recipe import AnyRecipe, Recipe
from flows.stages import LADDER, RUNG, SHARDS, TOKENIZER, Builder, Outcome
from tasks.errors import UserError
from tasks.pretrain.ladder import Laddered, RungOf, ladder_of


def climb(run: Builder, recipe: Recipe) -> Outcome:
    """Raw text in, a prediction out. Up to the shards its stages are those of the pretraining, which finds them done."""
    corpus, _ = build_corpus(run, recipe)
    tokenizer = run.stage(TOKENIZER, recipe.tokenizer, corpus=corpus)
    shards = run.stage(SHARDS, recipe.shards, corpus=corpus, tokenizer=tokenizer, replayed=None)
    told = Laddered(recipe.pretraining, recipe.ladder)
    rungs = [
        run.stage(RUNG, RungOf(told, number), f"{number + 1} of {recipe.ladder.rungs}", shards=shards, tokenizer=tokenizer)
        for number in range(recipe.ladder.rungs)
    ]
    run.stage(LADDER, told, rungs=tuple(rungs), shards=shards, tokenizer=tokenizer)
    return Outcome((), (), None)


def laddered(recipe: AnyRecipe) -> Recipe:
    """The recipe, if a ladder can tell of it. UserError where it trains no new model, or its run is too short."""
    if not isinstance(recipe, Recipe):
        raise UserError(
            f"--ladder: recipe {recipe.name} pretrains nothing, so there is no loss to predict. Fix: leave --ladder out, or name a recipe "
            "that pretrains, such as configs/demo.yaml."
        )
    pretrain = recipe.pretrain
    begins = {
        "champion": recipe.champion,
        "base": recipe.base,
        "pretrain.start": pretrain.start,
        "pretrain.word_vectors": pretrain.word_vectors,
    }
    for key, given in begins.items():
        if given is not None:
            raise UserError(
                f"--ladder: recipe {recipe.name} begins with weights from elsewhere ({key}), which no smaller model has. Fix: leave "
                f"--ladder out, or {key}."
            )
    ladder_of(Laddered(recipe.pretraining, recipe.ladder), recipe.tokenizer.vocab_size, recipe.shards.context)
    return recipe
