"""Judging: how promotion has models scored, certified and compared, joined from the folders that it may not import."""

from pathlib import Path

from flows.recipe_file import checked, read_recipe
from tasks.evaluate.judging import score_items, score_suite_items
from tasks.evaluate.suite import EvaluateConfig
from tasks.items import Asked


def judge(model: Path, asked: Asked, out: Path) -> None:
    """Items and figures of the model in `out`; a suite is read from its file. UserError where the model cannot be asked."""
    if asked.suite is None:
        score_items(model, asked, out)
    else:
        score_suite_items(suite_of(asked.suite), model, out)


def suite_of(path: str) -> EvaluateConfig:
    """The suite of a YAML file. UserError for what is none."""
    return checked(EvaluateConfig, read_recipe(path, [], "suite"))
