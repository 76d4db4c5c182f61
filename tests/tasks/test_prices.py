"""What runs cost."""

import pytest
from pydantic import ValidationError

from flows.recipe import FinetuneRecipe
from tasks.prices import Cost, Prices
from tasks.report.page import ReportConfig


def test_machine_and_gpus_add_up() -> None:
    prices = Prices(currency="EUR", machine_hour=0.5, gpu_hour=2.0)
    assert prices.spent(7200, 3600) == Cost(3.0, "EUR", "0.5 EUR per machine hour, 2 EUR per GPU hour")


def test_without_a_price_there_is_no_cost() -> None:
    assert Prices().cost(3600, 0) is None
    assert Prices(machine_hour=0.0).cost(3600, 0) == 0.0


def test_price_of_before_is_refused_with_what_to_write() -> None:
    with pytest.raises(ValidationError, match="prices: {machine_hour: 0.12, currency: EUR}"):
        ReportConfig.model_validate({"currency_per_hour": 0.12, "currency": "EUR"})


def test_every_kind_of_recipe_has_prices() -> None:
    assert "prices" in FinetuneRecipe.model_fields
