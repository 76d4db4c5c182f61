"""`wordmill plan --ladder`: trains the small models of a recipe's ladder, as a flow of their own."""

import logging
from collections.abc import Sequence

from flows.commands.ladder_view import Climbed
from flows.dags import Loaded
from flows.deployed import guarded, ladder, require_server
from flows.ladder import laddered
from flows.recipe import check_sources
from flows.runner.environment import settle
from tasks.artifacts import Workspace
from tasks.pretrain.ladder import Laddered, ladder_of, whole_flops
from tasks.pretrain.prediction import read_prediction
from tasks.tracking.address import require_answer, tracking_address

logger = logging.getLogger("wordmill")


def climb_ladder(loaded: Loaded, recipe: str, changes: Sequence[str]) -> Climbed:
    """Runs what of the ladder is not done yet. UserError for a recipe of which no ladder can tell."""
    chosen = laddered(loaded.recipe)
    workspace = Workspace(chosen.workspace).open()
    check_sources(chosen)
    require_answer(tracking_address(chosen.tracking.uri, workspace))
    settle(workspace.root)
    require_server()
    logger.info("%s", cost_line(Laddered(chosen.pretraining, chosen.ladder), chosen.tokenizer.vocab_size, chosen.shards.context))
    with guarded():
        summary = ladder(recipe=recipe, overrides=[*changes])
    stages = summary["stages"]
    assert isinstance(stages, list)
    fingerprint = next(str(one["fingerprint"]) for one in stages if isinstance(one, dict) and one["stage"] == "ladder")
    folder = workspace.folder("ladder", fingerprint)
    return Climbed(read_prediction(folder), folder)


def cost_line(told: Laddered, vocab_size: int, context: int) -> str:
    """What the trainings take, before they are begun; of a vocabulary that comes out smaller it is less."""
    rungs = ladder_of(told, vocab_size, context)
    spent, whole = sum(one.flops for one in rungs), whole_flops(told.whole, vocab_size, context)
    return f"ladder: {len(rungs)} trainings of {spent:.2g} operations together, {spent / whole:.2%} of the whole run's {whole:.2g}"
