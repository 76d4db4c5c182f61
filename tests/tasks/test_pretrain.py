import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
from pydantic import ValidationError
from tokenizers.models import BPE

from model.config import ModelConfig, OptimizerConfig
from model.heads import LanguageModel
from model.shards import write_token_shard
from tasks.artifacts import Tokenizer, TokenShards
from tasks.encoding import SPECIAL_TOKENS
from tasks.ledger import StageOutcome
from tasks.models import load
from tasks.pretrain import PretrainConfig, Pretraining, pretrain_model, training_config

VOCAB, CONTEXT = 61, 16
Entry = Callable[[dict[str, object]], None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pretrain")


@pytest.fixture(scope="module")
def shards(folder: Path) -> TokenShards:
    for name, rows in (("train", 20), ("validation", 4)):
        tokens = np.random.default_rng(rows).integers(0, VOCAB, (rows, CONTEXT + 1)).astype(np.uint16)
        (folder / "shards" / name).mkdir(parents=True)
        write_token_shard(
            folder / "shards" / name / "shard-0.parquet", tokens, None, {"vocab_size": VOCAB, "tokenizer": "t"}
        )
    return TokenShards(str(folder / "shards"), "a" * 16, figures={"context": float(CONTEXT)})


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    (folder / "tokenizer").mkdir()
    vocabulary = {token: number for number, token in enumerate([*SPECIAL_TOKENS, *"abcdefgh"])}
    tokenizers.Tokenizer(BPE(vocabulary, [])).save(str(folder / "tokenizer" / "tokenizer.json"))
    (folder / "tokenizer" / "tokenizer_config.json").write_text("{}")
    return Tokenizer(str(folder / "tokenizer"), "b" * 16)


CONFIG = Pretraining(
    ModelConfig(layers=1, width=16, heads=2, context=CONTEXT),
    PretrainConfig(
        steps=6, batch_tokens=4 * CONTEXT, micro_rows=2, log_every=2, evaluate_every=3, evaluate_batches=1, checkpoint_every=3,
        optimizer=OptimizerConfig(warmup_steps=1), precision="float32",
    ),
)  # fmt: skip


def call_here(entry: Entry, payload: dict[str, object]) -> None:
    """A launcher without another process."""
    torch.set_num_threads(1)
    entry(payload)


@pytest.fixture(scope="module")
def trained(folder: Path, shards: TokenShards, tokenizer: Tokenizer) -> tuple[Path, StageOutcome]:
    out = folder / "out"
    out.mkdir()
    return out, pretrain_model(CONFIG, shards, tokenizer, out, call_here)


def test_batch_in_tokens_becomes_rows_of_the_shards_context() -> None:
    assert training_config(PretrainConfig(batch_tokens=1024), 64).batch_rows == 16


def test_every_token_of_every_step_is_counted(trained: tuple[Path, StageOutcome]) -> None:
    _, outcome = trained
    assert (outcome.ledger.tokens_out, outcome.figures["tokens"]) == (6 * 4 * CONTEXT, 6 * 4 * CONTEXT)
    assert outcome.figures["steps"] == 6


def test_figures_are_those_of_the_last_point_of_the_curve(trained: tuple[Path, StageOutcome]) -> None:
    out, outcome = trained
    points = [json.loads(line) for line in (out / "curve.jsonl").read_text().splitlines()]
    assert [point["step"] for point in points] == [2, 3, 4, 6]
    assert outcome.figures["loss"] == points[-1]["loss"]
    assert outcome.figures["validation_loss"] == points[-1]["validation_loss"]


def test_model_is_a_folder_that_loads_with_its_tokenizer(trained: tuple[Path, StageOutcome]) -> None:
    out, outcome = trained
    model, tokenizer = load(out / "model")
    assert isinstance(model, LanguageModel)
    assert sum(weight.numel() for weight in model.parameters()) == outcome.figures["parameters"]
    assert tokenizer.token_to_id(SPECIAL_TOKENS[0]) == 0


def test_two_trainings_of_one_recipe_give_the_same_weights(
    trained: tuple[Path, StageOutcome], shards: TokenShards, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    pretrain_model(CONFIG, shards, tokenizer, tmp_path, call_here)
    first, second = (folder / "model" / "model.safetensors" for folder in (trained[0], tmp_path))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"batch_tokens": 0}, {"workers": -1}, {"step": 3}, {"seed": -1}])
def test_config_refuses_what_cannot_be_trained(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        PretrainConfig.model_validate(wrong)
