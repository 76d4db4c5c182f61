from dataclasses import asdict
from pathlib import Path

from flows.commands.tables import MEMORY_PARTS, budget_line, plan_budget, plan_json
from flows.recipe import Recipe
from tests.flows.recipe_text import load_recipe

DEMO = str(Path(__file__).parents[2] / "configs" / "demo.yaml")


def test_plan_tells_parameters_and_memory_by_parts():
    budget = plan_budget(load_recipe(Recipe, DEMO))
    line = budget_line(budget)
    assert all(f"{name} " in line for name in MEMORY_PARTS)
    assert f"{budget.parameters.total / 1e6:,.1f} M parameters" in line


def test_plan_as_data_has_the_same_budget():
    recipe = load_recipe(Recipe, DEMO)
    assert plan_json([], recipe)["budget"] == asdict(plan_budget(recipe))


def test_smaller_micro_batches_take_less_memory_and_add_gradients_up():
    whole, parts = (plan_budget(load_recipe(Recipe, DEMO, [f"pretrain.micro_rows={rows}"])).memory for rows in (10_000, 1))
    assert parts.peak < whole.peak
    assert (whole.accumulates, parts.accumulates) == (False, True)
