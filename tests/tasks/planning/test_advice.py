"""Advice, against what the papers print."""

import pytest

from model.config.model_config import ModelConfig
from tasks.planning.advice import compute_optimal, epoch_advice, size_advice
from tasks.planning.estimate import around
from tasks.planning.shorter import DAY, shorter_settings
from tests.earlier_runs import pretraining


def test_flops_of_chinchilla_are_best_spent_on_chinchilla() -> None:
    """arXiv 2203.15556: 70 billion parameters, 1.4 trillion tokens, 5.76e23 FLOPs."""
    parameters, tokens = compute_optimal(5.76e23)
    assert parameters == pytest.approx(70e9, rel=0.02)
    assert tokens == pytest.approx(1.4e12, rel=0.02)


def test_model_with_too_few_tokens_is_told_the_better_size() -> None:
    told = size_advice(1_000_000_000, 1e9)
    assert "far too few" in told
    assert "224 M parameters on 4.47 G tokens" in told
    assert "arXiv 2203.15556" in told


def test_balanced_training_gets_no_other_size() -> None:
    assert "same FLOPs" not in size_advice(124_000_000, 2.6e9)


def test_text_is_called_too_short_beyond_four_passes() -> None:
    assert epoch_advice(4e6, 1e6) == ""
    assert "5.0 passes" in epoch_advice(5e6, 1e6)


def test_training_of_41_days_is_told_settings_that_take_a_day() -> None:
    work = pretraining(100_000, ModelConfig(family="llama", layers=12, width=1024, heads=8, context=1024))
    found = shorter_settings(work, around(41 * DAY, 1.3, ""), is_gpu=False)
    assert [setting.key.partition("=")[0] for setting in found] == ["pretrain.steps", "model.width"]
    assert all(setting.seconds <= DAY for setting in found)
    assert found[0].key == "pretrain.steps=2439"
    assert shorter_settings(work, around(DAY, 1.3, ""), is_gpu=False) == ()
