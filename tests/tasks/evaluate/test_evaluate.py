import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from model.config.model_config import ModelConfig
from model.huggingface.huggingface import save_folder
from model.nn.models import LanguageModel, SequenceClassifier
from tasks.artifacts import Corpus, PretrainedModel
from tasks.contracts import check_table
from tasks.documents import DOCUMENTS, TableWriter
from tasks.errors import UserError
from tasks.evaluate.evaluate import EvaluateConfig, evaluate, score_model
from tasks.evaluate.metrics import document_nats, unigram_nats
from tasks.evaluate.suite import heldout_examples, heldout_texts
from tasks.examples.rows import read_examples
from tasks.sampling import HELDOUT_SEED, HELDOUT_SHARE, is_heldout
from tasks.tokenizer.encoding import encode_documents, load_tokenizer
from tasks.tokenizer.tokenizer import complete, learn_merges, new_tokenizer, tokenizer_settings
from tests.tasks.examples.prepared import from_rows

TEXTS = {"t1": "rain falls", "t2": "rain rain", "v1": "rain falls on stone", "v2": "石头 stone"}


def write_documents(path: Path, texts: dict[str, str]) -> None:
    rows = [
        {"id": id, "text": text, "source": "made", "path": id, "language": "zh" if "石" in text else "en", "meta": []}
        | {"bytes": len(text.encode())}
        for id, text in texts.items()
    ]
    with TableWriter(path, DOCUMENTS) as writer:
        writer.write(pa.RecordBatch.from_pylist(rows, DOCUMENTS))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    write_documents(folder / "train-00000.parquet", {k: v for k, v in TEXTS.items() if k[0] == "t"})
    write_documents(folder / "validation.parquet", {k: v for k, v in TEXTS.items() if k[0] == "v"})
    return Corpus(str(folder), "c0ffee")


@pytest.fixture(scope="module")
def uniform(tmp_path_factory: pytest.TempPathFactory) -> PretrainedModel:
    """A language model that gives every token the same probability: its tied embedding is zero."""
    folder = tmp_path_factory.mktemp("uniform")
    tokenizer = new_tokenizer()
    learn_merges(tokenizer, iter(TEXTS.values()), 270)
    complete(tokenizer)
    model = LanguageModel(ModelConfig(layers=1, width=16, heads=2, context=16), tokenizer.get_vocab_size())
    torch.nn.init.zeros_(model.trunk.embedding.weight)
    save_folder(folder / "model", model, {})
    tokenizer.save(str(folder / "model" / "tokenizer.json"))
    (folder / "model" / "tokenizer_config.json").write_text(json.dumps(tokenizer_settings()))
    return PretrainedModel(str(folder), "0")


def table(folder: Path) -> dict[tuple[str, str], dict[str, float]]:
    return {(row["model"], row["metric"]): row for row in pq.read_table(folder / "scores.parquet").to_pylist()}


def test_uniform_model_and_unigram_model_score_what_a_hand_computes(uniform: PretrainedModel, corpus: Corpus, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(uniform.path / "model")
    size = tokenizer.get_vocab_size()
    train = [token for ids in encode_documents(tokenizer, [TEXTS["t1"], TEXTS["t2"]]) for token in ids]
    held = [token for ids in encode_documents(tokenizer, [TEXTS["v1"], TEXTS["v2"]]) for token in ids]
    size_bytes = len((TEXTS["v1"] + TEXTS["v2"]).encode())
    config = EvaluateConfig(tasks=["bits_per_byte"])
    outcome = evaluate(config, uniform, corpus, None, tmp_path)
    scores = table(tmp_path)
    assert scores["model", "bits_per_byte"]["value"] == pytest.approx(len(held) * math.log2(size) / size_bytes)
    smoothed = [(train.count(token) + 1) / (len(train) + size) for token in held]
    assert scores["unigram", "bits_per_byte"]["value"] == pytest.approx(-sum(map(math.log2, smoothed)) / size_bytes)
    assert scores["model", "bits_per_byte"]["n"] == 2
    assert scores["model", "bits_per_byte_zh"]["n"] == 1
    assert outcome.figures["bits_per_byte"] == scores["model", "bits_per_byte"]["value"]
    check_table("Scores", tmp_path / "scores.parquet")
    assert json.loads((tmp_path / "samples.json").read_text()) == []


def test_long_document_is_scored_as_rows_of_training_are(uniform: PretrainedModel) -> None:
    torch.manual_seed(1)
    model = LanguageModel(ModelConfig(layers=1, width=16, heads=2, context=16, initial_std=0.3), 50).eval()
    documents = [list(np.random.default_rng(i).integers(0, 50, size)) for i, size in enumerate([2, 17, 18, 70])]
    expected: list[float] = []
    for ids in documents:
        nats = 0.0
        for start in range(0, len(ids) - 1, 16):
            row = torch.tensor([ids[start : start + 17]])
            with torch.no_grad():
                scores = model(row[:, :-1])[0].log_softmax(-1)
            nats -= float(scores[torch.arange(row.shape[1] - 1), row[0, 1:]].sum())
        expected.append(nats)
    assert [nats.sum() for nats in document_nats(model, documents)] == pytest.approx(expected, rel=1e-5)


def test_add_one_smoothing_by_hand() -> None:
    assert np.exp(-unigram_nats(np.array([3, 0, 1]))) == pytest.approx([4 / 7, 1 / 7, 2 / 7])


def test_same_suite_gives_the_same_bytes_and_limits_hold(uniform: PretrainedModel, corpus: Corpus, tmp_path: Path) -> None:
    config = EvaluateConfig(max_documents=1, document_bytes=64, samples=2, sample_tokens=5, prompts=["rain"])
    digests = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        evaluate(config, uniform, corpus, None, tmp_path / name)
        files = sorted((tmp_path / name).iterdir())
        digests.append([(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files])
    assert digests[0] == digests[1]
    assert table(tmp_path / "first")["model", "bits_per_byte"]["n"] == 1
    samples = json.loads((tmp_path / "first" / "samples.json").read_text())
    assert [set(sample) for sample in samples] == [{"prompt", "text", "seed", "temperature"}] * 2


def test_python_suite_reads_held_out_modules_alone(corpus: Corpus) -> None:
    config = EvaluateConfig(documents="python", max_documents=20, document_bytes=64)
    texts = heldout_texts(config, None)
    assert len(texts) == 20
    for text in texts:
        module = text.id.removeprefix("docstrings/").split("/")[0].split(":")[0].removesuffix(".py")
        assert is_heldout(module, HELDOUT_SHARE, HELDOUT_SEED)
        assert len(text.text.encode()) <= 64


def test_task_without_its_material_is_refused(uniform: PretrainedModel, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="bits_per_byte needs text"):
        score_model(EvaluateConfig(tasks=["bits_per_byte"]), uniform.path / "model", tmp_path)
    with pytest.raises(UserError, match="classification needs examples of that kind, found none"):
        score_model(EvaluateConfig(tasks=["classification"]), uniform.path / "model", tmp_path)


def test_classifier_cannot_be_scored_in_bits_per_byte(uniform: PretrainedModel, corpus: Corpus, tmp_path: Path) -> None:
    folder = tmp_path / "classifier"
    size = load_tokenizer(uniform.path / "model").get_vocab_size()
    save_folder(folder, SequenceClassifier(ModelConfig(layers=1, width=16, heads=2, context=16), size, 2), {})
    (folder / "tokenizer.json").write_bytes((uniform.path / "model" / "tokenizer.json").read_bytes())
    with pytest.raises(UserError, match="needs a model that writes, found a SequenceClassifier. Fix: the recipe that trains it"):
        score_model(EvaluateConfig(tasks=["bits_per_byte"]), folder, tmp_path, corpus=corpus.path)


def test_part_of_the_held_out_examples_is_said_to_be_a_part(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from_rows(tmp_path, "classification", [{"text": f"text {n}", "label": "odd" if n % 2 else "even"} for n in range(40)])
    folder = next(tmp_path.glob("out-*"))
    with caplog.at_level("INFO", "wordmill"):
        kept = heldout_examples(EvaluateConfig(max_examples=5), folder)
    held = read_examples(folder, "heldout").table.num_rows
    assert kept.table.num_rows == 5 < held
    assert f"judged on 5 of {held} held-out examples (evaluate.max_examples)" in caplog.text
