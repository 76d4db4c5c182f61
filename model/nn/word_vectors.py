"""Word vectors as initial embeddings: the text formats of word2vec and GloVe, and word2vec's binary one.

Source: arXiv 1301.3781 (word2vec), and its tool's file formats; GloVe's is word2vec's text without the first line.
"""

import gzip
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Vector = NDArray[np.float32]


def vector_width(path: Path) -> int:
    """Numbers in each vector of a file. Raises ValueError, naming the place, for a file that has none."""
    with _open(path) as file:
        first = file.readline(2**20).split()
        if _is_count_line(first):
            return int(first[1])
        if len(first) < 3:
            raise ValueError(f"{path}:1: {len(first)} fields, expected a word and two or more numbers")
        return len(first) - 1


def read_vectors(path: Path, words: Container[str]) -> dict[str, Vector]:
    """The vectors of those of `words` that the file has: [width] each. A word that comes twice counts once, the first.

    Raises ValueError, naming file and line or word, for a row of another width, what is no number, and a file cut off.
    """
    width = vector_width(path)
    found: dict[str, Vector] = {}
    for word, vector in _rows(path, width):
        if word in words and word not in found:
            if not np.isfinite(vector).all():
                raise ValueError(f"{path}: the vector of {word!r} is not finite; remove the row")
            found[word] = vector
    return found


def initialize_embeddings(weight: "Tensor", spellings: Sequence[str], vectors: dict[str, Vector]) -> int:
    """Puts each vector into the row of `weight` [V, C] whose token is that word; returns how many rows it filled.

    `spellings` [V]: the text of each token; white space around it and, where the exact form is not there, its case do
    not count. The vectors are moved to mean 0 and brought to the deviation that `weight` has, so that training starts alike.
    """
    import torch

    rows = [
        (row, vectors[word])
        for row, spelling in enumerate(spellings)
        for word in [next((form for form in word_forms(spelling) if form in vectors), None)]
        if word is not None
    ]
    if not rows:
        return 0
    stacked = np.stack([vector for _, vector in rows])
    stacked = stacked - stacked.mean()
    scale = float(weight.detach().std()) / max(float(stacked.std()), 1e-12)
    with torch.no_grad():
        weight[torch.tensor([row for row, _ in rows])] = torch.from_numpy(stacked * scale).to(weight.dtype)
    return len(rows)


def word_forms(spelling: str) -> tuple[str, ...]:
    """What a token may be called in a file of vectors."""
    word = spelling.strip()
    return (word, word.lower()) if word else ()


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _is_count_line(fields: Sequence[bytes]) -> bool:
    return len(fields) == 2 and all(field.isdigit() for field in fields)


def _rows(path: Path, width: int) -> Iterator[tuple[str, Vector]]:
    with _open(path) as file:
        first = file.readline(2**20)
        if _is_count_line(first.split()):
            yield from _counted_rows(path, file, int(first.split()[0]), width)
        else:
            yield _text_row(path, 1, first, width)
            for number, line in enumerate(file, 2):
                if line.strip():
                    yield _text_row(path, number, line, width)


def _counted_rows(path: Path, file: BinaryIO, count: int, width: int) -> Iterator[tuple[str, Vector]]:
    """word2vec's rows, as text where the first of them is, else binary: a word, a space, `width` float32."""
    start = file.tell()
    is_text = _is_text_row(file.readline(2**20), width)
    file.seek(start)
    for number in range(count):
        if is_text:
            yield _text_row(path, number + 2, file.readline(), width)
            continue
        word = _word(file)
        data = file.read(4 * width)
        if len(data) < 4 * width:
            raise ValueError(f"{path}: cut off in vector {number + 1} of {count}; fetch the file again")
        yield word, np.frombuffer(data, "<f4")


def _word(file: BinaryIO) -> str:
    """Up to the next space, or to the end of the file."""
    letters = bytearray()
    while (letter := file.read(1)) not in (b" ", b""):
        letters += letter
    return letters.strip(b"\n").decode(errors="replace")


def _is_text_row(line: bytes, width: int) -> bool:
    try:
        return len(line.split()) == width + 1 and bool([float(field) for field in line.split()[1:]])
    except ValueError:
        return False


def _text_row(path: Path, number: int, line: bytes, width: int) -> tuple[str, Vector]:
    fields = line.rstrip().split(b" ")
    if len(fields) <= width:
        raise ValueError(f"{path}:{number}: {max(0, len(fields) - 1)} numbers, expected {width}; fetch the file again")
    word, numbers = b" ".join(fields[:-width]), fields[-width:]  # GloVe has words with spaces in them
    try:
        return word.decode(errors="replace"), np.array([float(value) for value in numbers], np.float32)
    except ValueError as error:
        raise ValueError(f"{path}:{number}: {error}; expected a word and {width} numbers") from error
