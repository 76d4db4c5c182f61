"""A fresh model knows nothing: its first loss is that of a guess among all tokens."""

import math

import pytest
import torch
import torch.nn.functional as F

from model.config.model_config import Family, ModelConfig
from model.nn.models import LanguageModel

VOCAB = 2048


@pytest.mark.parametrize("family", ["gpt2", "llama", "lstm"])
def test_loss_of_a_fresh_model_is_the_logarithm_of_its_vocabulary(family: Family) -> None:
    torch.manual_seed(1)
    model = LanguageModel(ModelConfig(family, layers=2 if family == "lstm" else 4, width=128, heads=4, context=64), VOCAB)
    ids = torch.randint(VOCAB, (8, 65))
    with torch.no_grad():
        loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(VOCAB), abs=0.1)
