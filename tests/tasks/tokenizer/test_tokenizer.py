import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tokenizers import Tokenizer as RustTokenizer
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from tasks.artifacts import Corpus
from tasks.documents import DOCUMENTS, TableWriter
from tasks.errors import UserError
from tasks.inference.folder_writing import write_tokenizer
from tasks.inference.task_file import ModelTask
from tasks.tokenizer.encoding import SPECIAL_TOKENS, encode_documents, load_tokenizer, open_encoder, special_ids
from tasks.tokenizer.tokenizer import TokenizerConfig, existing_digests, train_tokenizer

ENGLISH = "The quick brown fox jumps over the lazy dog, and it doesn't look back at number {0}.\n"
CHINESE = "敏捷的棕色狐狸跳过了懒狗，第{0}次也没有回头。\n"
CODE = "def jump(fox, dog):\n    for step in range({0}):\n        fox.over(dog)  # 狐狸\n    return fox\n"


def write_corpus(folder: Path, documents: int) -> Corpus:
    for name, start in (("train-00000.parquet", 0), ("validation.parquet", documents)):
        rows = []
        for number in range(start, start + documents):
            template, language = [(ENGLISH, "en"), (CHINESE, "zh"), (CODE, "code")][number % 3]
            text = "".join(template.format(number * 7 + line) for line in range(5))
            row = {"id": f"{number:06d}", "text": text, "language": language, "bytes": len(text.encode()), "meta": []}
            rows.append({**row, "source": "made", "path": f"made:{number}"})
        with TableWriter(folder / name, DOCUMENTS) as writer:
            writer.write(pa.RecordBatch.from_pylist(rows, DOCUMENTS))
    return Corpus(str(folder), "c0ffee")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    corpus = write_corpus(tmp_path_factory.mktemp("corpus"), 60)
    out = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(TokenizerConfig(vocab_size=400), corpus, out)
    return out


@pytest.fixture(scope="module")
def tokenizer(trained: Path) -> RustTokenizer:
    return load_tokenizer(trained)


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back_the_same(tokenizer: RustTokenizer, text: str) -> None:
    (ids,) = encode_documents(tokenizer, [text])
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


@given(st.lists(st.sampled_from([*SPECIAL_TOKENS, "狐狸", " fox", "\n", "<|", "|>"]), max_size=8))
def test_spelling_of_a_special_token_stays_text(tokenizer: RustTokenizer, parts: list[str]) -> None:
    (ids,) = encode_documents(tokenizer, ["".join(parts)])
    specials = {tokenizer.token_to_id(token) for token in SPECIAL_TOKENS}
    assert not specials.intersection(ids)
    assert tokenizer.decode(ids, skip_special_tokens=True) == "".join(parts)


def test_same_corpus_gives_the_same_bytes(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, 60)
    digests = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        train_tokenizer(TokenizerConfig(vocab_size=400), corpus, tmp_path / name)
        digests.append({p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (tmp_path / name).iterdir()})
    assert digests[0] == digests[1]
    assert sorted(digests[0]) == ["encoding.json", "quality.json", "tokenizer.json", "tokenizer_config.json"]


def test_transformers_opens_it_and_encodes_alike(trained: Path, tokenizer: RustTokenizer) -> None:
    opened = AutoTokenizer.from_pretrained(trained)
    text = ENGLISH.format(3) + CHINESE.format(4)
    (ids,) = encode_documents(tokenizer, [text])
    assert opened(text)["input_ids"] == [special_ids(tokenizer, "test").bos, *ids]
    assert opened.decode(ids) == text
    assert (opened.bos_token, opened.eos_token, opened.pad_token) == ("<|bos|>", "<|eos|>", "<|pad|>")


def test_chat_template_comes_with_a_model_that_learned_conversations_and_then_no_text_begins_twice(trained: Path, tmp_path: Path) -> None:
    assert AutoTokenizer.from_pretrained(trained).chat_template is None
    write_tokenizer(load_tokenizer(trained), trained, tmp_path, 16, None, is_pair=False)
    assert AutoTokenizer.from_pretrained(tmp_path).chat_template is None
    tuned = load_tokenizer(trained)
    tuned.post_processor = TemplateProcessing(single="$A", pair="$A $B")  # as a tuning on instructions sets it
    write_tokenizer(tuned, trained, tmp_path, 16, ModelTask("chat", "instruction", ()), is_pair=False)
    opened, messages = AutoTokenizer.from_pretrained(tmp_path), [{"role": "user", "content": "Hi"}]
    asked = opened.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    answered = opened.apply_chat_template([*messages, {"role": "assistant", "content": "Ho"}], tokenize=False)
    assert asked == "<|bos|><|user|>Hi<|assistant|>"
    assert answered == "<|bos|><|user|>Hi<|assistant|>Ho<|end|>"
    assert opened(answered)["input_ids"].count(opened.bos_token_id) == 1


def test_quality_counts_each_language(trained: Path) -> None:
    quality = json.loads((trained / "quality.json").read_text())
    assert sorted(quality["bytes_per_token"]) == ["code", "en", "zh"]
    assert min(quality["bytes_per_token"].values()) > 1
    assert quality["inexact_round_trips"] == 0
    assert 0 <= quality["never_used"] < quality["vocab_size"] == 400
    sizes = [len(text.strip().encode()) for text in quality["longest_tokens"]]
    assert sizes == sorted(sizes, reverse=True)


def test_small_corpus_gives_a_smaller_vocabulary_and_says_so(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, 3)
    outcome = train_tokenizer(TokenizerConfig(vocab_size=50_000), corpus, tmp_path)
    assert 262 <= outcome.figures["vocab_size"] < 50_000
    assert f"{int(outcome.figures['vocab_size'])} tokens of the 50000 asked for" in outcome.notes["vocabulary"]


def test_vocabulary_without_room_for_all_bytes_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"vocab_size 261 .* byte alphabet \(256\) plus 6 special tokens"):
        TokenizerConfig(vocab_size=261)
    assert TokenizerConfig(vocab_size=262).vocab_size == 262


def test_existing_tokenizer_is_taken_and_completed(tmp_path: Path) -> None:
    from tokenizers import decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bare = RustTokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    bare.pre_tokenizer, bare.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    bare.save(str(tmp_path / "tokenizer.json"))
    config = TokenizerConfig(existing=str(tmp_path))
    assert list(existing_digests(config)) == ["existing"]
    (tmp_path / "out").mkdir()
    outcome = train_tokenizer(config, write_corpus(tmp_path, 3), tmp_path / "out")
    assert outcome.figures["vocab_size"] == 262
    taken = load_tokenizer(tmp_path / "out")
    assert special_ids(taken, "test").bos == 256
    assert encode_documents(taken, ["a<|bos|>"])[0][0] == alphabet.index("a")


def test_existing_tokenizer_with_a_normalizer_takes_the_slow_path(tmp_path: Path) -> None:
    from tokenizers import models, normalizers, pre_tokenizers

    words = {word: number for number, word in enumerate(["[UNK]", "fox", "dog", "the"])}
    bare = RustTokenizer(models.WordPiece(words, unk_token="[UNK]"))
    bare.normalizer, bare.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    bare.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "out").mkdir()
    outcome = train_tokenizer(TokenizerConfig(existing=str(tmp_path)), write_corpus(tmp_path, 3), tmp_path / "out")
    assert outcome.notes["encoder"] == "tokenizers: its algorithm is WordPiece"
    quality = json.loads((tmp_path / "out" / "quality.json").read_text())
    assert (quality["algorithm"], quality["trainer"]) == ("wordpiece", "existing")
    assert sum(row["unknown"] for row in quality["table"]) > 50
    (ids,) = open_encoder(tmp_path / "out").encode(["The FOX saw"])
    assert ids.tolist() == [3, 1, 0]
    opened = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert opened("The FOX saw")["input_ids"] == [special_ids(load_tokenizer(tmp_path / "out"), "test").bos, 3, 1, 0]


def test_existing_tokenizer_whose_ids_have_gaps_is_refused(tmp_path: Path) -> None:
    from tokenizers import models

    RustTokenizer(models.WordLevel({"[UNK]": 0, "fox": 9}, unk_token="[UNK]")).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UserError, match="has 2 tokens, but ids up to 9"):
        train_tokenizer(TokenizerConfig(existing=str(tmp_path)), write_corpus(tmp_path, 3), tmp_path)


def test_existing_folder_without_a_tokenizer_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no tokenizer\.json"):
        existing_digests(TokenizerConfig(existing=str(tmp_path)))


def test_existing_with_a_training_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="vocab_size would change nothing"):
        TokenizerConfig(existing=str(tmp_path), vocab_size=400)
