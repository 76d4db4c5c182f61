"""The recipe's section register."""

import pytest
from pydantic import ValidationError

from tasks.promotion.register_config import RegisterConfig
from tasks.settings import identity


def test_margin_is_refused_here_with_where_it_lies_now() -> None:
    with pytest.raises(ValidationError, match=r"min_improvement: moved to gate\.margin\. Write gate: \{margin: 0\.02\}"):
        RegisterConfig.model_validate({"min_improvement": 0.02})


def test_names_of_fine_tuned_models_are_names() -> None:
    assert RegisterConfig.model_validate({"names": {"tone": "mill-tone"}}).names == {"tone": "mill-tone"}
    with pytest.raises(ValidationError, match=r"names\.tone"):
        RegisterConfig.model_validate({"names": {"tone": "mill tone"}})


def test_patience_with_the_registry_is_no_part_of_the_identity() -> None:
    assert identity(RegisterConfig(wait_seconds=5)) == identity(RegisterConfig())
