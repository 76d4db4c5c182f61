"""Every algorithm, both trainers, what is reserved and refused, and text that trainers stumble over."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from pydantic import ValidationError
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import trainers
from transformers import AutoTokenizer

from tasks.artifacts import Corpus
from tasks.documents import DOCUMENTS, TableWriter
from tasks.errors import UserError
from tasks.tokenizer.encoding import SPECIAL_TOKENS, open_encoder
from tasks.tokenizer.tokenizer import TokenizerConfig, existing_digests, train_tokenizer
from tasks.tokenizer.vocabulary import learn_merges, learn_merges_fast, learn_vocabulary, new_tokenizer, settled_scores, special_names

ENGLISH = "The quick brown fox jumps over the lazy dog, and it looks back at number {0}. "
CHINESE = "敏捷的棕色狐狸跳过了懒狗，第{0}次也没有回头。"
KINDS = {
    "bpe": {},
    "bpe by tokenizers": {"trainer": "tokenizers"},
    "bpe nfkc": {"normalization": "nfkc"},
    "unigram": {"algorithm": "unigram"},
    "wordpiece": {"algorithm": "wordpiece", "normalization": "bert", "vocab_size": 150},
    "wordpiece by white space": {"algorithm": "wordpiece", "pieces": "whitespace", "vocab_size": 150},
    "word": {"algorithm": "word", "vocab_size": 60},
    "word by white space": {"algorithm": "word", "pieces": "whitespace", "vocab_size": 60},
    "character": {"algorithm": "character", "vocab_size": 60},
}
LOSSLESS = ("bpe", "bpe by tokenizers", "unigram")


def write_corpus(folder: Path, train: dict[str, str], validation: dict[str, str]) -> Corpus:
    """Documents by id: the id's first word is the language, the second the source."""
    for name, texts in (("train-00000.parquet", train), ("validation.parquet", validation)):
        rows = [
            {"id": id, "text": text, "language": id.split()[0], "source": id.split()[1], "path": id, "meta": []}
            | {"bytes": len(text.encode())}
            for id, text in texts.items()
        ]
        with TableWriter(folder / name, DOCUMENTS) as writer:
            writer.write(pa.RecordBatch.from_pylist(rows, DOCUMENTS))
    return Corpus(str(folder), "c0ffee")


def made(folder: Path) -> Corpus:
    texts = {f"en news {n}": ENGLISH.format(n * 7) * 4 for n in range(20)}
    texts |= {f"zh news {n}": CHINESE.format(n * 7) * 4 for n in range(20)}
    texts |= {f"zh novel {n}": CHINESE.format("八") for n in range(5)}
    return write_corpus(folder, texts, texts)


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder, corpus = tmp_path_factory.mktemp("out"), made(tmp_path_factory.mktemp("corpus"))
    config = TokenizerConfig.model_validate({"vocab_size": 400, "reserve": ["<|mask|>"], **KINDS[request.param]})
    train_tokenizer(config, corpus, folder)
    return request.param, folder


def test_transformers_opens_every_kind_and_encodes_alike(kind: tuple[str, Path]) -> None:
    name, folder = kind
    opened, encoder = AutoTokenizer.from_pretrained(folder), open_encoder(folder)
    for text in (ENGLISH.format(7), CHINESE.format(7), "Ünseen ☃ 12\n\n  x\tﬁ"):
        (ids,) = encoder.encode([text])
        assert opened(text)["input_ids"] == [opened.bos_token_id, *ids.tolist()]
        if name in LOSSLESS:
            assert opened.decode(ids.tolist()) == text
    assert opened.convert_tokens_to_ids("<|bos|>") == 0
    assert opened.decode([0, 1]).replace(" ", "") == "<|bos|><|eos|>"


def test_spelling_of_a_special_token_stays_text_in_every_kind(kind: tuple[str, Path]) -> None:
    name, folder = kind
    encoder = open_encoder(folder)
    specials = [*SPECIAL_TOKENS, "<|mask|>"]
    numbers = {encoder.tokenizer.token_to_id(token) for token in specials}
    assert None not in numbers
    for text in (*specials, "".join(specials), " ".join(specials), f"fox{specials[0]}fox", "<|unk|>"):
        (ids,) = encoder.encode([text])
        assert not numbers.intersection(ids.tolist())
        assert len(ids) > 1
        if name in LOSSLESS:
            assert encoder.tokenizer.decode(ids.tolist()) == text


def test_reserved_tokens_get_the_ids_behind_ours(kind: tuple[str, Path]) -> None:
    name, folder = kind
    tokenizer = open_encoder(folder).tokenizer
    names = [*SPECIAL_TOKENS, *([] if name.startswith("bpe") else ["<|unk|>"]), "<|mask|>"]
    assert [tokenizer.token_to_id(token) for token in names] == list(range(len(names)))
    opened = AutoTokenizer.from_pretrained(folder)
    assert opened("<|mask|>", add_special_tokens=False)["input_ids"] == [names.index("<|mask|>")]  # where asked for


def test_vocabulary_keeps_to_its_size_in_every_kind(kind: tuple[str, Path]) -> None:
    name, folder = kind
    quality = json.loads((folder / "quality.json").read_text())
    assert quality["vocab_size"] == open_encoder(folder).vocab_size
    assert quality["vocab_size"] <= KINDS[name].get("vocab_size", 400)


def test_unknown_tokens_are_counted_by_language(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, {"en a 1": "the fox the fox"}, {"en a 2": "the fox ran far", "zh b 3": "狐狸 the"})
    config = TokenizerConfig(algorithm="word", vocab_size=20)
    outcome = train_tokenizer(config, corpus, tmp_path)
    table = json.loads((tmp_path / "quality.json").read_text())["table"]
    assert {(row["language"], row["domain"]): (row["tokens"], row["unknown"]) for row in table} == {
        ("en", "a"): (4, 2),
        ("zh", "b"): (3, 2),
    }
    assert outcome.notes["unknown"] == "4 of 7 tokens stand for text not known"
    assert outcome.notes["vocabulary"].startswith("the corpus gave 9 tokens of the 20 asked for")


def test_table_goes_by_words_or_by_han_characters(tmp_path: Path) -> None:
    train_tokenizer(TokenizerConfig(algorithm="character", vocab_size=99), made(tmp_path), tmp_path)
    rows = {(r["language"], r["domain"]): r for r in json.loads((tmp_path / "quality.json").read_text())["table"]}
    assert sorted(rows) == [("en", "news"), ("zh", "news"), ("zh", "novel")]
    english, novel = rows["en", "news"], rows["zh", "novel"]
    assert (english["tokens_per_han"], novel["tokens_per_word"]) == (None, None)
    assert english["tokens_per_word"] == pytest.approx(english["tokens"] / (20 * 4 * 15), abs=1e-4)
    assert novel["tokens_per_han"] == pytest.approx(22 / 20, abs=1e-4)  # two signs beside 20 characters
    assert (novel["documents"], novel["bytes"], novel["tokens"]) == (5, 5 * 66, 5 * 22)


def test_references_are_measured_on_the_same_text(tmp_path: Path) -> None:
    corpus = made(tmp_path)
    folders = {name: tmp_path / name for name in ("small", "words", "out")}
    for name, folder in folders.items():
        folder.mkdir()
        if name != "out":
            settings = {"vocab_size": 300} if name == "small" else {"algorithm": "word", "vocab_size": 30}
            train_tokenizer(TokenizerConfig.model_validate(settings), corpus, folder)
    config = TokenizerConfig(vocab_size=400, references=(str(folders["small"]), str(folders["words"])))
    assert sorted(existing_digests(config)) == ["reference small", "reference words"]
    train_tokenizer(config, corpus, folders["out"])
    table = json.loads((folders["out"] / "quality.json").read_text())["table"]
    assert [row["tokenizer"] for row in table] == ["this"] * 3 + ["small"] * 3 + ["words"] * 3
    assert len({row["bytes"] for row in table if row["language"] == "en"}) == 1
    own = [row | {"tokenizer": "small"} for row in json.loads((folders["small"] / "quality.json").read_text())["table"]]
    assert [row for row in table if row["tokenizer"] == "small"] == own
    assert all(row["unknown"] > 0 for row in table if row["tokenizer"] == "words")


def test_references_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("a/name", "b/name"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "tokenizer.json").write_text("{}")
    config = TokenizerConfig(references=(str(tmp_path / "a/name"), str(tmp_path / "b/name")))
    with pytest.raises(UserError, match="would stand in the table as 'name'"):
        existing_digests(config)
    with pytest.raises(UserError, match=r"references: .*absent has no tokenizer\.json"):
        existing_digests(TokenizerConfig(references=(str(tmp_path / "absent"),)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pieces": "words"}, "pieces words do not go with algorithm bpe; take mixed or single_digits"),
        ({"algorithm": "character", "pieces": "mixed"}, "do not go with algorithm character; take characters"),
        ({"normalization": "bert"}, "it goes with wordpiece or word, not bpe"),
        ({"algorithm": "word", "trainer": "rustbpe"}, "word has but one"),
        ({"algorithm": "unigram", "vocab_size": 262}, "plus 7 special tokens; make it 263 or more"),
        ({"algorithm": "word", "vocab_size": 7}, "one token plus 7 special tokens; make it 8 or more"),
        ({"vocab_size": 263, "reserve": ["<|a|>", "<|b|>"]}, "plus 8 special tokens; make it 264 or more"),
        ({"reserve": ["mask"]}, "reserve holds 'mask', expected a name such as"),
        ({"reserve": ["<||>"]}, "expected a name such as"),
        ({"reserve": ["<|__|>"]}, "expected a name such as"),
        ({"reserve": ["<|eos|>"]}, "which every tokenizer here has"),
        ({"reserve": ["<|unk|>"]}, "which every tokenizer here has or may have"),
        ({"reserve": ["<|a|>", "<|a|>"]}, "holds <|a|> twice"),
        ({"existing": "x", "algorithm": "bpe"}, "algorithm would change nothing"),
        ({"sample_bytes": 2_000_000_001}, "less than or equal to 2000000000"),
    ],
)
def test_settings_that_contradict_one_another_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError) as raised:
        TokenizerConfig.model_validate(settings)
    assert message in str(raised.value)


def sentences(seed: int) -> list[str]:
    """Random text with the shape of language: few words often, many seldom."""
    source = random.Random(seed)
    words = ["".join(source.choices("etaoinshrdlu", k=source.randint(2, 8))) for _ in range(2_000)]
    return [" ".join(words[int(source.paretovariate(0.8)) % 2_000] for _ in range(60)) + ".\n" for _ in range(400)]


def test_both_trainers_learn_equally_good_merges() -> None:
    texts, held, sizes = sentences(1), sentences(1)[::7], []
    first, second = new_tokenizer(), new_tokenizer()
    learn_merges(first, iter(texts), 900)
    learn_merges_fast(second, "mixed", lambda: iter(texts), 900, SPECIAL_TOKENS)
    for tokenizer in (first, second):
        sizes.append(sum(len(tokenizer.encode(text).ids) for text in held))
        assert tokenizer.get_vocab_size() == 900
    assert sizes[0] == pytest.approx(sizes[1], rel=0.005)


@pytest.mark.parametrize("texts", [["ab ab abc abc abcd"], ["aaaa aaaa aaaaaaa"], ["x"], [""], [], ["山山水 山山水"]])
def test_both_trainers_stop_where_pairs_get_rare(texts: list[str]) -> None:
    first, second = new_tokenizer(), new_tokenizer()
    learn_merges(first, iter(texts), 500)
    learn_merges_fast(second, "mixed", lambda: iter(texts), 500, SPECIAL_TOKENS)
    assert second.get_vocab_size() == first.get_vocab_size()


LEARNING = """
import hashlib, json, sys
from tasks.tokenizer.vocabulary import *
texts = json.load(open(sys.argv[1]))
for kind, cut, normal in json.loads(sys.argv[2]):
    algorithm, names = kind.split()[0], special_names(kind.split()[0])
    tokenizer = new_tokenizer(algorithm, cut, normal)
    if kind == "bpe":
        learn_merges_fast(tokenizer, cut, lambda: iter(texts), 600, names)
    elif kind == "bpe tokenizers":
        learn_merges(tokenizer, iter(texts), 600, names)
    else:
        learn_vocabulary(tokenizer, algorithm, lambda: iter(texts), 600, names)
    complete(tokenizer, names)
    print(kind, cut, hashlib.sha256(tokenizer.to_str().encode()).hexdigest())
"""


def test_equal_recipes_give_equal_bytes_in_every_process(tmp_path: Path) -> None:
    texts = [text + "".join(chr(0x4E00 + n + m) for m in range(n % 9)) for n, text in enumerate(sentences(2))]  # ties of letters too
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    kinds = [("bpe", "mixed", "none"), ("bpe tokenizers", "gpt2", "nfkc"), ("unigram", "mixed", "none"), ("wordpiece", "words", "bert")]
    kinds += [("wordpiece", "whitespace", "none"), ("word", "words", "none"), ("character", "characters", "none")]
    found = set[str]()
    for seed, threads in (("1", "1"), ("2", "3"), ("3", "2")):
        environment = {"PYTHONPATH": str(Path(__file__).parents[3]), "PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": threads}
        command = [sys.executable, "-c", LEARNING, str(tmp_path / "texts.json"), json.dumps(kinds)]
        found.add(subprocess.run(command, env=os.environ | environment, capture_output=True, check=True, text=True).stdout)
    assert len(found) == 1
    assert len(found.pop().splitlines()) == len(kinds)


def test_word_pieces_are_those_of_the_trainer_but_for_ties() -> None:
    texts, names = sentences(3), special_names("wordpiece")
    ours, theirs = new_tokenizer("wordpiece"), new_tokenizer("wordpiece")
    learn_vocabulary(ours, "wordpiece", lambda: iter(texts), 600, names)
    theirs.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=600, min_frequency=2, special_tokens=names, show_progress=False))
    assert set(ours.get_vocab()) | set(names) == set(ours.get_vocab())
    assert len(set(ours.get_vocab()) & set(theirs.get_vocab())) > 570
    sizes = [sum(len(tokenizer.encode(text).ids) for text in texts) for tokenizer in (ours, theirs)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.005)


def test_scores_do_not_depend_on_the_order_of_sums() -> None:
    first = [(" the", -3.1), ("a", -5.0), ("山", -9.0), ("水", -8.9999)]
    second = [("a", -5.0 + 1e-9), ("水", -9.0), (" the", -3.1 - 1e-9), ("山", -8.9999)]
    assert settled_scores(first) == settled_scores(second) == [(" the", -3.1), ("a", -5.0), ("山", -9.0), ("水", -9.0)]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    "text", ["", " ", "<|bos|><|eos|>" * 50, "\x00\x01\ufffe\U0010ffff"], ids=["empty", "space", "special tokens only", "no letters"]
)
def test_text_with_nothing_to_learn_from_still_gives_a_tokenizer(tmp_path: Path, name: str, text: str) -> None:
    corpus = write_corpus(tmp_path, {"en a 1": text}, {"en a 2": text or "x"})
    outcome = train_tokenizer(TokenizerConfig.model_validate(KINDS[name]), corpus, tmp_path)
    assert "asked for" in outcome.notes["vocabulary"]
    opened = open_encoder(tmp_path)
    (ids,) = opened.encode(["unseen: é 山"])
    assert len(ids) > 0
    if name in LOSSLESS:
        assert opened.tokenizer.decode(ids.tolist()) == "unseen: é 山"


@pytest.mark.parametrize("name", KINDS)
def test_one_letter_for_a_megabyte_is_learned_from_in_seconds(tmp_path: Path, name: str) -> None:
    letters = random.Random(1).choices("ACGT", k=40_000)
    texts = {"en a 1": "a" * 1_000_000, "en a 2": "the fox " * 50, "en a 3": "".join(letters), "zh a 4": "山" * 100_000}
    corpus = write_corpus(tmp_path, texts, {"en a 5": "a" * 100_000})
    train_tokenizer(TokenizerConfig.model_validate(KINDS[name]), corpus, tmp_path)
    table = json.loads((tmp_path / "quality.json").read_text())["table"]
    assert table[0]["tokens"] <= 100_000


def test_sample_that_is_one_giant_document_is_cut_to_the_budget(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, {"en a 1": "fox " * 1_000_000}, {"en a 2": "fox"})
    outcome = train_tokenizer(TokenizerConfig(sample_bytes=1_000, vocab_size=400), corpus, tmp_path)
    assert outcome.figures["vocab_size"] == 262 + 3  # "fo", "fox", " fox"


def test_vocabulary_is_an_unbroken_range_of_ids(kind: tuple[str, Path]) -> None:
    tokenizer = RustTokenizer.from_file(str(kind[1] / "tokenizer.json"))
    assert sorted(tokenizer.get_vocab().values()) == list(range(tokenizer.get_vocab_size()))
