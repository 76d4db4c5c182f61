"""Scaled rotary positions against transformers, far behind the original context, and within packed rows."""

import numpy as np
import pytest
import torch
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from model.config.model_config import ModelConfig
from model.config.rope_scaling import RopeScaling
from model.data.packed_documents import find_documents
from model.nn.attention import turning_speeds
from model.nn.models import LanguageModel, SequenceClassifier

VOCAB = 61
LLAMA_3_2, DEEPSEEK = RopeScaling("llama3", 32.0, 1.0, 4.0, 8192), RopeScaling("linear", 4.0)
SHORT = RopeScaling("llama3", 8.0, 1.0, 4.0, 8)


def random_ids(rows: int, tokens: int) -> torch.Tensor:
    return torch.randint(VOCAB, (rows, tokens), generator=torch.Generator().manual_seed(rows))


@pytest.mark.parametrize(
    ("scaling", "theta", "parameters"),
    [
        (
            LLAMA_3_2,
            500000.0,
            {
                "rope_type": "llama3",
                "factor": 32.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
        ),
        (DEEPSEEK, 100000.0, {"rope_type": "linear", "factor": 4.0}),
    ],
    ids=["Llama 3.2", "DeepSeek-Coder"],
)
def test_angles_of_published_models_are_those_of_transformers_to_the_bit(scaling: RopeScaling, theta: float, parameters: dict[str, object]):
    config = transformers.LlamaConfig(hidden_size=256, num_attention_heads=2, rope_parameters={"rope_theta": theta, **parameters})
    expected, factor = ROPE_INIT_FUNCTIONS[str(parameters["rope_type"])](config, "cpu")
    assert factor == 1.0
    assert torch.equal(turning_speeds(128, theta, scaling), expected)


@pytest.mark.parametrize("scaling", [SHORT, DEEPSEEK], ids=["llama3", "linear"])
@pytest.mark.parametrize("window", [None, 5])
def test_documents_in_packed_rows_are_read_as_alone(scaling: RopeScaling, window: int | None):
    torch.manual_seed(1)
    config = ModelConfig(layers=2, width=32, heads=4, kv_heads=2, context=24, window=window, rope_scaling=scaling)
    trunk = LanguageModel(config, VOCAB).eval().trunk
    ids, is_start = random_ids(1, 24), np.zeros((1, 24), dtype=np.bool_)
    is_start[0, [0, 5, 6]] = True
    with torch.no_grad():
        packed = trunk(ids, find_documents(is_start))[0]
        alone = torch.cat([trunk(part)[0] for part in ids.split([5, 1, 18], dim=1)])
    torch.testing.assert_close(packed, alone, atol=1e-5, rtol=1e-5)


def test_mean_of_a_row_leaves_its_padding_out():
    torch.manual_seed(1)
    config = ModelConfig("modernbert", layers=2, width=32, heads=4, context=24, window=8, pooling="mean")
    model = SequenceClassifier(config, VOCAB, 3).eval()
    ids, lengths = random_ids(2, 20), torch.tensor([20, 11])
    with torch.no_grad():
        torch.testing.assert_close(model(ids, lengths)[1:], model(ids[1:, :11], lengths[1:]), atol=1e-5, rtol=1e-5)
