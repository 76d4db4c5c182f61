"""A pretraining whose layers are divided, from its recipe's section to the model's folder."""

from pathlib import Path

import pytest
import torch

from model.config.layout_config import LayoutConfig
from model.config.model_config import ModelConfig
from model.config.training_config import OptimizerConfig
from model.huggingface.huggingface import load_folder
from tasks.errors import UserError
from tasks.pretrain.config import PretrainConfig, Pretraining
from tasks.pretrain.pretrain import pretrain_model
from tests.tasks.launch_on_two import on_two
from tests.tasks.pretrain.small_training import CONTEXT, VOCAB, call_here, write_shards, write_tokenizer

MODEL = ModelConfig(layers=1, width=32, heads=4, kv_heads=2, context=CONTEXT, tie_embeddings=False)


def section(workers: int, layout: LayoutConfig) -> Pretraining:
    return Pretraining(
        MODEL,
        PretrainConfig(
            steps=4,
            batch_tokens=4 * CONTEXT,
            micro_rows=2,
            workers=workers,
            evaluate_every=2,
            optimizer=OptimizerConfig(warmup_steps=1),
            precision="float32",
            layout=layout,
        ),
    )


def test_model_of_divided_layers_is_the_one_of_a_single_process(tmp_path: Path) -> None:
    tokenizer = write_tokenizer(tmp_path / "tokenizer", "b" * 16, [f"t{number}" for number in range(VOCAB - 20)])
    shards = write_shards(tmp_path / "shards", tokenizer.fingerprint)
    found = []
    for name, workers, layout, launch in (("one", 0, LayoutConfig(), call_here), ("two", 2, LayoutConfig(tensor=2), on_two)):
        (tmp_path / name).mkdir()
        outcome = pretrain_model(section(workers, layout), shards, tokenizer, tmp_path / name, launch)
        found.append((outcome, load_folder(tmp_path / name / "model").state_dict()))
    (alone, weights), (divided, theirs) = found
    assert divided.figures["parameters"] == alone.figures["parameters"]
    assert divided.figures["validation_loss"] == pytest.approx(alone.figures["validation_loss"], rel=1e-5)
    assert divided.ledger.tokens_out == alone.ledger.tokens_out
    for name, weight in weights.items():
        assert torch.allclose(theirs[name], weight, atol=1e-5), name


def test_layout_that_the_model_cannot_have_is_refused_before_a_worker_starts(tmp_path: Path) -> None:
    tokenizer = write_tokenizer(tmp_path / "tokenizer", "b" * 16, [f"t{number}" for number in range(VOCAB - 20)])
    shards = write_shards(tmp_path / "shards", tokenizer.fingerprint)
    with pytest.raises(UserError, match=r"pretrain.layout.tensor 4 does not divide the model's kv_heads 2"):
        pretrain_model(section(4, LayoutConfig(tensor=4)), shards, tokenizer, tmp_path, on_two)
