"""The champion as a rival: its model and its memory, or why they cannot be had."""

import json
from pathlib import Path
from threading import Lock

import pytest
import torch
from mlflow import MlflowClient

from model.config.model_config import ModelConfig
from model.huggingface.huggingface import save_folder
from model.nn.models import LanguageModel
from tasks.artifacts import ModelMemory, PretrainedModel
from tasks.promotion import history
from tasks.promotion.champion import ChampionConfig, Registry, fetch_champion, find_rival
from tasks.promotion.history import read_history
from tasks.promotion.versions import log_version
from tasks.tokenizer.tokenizer import complete, learn_merges, new_tokenizer, tokenizer_settings
from tasks.tracking.patience import Patience


@pytest.fixture(autouse=True)
def without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "SURE_SECONDS", 0.0)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """A registry with `mill`, version 1, logged with a memory, and version 2, of other software: its files are not there."""
    root = tmp_path_factory.mktemp("registry")
    uri = f"sqlite:///{root}/mlflow.db"
    client = MlflowClient(uri, uri)
    run = client.create_run(client.create_experiment("champions", artifact_location=(root / "files").as_uri()))
    registry = Registry(uri, run.info.run_id, {}, Lock())
    tokenizer = new_tokenizer()
    learn_merges(tokenizer, iter(["rain falls on stone, stone by stone"] * 3), 280)
    complete(tokenizer)
    torch.manual_seed(3)
    made = root / "made" / "model"
    save_folder(made, LanguageModel(ModelConfig(layers=1, width=16, heads=2, context=16), tokenizer.get_vocab_size()), {})
    tokenizer.save(str(made / "tokenizer.json"))
    (made / "tokenizer_config.json").write_text(json.dumps(tokenizer_settings()))
    (root / "made" / "memory" / "examples" / "areas").mkdir(parents=True)
    (root / "made" / "memory" / "examples" / "areas" / "train.parquet").write_bytes(b"rows")
    tags = {"wordmill.fingerprint": "1111"}
    memory = ModelMemory(str(root / "made"), "m" * 16)
    log_version(client, "mill", PretrainedModel(str(root / "made"), "1111"), memory, registry, tags, Patience(uri, 0, "register"))
    client.create_model_version("mill", f"{root}/nowhere")
    return registry


def hold(registry: Registry, version: str) -> MlflowClient:
    client = MlflowClient(registry.uri, registry.uri)
    client.set_registered_model_alias("mill", "champion", version)
    return client


def test_rival_comes_with_model_and_memory(registry: Registry, tmp_path: Path) -> None:
    client = hold(registry, "1")
    rival = find_rival(registry, "mill", tmp_path)
    assert rival is not None
    assert (rival.version, rival.fingerprint, rival.problem) == ("1", "1111", "")
    assert rival.model == tmp_path / "model"
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert names >= {"config.json", "model.safetensors", "tokenizer.json"}
    assert rival.memory is not None
    assert (rival.memory.examples["areas"] / "train.parquet").read_bytes() == b"rows"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["memory", "model"]
    assert read_history(client, "mill")[-1].champion == "1"


def test_rival_whose_files_are_gone_says_so(registry: Registry, tmp_path: Path) -> None:
    hold(registry, "2")
    rival = find_rival(registry, "mill", tmp_path)
    assert rival is not None
    assert (rival.version, rival.fingerprint, rival.model, rival.memory) == ("2", "", None, None)
    assert "version 2 of 'mill' is registered at" in rival.problem
    assert "cannot be had" in rival.problem


def test_name_without_a_champion_has_no_rival(registry: Registry, tmp_path: Path) -> None:
    assert find_rival(registry, "absent", tmp_path) is None


def test_fetched_champion_has_its_memory_beside_the_model(registry: Registry, tmp_path: Path) -> None:
    fetch_champion(ChampionConfig(uri="models:/mill/1"), tmp_path, registry)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["memory", "model", "tokenizer.json", "tokenizer_config.json"]
