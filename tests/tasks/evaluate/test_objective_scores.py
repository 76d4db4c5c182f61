"""How well a model does what it was pretrained to do, on held-out documents."""

import json
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from model.config.model_config import ModelConfig
from model.config.objective_config import ObjectiveConfig, longest_text
from model.huggingface.huggingface import save_folder
from model.objectives.objectives import new_model
from tasks.artifacts import Corpus
from tasks.documents import DOCUMENTS, TableWriter
from tasks.errors import UserError
from tasks.evaluate.evaluate import EvaluateConfig, score_model
from tasks.examples.deciding import lower_is_better
from tasks.inference.objective_file import base_metric, write_objective
from tasks.tokenizer.vocabulary import complete, learn_merges, new_tokenizer, special_names, tokenizer_settings

TRAIN = ["rain falls on stone", "rain rain rain"]
HELD = ["rain falls on every stone of the old mill, and the wheel turns. " * 3, "石头 stone"]
RESERVE = ["<|mask|>", "<|sep|>", *(f"<|span_{n}|>" for n in range(3))]  # enough for 40 tokens, of a context of 64
CONFIG = EvaluateConfig(threads=1, resamples=100, prompts=["rain "], sample_tokens=4)
PAIRS = [("bert", "masked"), ("llama", "restore"), ("gru", "spans"), ("seq2seq", "restore"), ("seq2seq", "spans")]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    for name, texts in (("train-00000", TRAIN), ("validation", HELD)):
        rows = [
            {"id": f"{name}{n}", "text": text, "source": "s", "path": "p", "language": "en", "meta": []} | {"bytes": len(text.encode())}
            for n, text in enumerate(texts)
        ]
        with TableWriter(folder / f"{name}.parquet", DOCUMENTS) as writer:
            writer.write(pa.RecordBatch.from_pylist(rows, DOCUMENTS))
    return Corpus(str(folder), "c0ffee")


def uniform(folder: Path, family: str, kind: str, **settings: object) -> int:
    """A model that gives every token the same probability, in a folder; returns how many tokens it has."""
    tokenizer = new_tokenizer()
    specials = special_names("bpe", RESERVE)
    learn_merges(tokenizer, iter(TRAIN), 300, specials)
    complete(tokenizer, specials)
    config, objective = ModelConfig(family, layers=1, width=16, heads=2, context=64), ObjectiveConfig(kind, **settings)  # type: ignore[arg-type]
    model = new_model(config, tokenizer.get_vocab_size(), objective)
    torch.nn.init.zeros_(model.trunk.embedding.weight)
    save_folder(folder, model, {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2})
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_settings(None, RESERVE)))
    write_objective(folder, objective)
    return tokenizer.get_vocab_size()


def scored(out: Path) -> dict[tuple[str, str], dict[str, float]]:
    return {(row["model"], row["metric"]): row for row in pq.read_table(out / "scores.parquet").to_pylist()}


@pytest.mark.parametrize(("family", "kind"), PAIRS)
def test_uniform_model_loses_the_logarithm_of_its_vocabulary(corpus: Corpus, tmp_path: Path, family: str, kind: str):
    size = uniform(tmp_path / "model", family, kind)
    outcome = score_model(CONFIG, tmp_path / "model", tmp_path, corpus.path)
    found = scored(tmp_path)
    metric = base_metric(ObjectiveConfig(kind))  # type: ignore[arg-type]
    assert metric == f"{kind}_loss"
    assert lower_is_better(metric)
    assert found["model", metric]["value"] == pytest.approx(math.log(size), rel=1e-5)
    assert found["model", metric]["n"] == len(HELD)
    assert 0 < found["unigram", metric]["value"] != found["model", metric]["value"]
    assert outcome.figures[metric] == found["model", metric]["value"]
    assert (("model", "bits_per_byte") in found) == (family in ("llama", "gru"))


def test_noise_is_fixed_by_the_suites_seed(corpus: Corpus, tmp_path: Path):
    uniform(tmp_path / "model", "bert", "masked", rate=0.3)
    values = list[float]()
    for number, seed in enumerate((1, 1, 2)):
        (tmp_path / str(number)).mkdir()
        score_model(CONFIG.model_copy(update={"seed": seed}), tmp_path / "model", tmp_path / str(number), corpus.path)
        values.append(scored(tmp_path / str(number))["unigram", "masked_loss"]["value"])
    assert values[0] == values[1] != values[2]


def test_whole_words_are_hidden_in_evaluation_too(corpus: Corpus, tmp_path: Path):
    uniform(tmp_path / "model", "bert", "masked", unit="word")
    score_model(CONFIG, tmp_path / "model", tmp_path, corpus.path)
    assert ("model", "masked_loss") in scored(tmp_path)


def test_what_a_masked_model_cannot_be_asked_is_refused_by_name(corpus: Corpus, tmp_path: Path):
    uniform(tmp_path / "bert", "bert", "masked")
    uniform(tmp_path / "llama", "llama", "causal")
    with pytest.raises(UserError, match="needs a model that writes, found a MaskedLanguageModel. Fix: ask for objective_loss"):
        score_model(CONFIG.model_copy(update={"tasks": ["bits_per_byte"]}), tmp_path / "bert", tmp_path, corpus.path)
    with pytest.raises(UserError, match="LanguageModel has no objective that objective_loss could measure"):
        score_model(CONFIG.model_copy(update={"tasks": ["objective_loss"]}), tmp_path / "llama", tmp_path, corpus.path)


def test_causal_models_compete_by_bits_per_byte():
    assert base_metric(ObjectiveConfig()) == "bits_per_byte"
    assert longest_text(ModelConfig(context=64), ObjectiveConfig()) == 64
