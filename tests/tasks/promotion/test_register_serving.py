"""What registration logs: a model that MLflow opens and that answers, without a warning on the way."""

import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from threading import Lock

import mlflow
import pandas
import pytest
import torch

from model.config.heads import HeadSpec
from model.config.model_config import ModelConfig
from model.huggingface.huggingface import save_folder
from model.nn.models import LanguageModel, MaskedLanguageModel, Model, MultipleChoice, MultiTask, Seq2SeqModel, SequenceClassifier
from tasks.artifacts import PretrainedModel
from tasks.inference.saved_models import example_prompt
from tasks.promotion.champion import Registry
from tasks.promotion.versions import log_version
from tasks.tokenizer.tokenizer import complete, learn_merges, new_tokenizer, tokenizer_settings
from tasks.tracking.patience import Patience

BERT = ModelConfig("bert", layers=1, width=16, heads=2, context=16)
LLAMA = ModelConfig(layers=1, width=16, heads=2, context=16)
SEQ2SEQ = ModelConfig("seq2seq", layers=1, width=16, heads=2, context=16)


def write(folder: Path, make: Callable[[int], Model], mask: str = "<|mask|>") -> PretrainedModel:
    tokenizer = new_tokenizer()
    learn_merges(tokenizer, iter(["rain falls on stone, stone by stone"] * 3), 280)
    complete(tokenizer)
    if mask:
        tokenizer.add_special_tokens([mask])
    torch.manual_seed(3)
    save_folder(folder / "model", make(tokenizer.get_vocab_size()), {})
    tokenizer.save(str(folder / "model" / "tokenizer.json"))
    (folder / "model" / "tokenizer_config.json").write_text(json.dumps(tokenizer_settings()))
    return PretrainedModel(str(folder), "1234")


@pytest.mark.parametrize(
    ("make", "prompt"),
    [
        (lambda size: MaskedLanguageModel(BERT, size), "rain <|mask|> stone"),
        (lambda size: Seq2SeqModel(SEQ2SEQ, size), "rain falls"),
        (lambda size: MultipleChoice(BERT, size), "what falls?\nrain\nstone"),
    ],
    ids=["masked", "encoder-decoder", "choice"],
)
def test_registered_model_answers_and_its_example_is_accepted(
    make: Callable[[int], Model], prompt: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = mlflow.MlflowClient(uri, uri)
    experiment = client.create_experiment("kinds", artifact_location=(tmp_path / "files").as_uri())
    registry = Registry(uri, client.create_run(experiment).info.run_id, {}, Lock())
    before = mlflow.get_tracking_uri()
    logging.getLogger("mlflow").addHandler(caplog.handler)  # its records reach no other logger
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            version = log_version(client, "mill", write(tmp_path / "made", make), None, registry, {}, Patience(uri, 0, "register"))
        served = mlflow.pyfunc.load_model(f"models:/mill/{version}")
    finally:
        logging.getLogger("mlflow").removeHandler(caplog.handler)
        mlflow.set_tracking_uri(before)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert [str(one.message) for one in warned if "type hint" in str(one.message)] == []
    params = served.metadata.get_params_schema()
    assert "temperature" in [spec.name for spec in params.params]
    answers = served.predict(pandas.DataFrame({"prompt": [prompt]}), {"max_tokens": 4})
    assert list(answers.columns) == ["text"]
    assert len(answers) == 1


@pytest.mark.parametrize(
    ("make", "mask", "prompt"),
    [
        (lambda size: LanguageModel(LLAMA, size), "", "def "),
        (lambda size: SequenceClassifier(BERT, size, 2), "", "def "),
        (lambda size: MaskedLanguageModel(BERT, size), "[MASK]", "def [MASK]"),
        (lambda size: MaskedLanguageModel(BERT, size), "", None),
        (lambda size: MultiTask(BERT, size, {"tone": HeadSpec("sequence", 2)}), "", None),
    ],
    ids=["writes", "classes", "masked", "no mask token", "several heads"],
)
def test_example_is_a_prompt_that_the_model_answers(make: Callable[[int], Model], mask: str, prompt: str | None, tmp_path: Path) -> None:
    assert example_prompt(write(tmp_path, make, mask).path / "model") == prompt
