import json
import re
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas
import pytest
import tokenizers
import torch
from mlflow.exceptions import MlflowException
from safetensors.torch import load_file

import tasks.inference.serving
from model.config.model_config import ModelConfig
from model.huggingface.huggingface import save_folder
from model.nn.models import LanguageModel, SequenceClassifier
from tasks.artifacts import Workspace
from tasks.errors import UserError
from tasks.inference.saved_models import check_folder, load, resolve_model
from tasks.tokenizer.tokenizer import complete, learn_merges, new_tokenizer, tokenizer_settings

TINY = ModelConfig(layers=1, width=16, heads=2, context=16)


def write_model(folder: Path, model: LanguageModel | SequenceClassifier, trained: tokenizers.Tokenizer) -> Path:
    save_folder(folder, model, {})
    trained.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_settings()))
    return folder


@pytest.fixture(scope="module")
def trained() -> tokenizers.Tokenizer:
    tokenizer = new_tokenizer()
    learn_merges(tokenizer, iter(["rain falls on stone, stone by stone"] * 3), 280)
    complete(tokenizer)
    return tokenizer


@pytest.fixture(scope="module")
def artifact(trained: tokenizers.Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """WORKSPACE/pretrain/<fingerprint>, published."""
    folder = tmp_path_factory.mktemp("workspace") / "pretrain" / "0123456789abcdef"
    torch.manual_seed(3)
    write_model(folder / "model", LanguageModel(TINY, trained.get_vocab_size()), trained)
    (folder / "manifest.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def workspace(artifact: Path) -> Workspace:
    return Workspace(artifact.parent.parent)


@pytest.mark.parametrize("form", ["artifact", "hugging face", "fingerprint", "prefix"])
def test_every_name_of_a_local_model_leads_to_its_folder(artifact: Path, workspace: Workspace, form: str) -> None:
    names = {"artifact": str(artifact), "hugging face": str(artifact / "model"), "fingerprint": artifact.name}
    assert resolve_model(names.get(form, artifact.name[:5]), workspace, "unused") == artifact / "model"


def test_unknown_name_lists_what_was_tried(workspace: Workspace) -> None:
    with pytest.raises(UserError, match=r"'feedface': no folder feedface; no model with fingerprint feedface… in .*models:/"):
        resolve_model("feedface", workspace, "unused")


def test_prefix_of_two_models_is_refused_with_both_names(artifact: Path, workspace: Workspace) -> None:
    other = artifact.parent.parent / "finetune" / "0123ffff00000000"
    write_model(other / "model", LanguageModel(TINY, 300), load(artifact / "model")[1])
    (other / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match="finetune/0123ffff00000000, pretrain/0123456789abcdef. Fix: give more digits"):
        resolve_model("0123", workspace, "unused")
    (other / "manifest.json").unlink()  # unfinished: it does not exist
    assert resolve_model("0123", workspace, "unused") == artifact / "model"


def test_folder_with_pickled_weights_alone_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"pytorch_model\.bin is pickled"):
        check_folder(tmp_path)


def test_pickled_weights_are_loaded_where_the_user_allows_it(trained: tokenizers.Tokenizer, tmp_path: Path) -> None:
    model = LanguageModel(TINY, trained.get_vocab_size())
    write_model(tmp_path, model, trained)
    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match="is pickled.*wordmill export --allow-pickle writes"):
        load(tmp_path)
    loaded, _ = load(tmp_path, allow_pickle=True)
    assert torch.equal(loaded.trunk.embedding.weight, model.trunk.embedding.weight)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_folder_that_lacks_a_file_is_refused_by_name(missing: str, trained: tokenizers.Tokenizer, tmp_path: Path) -> None:
    write_model(tmp_path, LanguageModel(TINY, trained.get_vocab_size()), trained)
    (tmp_path / missing).unlink()
    with pytest.raises(UserError, match=re.escape(f"no {missing}")):
        check_folder(tmp_path)


def test_tokenizer_of_another_model_is_refused(trained: tokenizers.Tokenizer, tmp_path: Path) -> None:
    write_model(tmp_path, LanguageModel(TINY, 100), trained)
    with pytest.raises(UserError, match=rf"has {trained.get_vocab_size()} tokens, but the weights are for 100"):
        load(tmp_path)


@pytest.fixture(scope="module")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("mlflow")
    before = mlflow.get_tracking_uri()
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("toy", artifact_location=(folder / "files").as_uri()))
    yield uri
    mlflow.set_tracking_uri(before)


def test_registered_model_answers_and_is_found_by_alias_and_run(artifact: Path, workspace: Workspace, tracking_uri: str) -> None:
    code = str(tasks.inference.serving.__file__)
    with mlflow.start_run() as parent, mlflow.start_run(nested=True) as child:
        mlflow.set_tags({"wordmill.stage": "pretrain", "wordmill.fingerprint": artifact.name, "wordmill.key": "a" * 32})
        mlflow.pyfunc.log_model(
            name="toy",
            python_model=code,
            artifacts={"model": str(artifact / "model")},
            registered_model_name="toy",
            pip_requirements=["torch"],
        )
    mlflow.MlflowClient().set_registered_model_alias("toy", "champion", "1")
    for name in ("models:/toy@champion", "models:/toy/1", "models:/toy/latest"):
        found = resolve_model(name, workspace, tracking_uri)
        assert (found / "model.safetensors").read_bytes() == (artifact / "model" / "model.safetensors").read_bytes()
    for run in (parent.info.run_id, child.info.run_id, "a" * 32):
        assert resolve_model(run, workspace, tracking_uri) == artifact / "model"
    elsewhere = resolve_model(child.info.run_id, Workspace(workspace.root / "empty"), tracking_uri)
    assert (elsewhere / "config.json").is_file()
    with pytest.raises(UserError, match="models:/toy@nobody: 'toy' has no such version or alias"):
        resolve_model("models:/toy@nobody", workspace, tracking_uri)
    served = mlflow.pyfunc.load_model("models:/toy@champion")
    answer = served.predict(pandas.DataFrame({"prompt": ["rain", ""]}))
    assert list(answer.columns) == ["text"]
    assert len(answer) == 2
    for empty in (None, float("nan")):
        with pytest.raises(MlflowException, match=r"prompt of row 1 \(of 1 such, 2 in all\) is null"):
            served.predict(pandas.DataFrame({"prompt": ["rain", empty]}))
