import pytest

from model.config.training_config import OptimizerConfig
from model.optim.schedule import learning_rate

CONFIG = OptimizerConfig(learning_rate=1.0, final_learning_rate=0.1, warmup_steps=10)


def test_warmup_rises_evenly_to_the_peak():
    assert learning_rate(0, 100, CONFIG) == pytest.approx(0.1)
    assert learning_rate(9, 100, CONFIG) == 1.0


@pytest.mark.parametrize("decay", ["cosine", "linear"])
def test_decay_never_rises_and_ends_at_the_final_rate(decay: str):
    config = OptimizerConfig(learning_rate=1.0, final_learning_rate=0.1, warmup_steps=10, decay=decay)
    rates = [learning_rate(step, 100, config) for step in range(9, 100)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0.1)
    assert rates[45] == pytest.approx(0.55)  # half way


def test_constant_rate_stays():
    config = OptimizerConfig(learning_rate=1.0, final_learning_rate=0.1, warmup_steps=0, decay="constant")
    assert {learning_rate(step, 50, config) for step in range(50)} == {1.0}


def test_warmup_longer_than_the_run_is_cut_off():
    assert learning_rate(4, 5, CONFIG) == pytest.approx(0.5)
