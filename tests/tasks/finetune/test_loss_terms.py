import pytest

from model.config.heads import HeadSpec
from model.config.training_config import LossConfig
from tasks.errors import UserError
from tasks.finetune.config import FinetuneConfig
from tasks.finetune.finetune import check_terms, training_config


def test_terms_are_refused_for_heads_that_have_no_place_for_them():
    config = FinetuneConfig(name="some", examples="labels", loss=LossConfig(label_smoothing=0.1))
    check_terms(config, {"labels": HeadSpec("sequence", 3), "words": HeadSpec("tokens", 5)}, "finetune some")
    with pytest.raises(UserError, match=r"finetune some: .*the head of examples 'marks' is regression. Fix: leave loss out"):
        check_terms(config, {"labels": HeadSpec("sequence", 3), "marks": HeadSpec("sequence", 1, "regression")}, "finetune some")


def test_terms_and_averages_reach_the_loop():
    config = FinetuneConfig.model_validate(
        {"name": "some", "examples": "labels", "steps": 40, "loss": {"label_smoothing": 0.1}, "average": {"ema": 0.99}}
    )
    training = training_config(config, 100, 10)
    assert training.loss == LossConfig(label_smoothing=0.1)
    assert training.average is not None
    assert training.average.ema == 0.99
