"""A base's tokenizer held to a corpus before anything is learned, and the weights that the training then starts from."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from model.config.objective_config import ObjectiveConfig
from model.huggingface.huggingface import load_folder
from tasks.artifacts import Corpus, PretrainedModel
from tasks.documents import DOCUMENTS
from tasks.errors import UserError
from tasks.finetune.base_model import BaseConfig, take_base
from tasks.pretrain.adapt import Adaptation, AdaptConfig, adapt_tokenizer
from tasks.pretrain.continued import continued_model
from tasks.tokenizer.byte_spelling import read_fit
from tasks.tokenizer.encoding import load_tokenizer
from tasks.tokenizer.new_tokens import read_spelled
from tasks.tokenizer.tokenizer_quality import read_quality
from tests.tasks.foreign import write_bert, write_gpt2

ASKED = Adaptation(AdaptConfig(), "causal", 16, ())
ENGLISH = "An apple is a fruit that one eats, and a hammer is a tool for nails. "
CHINESE = "磨坊旁边的小河流过田野，水轮转动石磨把麦子变成面粉。"


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> PretrainedModel:
    return taken(write_gpt2(tmp_path_factory.mktemp("gpt2") / "theirs"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> PretrainedModel:
    return taken(write_bert(tmp_path_factory.mktemp("bert") / "theirs"))


def taken(folder: Path) -> PretrainedModel:
    out = folder.parent / "base"
    out.mkdir()
    take_base(BaseConfig(folder=str(folder)), out)
    return PretrainedModel(str(out), "ba5e")


def corpus(folder: Path, **texts: tuple[str, str]) -> Corpus:
    """Twenty documents to learn from, four held out, of each source: (language, text)."""
    folder.mkdir()
    for name, count in (("train-000", 20), ("validation", 4)):
        rows = [
            {"id": f"{source}-{name}-{n}", "text": f"{text}{n}", "source": source, "path": "p", "language": language, "meta": []}
            for source, (language, text) in texts.items()
            for n in range(count)
        ]
        rows = [{**row, "bytes": len(str(row["text"]).encode())} for row in rows]
        pq.write_table(pa.Table.from_pylist(rows, DOCUMENTS), folder / f"{name}.parquet")
    return Corpus(str(folder), "c0")


def out_of(folder: Path) -> Path:
    (folder / "out").mkdir()
    return folder / "out"


def test_tokenizer_of_the_base_is_taken_as_it_is_with_its_fit_beside(gpt2: PretrainedModel, tmp_path: Path) -> None:
    out = out_of(tmp_path)
    outcome = adapt_tokenizer(ASKED, gpt2, corpus(tmp_path / "corpus", own=("en", ENGLISH)), out)
    assert (out / "tokenizer.json").read_bytes() == (gpt2.path / "model" / "tokenizer.json").read_bytes()
    assert {path.name for path in out.iterdir()} >= {"tokenizer_config.json", "quality.json", "encoding.json", "fit.json"}
    fit = {one.source: one for one in read_fit(out)}
    assert fit[""] == replace(fit["own"], source="")
    assert outcome.notes["fit"].startswith(f"en: {fit['own'].bytes_per_token:.2f} bytes a token, {fit['own'].share:.0%} of the text")
    assert read_quality(out).trainer == "base"
    assert outcome.figures["new_tokens"] == 0


def test_language_spelled_in_bytes_is_refused_unless_asked_for_or_its_tokens_are_added(gpt2: PretrainedModel, tmp_path: Path) -> None:
    found = corpus(tmp_path / "corpus", own=("zh", CHINESE), more=("en", ENGLISH))
    with pytest.raises(UserError) as refused:
        adapt_tokenizer(ASKED, gpt2, found, out_of(tmp_path))
    told = str(refused.value)
    assert "does not fit the corpus: zh: 1.0" in told
    assert "bytes a token, 99%" in told or "bytes a token, 100%" in told
    assert "at most 70% is accepted (en: " in told
    assert "Fix: set adapt.add_tokens" in told
    for number, settings in enumerate((AdaptConfig(allow_poor_fit=True), AdaptConfig(add_tokens=300))):
        out = tmp_path / str(number)
        out.mkdir()
        adapt_tokenizer(replace(ASKED, adapt=settings), gpt2, found, out)
    assert next(one for one in read_fit(tmp_path / "1") if (one.language, one.source) == ("zh", "")).share < 0.3


def test_a_language_that_is_hardly_there_holds_nobody_back(gpt2: PretrainedModel, tmp_path: Path) -> None:
    found = corpus(tmp_path / "corpus", own=("en", ENGLISH * 20), few=("zh", CHINESE[:6]))
    adapt_tokenizer(ASKED, gpt2, found, out_of(tmp_path))


def test_general_text_is_neither_measured_nor_learned_from(gpt2: PretrainedModel, tmp_path: Path) -> None:
    found = corpus(tmp_path / "corpus", own=("en", ENGLISH), wiki=("zh", CHINESE))
    out = out_of(tmp_path)
    adapt_tokenizer(Adaptation(AdaptConfig(add_tokens=30), "causal", 16, ("wiki",)), gpt2, found, out)
    assert {one.language for one in read_fit(out)} == {"en"}
    tokenizer = load_tokenizer(out)
    assert all(tokenizer.decode([number]).isascii() for number in read_spelled(out))


def test_new_tokens_start_from_those_that_spelled_them_and_the_rest_from_the_base(gpt2: PretrainedModel, tmp_path: Path) -> None:
    out = out_of(tmp_path)
    adapt_tokenizer(replace(ASKED, adapt=AdaptConfig(add_tokens=25)), gpt2, corpus(tmp_path / "corpus", own=("en", ENGLISH)), out)
    base, model = load_folder(gpt2.path / "model"), continued_model(gpt2.path / "model", out, ObjectiveConfig(), seed=1)
    before, after = base.trunk.embedding.weight, model.trunk.embedding.weight
    assert torch.equal(after[: len(before)], before)
    spelled = read_spelled(out)
    assert len(after) == len(before) + len(spelled) == load_tokenizer(out).get_vocab_size()
    assert all(torch.allclose(after[new], before[list(old)].mean(0)) for new, old in spelled.items())


def test_encoder_gets_words_and_keeps_its_mask(bert: PretrainedModel, tmp_path: Path) -> None:
    out = out_of(tmp_path)
    asked = Adaptation(AdaptConfig(add_tokens=5), "masked", 16, ())
    adapt_tokenizer(asked, bert, corpus(tmp_path / "corpus", own=("en", ENGLISH)), out)
    tokenizer = load_tokenizer(out)
    assert tokenizer.token_to_id("[MASK]") == load_tokenizer(bert.path / "model").token_to_id("[MASK]")
    assert continued_model(bert.path / "model", out, ObjectiveConfig("masked"), 1).trunk.vocab_size == tokenizer.get_vocab_size()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            replace(ASKED, context=33),
            r"base: it has positions for 32 tokens, but shards\.context is 33\. Fix: set shards\.context to 32 or less",
        ),
        (
            replace(ASKED, objective="masked"),
            r"base: it learned the objective causal, but pretrain\.objective is masked\. Fix: set pretrain\.objective: \{kind: causal\}",
        ),
    ],
)
def test_base_that_cannot_go_on_as_asked_is_refused(gpt2: PretrainedModel, tmp_path: Path, asked: Adaptation, message: str) -> None:
    with pytest.raises(UserError, match=message):
        adapt_tokenizer(asked, gpt2, corpus(tmp_path / "corpus", own=("en", ENGLISH)), out_of(tmp_path))


def test_base_with_fewer_tokens_than_its_tokenizer_is_refused(gpt2: PretrainedModel, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    for path in (gpt2.path / "model").iterdir():
        (tmp_path / "model" / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, "vocab_size": config["vocab_size"] - 3}))
    with pytest.raises(UserError, match=r"base: the tokenizer has 296 tokens, but the weights are for 293\. Fix: put the tokenizer there"):
        adapt_tokenizer(ASKED, PretrainedModel(str(tmp_path), "x"), corpus(tmp_path / "corpus", own=("en", ENGLISH)), out_of(tmp_path))
