import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from gensim.models import KeyedVectors

from model.nn.word_vectors import initialize_embeddings, read_vectors, vector_width

WORDS = ["the", "水", "mill", "New York"]


@pytest.fixture
def reference(tmp_path: Path) -> KeyedVectors:
    """Written by gensim in both of word2vec's formats; as GloVe without the first line."""
    vectors = KeyedVectors(5)
    vectors.add_vectors(WORDS[:3], np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32))
    vectors.save_word2vec_format(str(tmp_path / "text.txt"))
    vectors.save_word2vec_format(str(tmp_path / "binary.bin"), binary=True)
    lines = (tmp_path / "text.txt").read_text().splitlines(keepends=True)[1:]
    (tmp_path / "glove.txt").write_text("".join(lines))
    with gzip.open(tmp_path / "glove.txt.gz", "wt") as file:
        file.writelines(lines)
    return vectors


@pytest.mark.parametrize("name", ["text.txt", "binary.bin", "glove.txt", "glove.txt.gz"])
def test_every_format_gives_the_vectors_that_were_written(tmp_path: Path, reference: KeyedVectors, name: str):
    assert vector_width(tmp_path / name) == 5
    found = read_vectors(tmp_path / name, set(WORDS))
    assert sorted(found) == sorted(WORDS[:3])
    for word, vector in found.items():
        np.testing.assert_allclose(vector, reference[word], rtol=1e-6)


def test_only_the_words_that_are_wanted_are_kept(tmp_path: Path, reference: KeyedVectors):
    assert list(read_vectors(tmp_path / "glove.txt", {"水"})) == ["水"]


def test_glove_word_with_a_space_is_read_whole(tmp_path: Path):
    (tmp_path / "v.txt").write_text("to 1 2 3\nNew York 4 5 6\n")
    assert read_vectors(tmp_path / "v.txt", {"New York"})["New York"].tolist() == [4, 5, 6]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 1 2 3\nb 1 2\n", "v.txt:2: 2 numbers, expected 3"),
        ("a 1 2 3\nb 1 x 3\n", "v.txt:2: could not convert string to float"),
        ("a 1 nan 3\n", "the vector of 'a' is not finite"),
        ("2 3\na 1 2 3\n", "v.txt:3: 0 numbers, expected 3"),
    ],
)
def test_broken_file_is_refused_by_place(tmp_path: Path, text: str, message: str):
    (tmp_path / "v.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_vectors(tmp_path / "v.txt", {"a", "b"})


def test_binary_file_cut_off_is_refused(tmp_path: Path, reference: KeyedVectors):
    data = (tmp_path / "binary.bin").read_bytes()
    (tmp_path / "cut.bin").write_bytes(data[:-6])
    with pytest.raises(ValueError, match="cut off in vector 3 of 3"):
        read_vectors(tmp_path / "cut.bin", set(WORDS))


def test_empty_file_is_refused(tmp_path: Path):
    (tmp_path / "v.txt").write_text("")
    with pytest.raises(ValueError, match=r"v\.txt:1: 0 fields, expected a word and two or more numbers"):
        vector_width(tmp_path / "v.txt")


def test_embeddings_take_the_directions_and_keep_their_scale():
    weight = torch.randn(4, 8, generator=torch.Generator().manual_seed(1)) * 0.02
    before, deviation = weight.clone(), float(weight.std())
    vectors = {word: np.random.default_rng(n).normal(3.0, 2.0, 8).astype(np.float32) for n, word in enumerate(["mill", "水"])}
    assert initialize_embeddings(weight, [" Mill", "<|bos|>", "水", "ing"], vectors) == 2
    assert torch.equal(weight[[1, 3]], before[[1, 3]])
    stacked = np.stack([vectors["mill"], vectors["水"]])
    expected = (stacked - stacked.mean()) / stacked.std()
    np.testing.assert_allclose(weight[[0, 2]].numpy() / deviation, expected, rtol=1e-4)


def test_no_word_in_common_changes_nothing():
    weight = torch.ones(2, 3)
    assert initialize_embeddings(weight, ["a", " "], {"b": np.zeros(3, np.float32)}) == 0
    assert torch.equal(weight, torch.ones(2, 3))
