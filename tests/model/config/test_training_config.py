import subprocess
import sys

import pytest
from pydantic import BaseModel, ValidationError

from model.config.model_config import ModelConfig, model_config_from, model_config_from_json
from model.config.rope_scaling import RopeScaling
from model.config.training_config import OptimizerConfig, TrainingConfig, config_to_json, settings_digest


def test_heads_that_do_not_divide_the_width_are_refused_with_those_that_do():
    with pytest.raises(ValueError, match="heads 5 does not divide width 256; the nearest heads that do: 4, 8"):
        ModelConfig(width=256, heads=5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 0}, "layers 0: expected 1 or more"),
        ({"family": "falcon"}, "expected one of gpt2, llama"),
        ({"kv_heads": 3}, "kv_heads 3 does not divide heads 4; the nearest kv_heads that do: 2, 4"),
        ({"family": "gpt2", "kv_heads": 2}, "kv_heads: gpt2 has no such option; leave it out, or set family to llama"),
        ({"family": "gpt2", "tie_embeddings": False}, "tie_embeddings false: gpt2 has no such option"),
        ({"width": 12, "heads": 4}, "odd width 3"),
        ({"dropout": 1.0}, "at least 0 and below 1"),
        ({"dropout": float("nan")}, "dropout nan"),
        ({"norm_epsilon": 0.0}, "above 0"),
        ({"mlp_width": -1}, "mlp_width -1"),
        ({"family": "bert", "window": 8}, "window: bert has no such option"),
        ({"family": "lstm", "activation": "relu"}, "activation 'relu': lstm has tanh alone"),
        ({"family": "lstm", "mlp_width": 64}, "lstm has no MLP"),
        ({"family": "seq2seq", "positions": "rotary"}, "seq2seq has sinusoidal or learned ones"),
        ({"activation": "swish"}, "expected one of sigmoid, tanh"),
        ({"global_every": 2}, "without a window every layer is global"),
        (
            {"family": "gpt2", "rope_scaling": RopeScaling("linear", 4.0)},
            "rope_scaling: gpt2 has no such option; leave it out, or set family to llama or modernbert",
        ),
        ({"family": "bert", "pooling": "mean"}, "pooling: bert has no such option; leave it out, or set family to modernbert"),
        ({"family": "modernbert", "pooling": "last"}, "pooling 'last': expected one of first, mean"),
        ({"carry_tokens": 5}, "carry_tokens: llama has no such option; leave it out, or set family to rnn or lstm or gru"),
    ],
)
def test_a_shape_that_cannot_be_built_is_refused(changes: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "yarn", "factor": 4.0}, "rope_scaling: kind 'yarn': expected one of linear, llama3"),
        ({"kind": "linear", "factor": 0.5}, "rope_scaling: factor 0.5: expected a number at least 1"),
        ({"kind": "linear", "factor": 2.0, "original_context": 8}, "original_context 8: linear has no such option"),
        ({"kind": "llama3", "factor": 8.0}, "low_freq_factor is missing: llama3 needs factor, low_freq_factor"),
        (
            {"kind": "llama3", "factor": 8.0, "low_freq_factor": 4, "high_freq_factor": 4, "original_context": 8},
            "high_freq_factor 4: expected a number above 4",
        ),
        ({"kind": "linear", "factor": 2.0, "by": 3}, "rope_scaling: unknown keys by. Known keys: kind, factor, low_freq_factor"),
        ("linear", "rope_scaling is 'linear', expected an object with kind, factor"),
    ],
)
def test_scaling_of_positions_that_cannot_be_is_refused(changes: object, message: str):
    with pytest.raises(ValueError, match=message):
        model_config_from({"rope_scaling": changes})


def test_default_mlp_widths_follow_the_family():
    assert ModelConfig(family="gpt2", width=256).hidden_width == 1024
    assert ModelConfig(family="llama", width=256).hidden_width == 704


def test_final_rate_above_the_peak_is_refused():
    with pytest.raises(ValueError, match="absolute rate, not a fraction"):
        OptimizerConfig(learning_rate=1e-3, final_learning_rate=0.1)


def test_zero_steps_are_refused():
    with pytest.raises(ValueError, match="steps 0"):
        TrainingConfig(steps=0)


def test_config_survives_json():
    config = ModelConfig(layers=3, dropout=0.1, rope_scaling=RopeScaling("llama3", 8.0, 1.0, 4.0, 64))
    assert model_config_from_json(config_to_json(config)) == config


def test_unknown_json_key_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown keys layer\. Known keys: activation, bias, carry_tokens, context"):
        model_config_from_json('{"layer": 3}')


def test_recipe_refuses_an_unknown_key():
    class Recipe(BaseModel):
        model: ModelConfig

    assert Recipe.model_validate({"model": {"layers": 2}}).model.layers == 2
    scaled = Recipe.model_validate({"model": {"rope_scaling": {"kind": "linear", "factor": 4}}})
    assert scaled.model.rope_scaling == RopeScaling("linear", 4.0)
    with pytest.raises(ValidationError, match="factr"):
        Recipe.model_validate({"model": {"rope_scaling": {"kind": "linear", "factor": 4, "factr": 3}}})
    with pytest.raises(ValidationError, match="layer"):
        Recipe.model_validate({"model": {"layer": 2}})


def test_how_often_a_run_reports_does_not_change_its_settings():
    one = settings_digest("LanguageModel", ModelConfig(), 100, TrainingConfig(log_every=1), OptimizerConfig())
    two = settings_digest("LanguageModel", ModelConfig(), 100, TrainingConfig(log_every=2), OptimizerConfig())
    other = settings_digest("LanguageModel", ModelConfig(), 100, TrainingConfig(steps=7), OptimizerConfig())
    assert one == two != other


def test_config_is_read_without_torch():
    code = "import sys, model.config.training_config, model.training.budget; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
