import hashlib
import json
import multiprocessing
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

import tasks.encoded
import tasks.packing
from model.shards import TokenRows, artifact_shards
from tasks.artifacts import Corpus, Tokenizer, TokenShards, Workspace, as_artifact, describe, inspect_all
from tasks.corpus import tables_of
from tasks.documents import DOCUMENTS, TableWriter
from tasks.encoded import ORDERED, EncodedCorpus, EncodeWork, cannot_encode, encode_table, item_type
from tasks.encoding import SPECIAL_TOKENS, encode_documents, load_tokenizer, special_ids
from tasks.errors import UserError
from tasks.filetasks import FilesConfig, FileTasks
from tasks.ledger import Ledger, StageOutcome
from tasks.parts import Part
from tasks.sampling import hash_keys
from tasks.settings import identity
from tasks.shards import Packed, RowKind, ShardsConfig, group_folder, pack_group, pack_windows, write_shards
from tasks.tokenizer import TokenizerConfig, train_tokenizer

WORDS = ["river", "stone", "cloud", "山", "水", "云", "def", "return", "lamp", "<|eos|>", "42", "night"]
Texts = dict[str, str]


def write_documents(path: Path, texts: Texts) -> None:
    rows = [
        {
            "id": id, "text": text, "source": f"made-{len(text) % 2}", "path": id, "language": "zh" if "山" in text else "en",
            "bytes": len(text.encode()), "meta": [],
        }
        for id, text in texts.items()
    ]  # fmt: skip
    with TableWriter(path, DOCUMENTS) as writer:
        writer.write(pa.RecordBatch.from_pylist(rows, DOCUMENTS))


def make_texts(start: int, stop: int) -> Texts:
    random = np.random.default_rng(start)
    return {f"doc-{i:04d}": " ".join(random.choice(WORDS, random.integers(1, 60))) for i in range(start, stop)}


def make_corpus(root: Path, train: list[Texts], validation: Texts, mark: str = "c0ffee") -> Corpus:
    workspace = Workspace(root).open()
    folder = workspace.begin("decontaminate", mark, keep=False)
    for number, texts in enumerate(train):
        write_documents(folder / f"train-{number:05d}.parquet", texts)
    write_documents(folder / "validation.parquet", validation)
    manifest = describe("decontaminate", mark, {}, {}, folder, StageOutcome(Ledger()), 0.0)
    return as_artifact(Corpus, workspace.publish(manifest), manifest)


TRAIN, VALIDATION = [make_texts(0, 70), make_texts(70, 120)], make_texts(120, 150)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"), TRAIN, VALIDATION)


@pytest.fixture(scope="module")
def tokenizer(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(TokenizerConfig(vocab_size=300), corpus, folder)
    return Tokenizer(str(folder), "facade")


@pytest.fixture
def files(tmp_path: Path) -> Iterator[FileTasks]:
    tasks_here = FileTasks(tmp_path / "parts", FilesConfig(workers=0))
    yield tasks_here
    tasks_here.close()


def run(
    config: ShardsConfig, corpus: Corpus, tokenizer: Tokenizer, out: Path, files: FileTasks
) -> tuple[Path, StageOutcome]:
    out.mkdir(parents=True, exist_ok=True)
    outcome = write_shards(config, corpus, tokenizer, out, files)
    outcome.ledger.check("shards")
    return out, outcome


def open_rows(folder: Path) -> TokenRows:
    return TokenRows.open(sorted(folder.glob("*.parquet")))


def read_rows(folder: Path) -> np.ndarray:
    rows = open_rows(folder)
    return rows.take(np.arange(rows.rows))


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def encoded(tokenizer: Tokenizer, tables: list[Texts]) -> list[list[int]]:
    """Tokens of every document in the order of the corpus: the plain version of what the stage encodes."""
    encoder = load_tokenizer(tokenizer.path)
    special = special_ids(encoder, "test")
    texts = [text for table in tables for text in table.values()]
    return [[special.bos, *ids, special.eos] for ids in encode_documents(encoder, texts)]


def shuffled(tables: list[Texts], seed: int) -> list[int]:
    """Numbers of the documents in shuffled order."""
    keys = hash_keys([id for table in tables for id in table], seed)
    return sorted(range(len(keys)), key=lambda number: int(keys[number]))


def unpacked(rows: TokenRows) -> dict[int, list[int]]:
    """Documents as the rows hold them, put together again by number and offset; overlaps must agree."""
    found: dict[int, dict[int, int]] = {}
    everything = rows.take(np.arange(rows.rows))
    for row, segments in zip(everything, rows.segments(np.arange(rows.rows)), strict=True):
        start = 0
        for end, document, offset in zip(segments.ends, segments.documents, segments.offsets, strict=True):
            for place in range(start, end):
                token = found.setdefault(int(document), {}).setdefault(int(offset) + place - start, int(row[place]))
                assert token == row[place]
            start = end
        assert (row[start:] == rows.header.pad).all()
    for tokens in found.values():
        assert sorted(tokens) == list(range(len(tokens)))
    return {document: [tokens[place] for place in range(len(tokens))] for document, tokens in found.items()}


@pytest.mark.parametrize("packing", ["best_fit", "documents"])
def test_documents_come_out_of_the_rows_as_they_went_in(
    corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path, files: FileTasks, packing: str
):
    config = ShardsConfig.model_validate({"context": 32, "rows_per_shard": 50, "seed": 7, "packing": packing})
    out, outcome = run(config, corpus, tokenizer, tmp_path / "out", files)
    assert unpacked(open_rows(out / "train/all")) == dict(enumerate(encoded(tokenizer, TRAIN)))
    assert unpacked(open_rows(out / "validation/all")) == dict(enumerate(encoded(tokenizer, [VALIDATION])))
    assert outcome.ledger.bytes_in == outcome.ledger.bytes_out
    tokens = sum(map(len, encoded(tokenizer, TRAIN)))
    assert outcome.figures["train_tokens"] == tokens - 120, "every token but a document's first is asked for once"
    assert outcome.ledger.tokens_out == outcome.figures["train_tokens"] + outcome.figures["validation_tokens"]


def test_best_fit_cuts_no_document_that_fits_a_row(
    corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path, files: FileTasks
):
    out, _ = run(ShardsConfig(context=63), corpus, tokenizer, tmp_path / "out", files)
    rows = open_rows(out / "train/all")
    lengths = [len(tokens) for tokens in encoded(tokenizer, TRAIN)]
    for segments in rows.segments(np.arange(rows.rows)):
        for length, document in zip(np.diff([0, *segments.ends]), segments.documents, strict=True):
            assert length == lengths[document] if lengths[document] <= 64 else length <= 64
    assert json.loads((out / "packing.json").read_text())[0]["needless_cuts"] == 0


def test_concatenated_rows_are_the_shuffled_documents_one_behind_the_other(
    corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path, files: FileTasks
):
    config = ShardsConfig(context=32, rows_per_shard=50, seed=7, packing="concatenate")
    out, outcome = run(config, corpus, tokenizer, tmp_path / "out", files)
    rows = read_rows(out / "train/all")
    documents = encoded(tokenizer, TRAIN)
    stream = [token for number in shuffled(TRAIN, 7) for token in documents[number]]
    found = [int(rows[0, 0]), *rows[:, 1:].ravel().tolist()]
    assert found == stream[: len(found)]
    assert len(stream) - len(found) < 32
    assert all(before[-1] == after[0] for before, after in pairwise(rows))
    assert outcome.figures["train_tokens"] == 32 * len(rows)
    shards = sorted((out / "train/all").glob("*.parquet"))
    assert [pq.read_metadata(path).num_rows for path in shards][:2] == [50, 50]
    whole = unpacked(open_rows(out / "train/all"))
    assert all(documents[number][: len(tokens)] == tokens for number, tokens in whole.items())


def test_bytes_of_concatenated_rows_are_those_of_the_tokens_they_ask_for(
    corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path, files: FileTasks
):
    out, outcome = run(ShardsConfig(context=32, packing="concatenate"), corpus, tokenizer, tmp_path / "out", files)
    kept = read_rows(out / "validation/all")[:, 1:].ravel().tolist()
    text = load_tokenizer(tokenizer.path).decode(kept, skip_special_tokens=True)
    assert abs(outcome.figures["validation_bytes"] - len(text.encode())) <= 32


def test_document_tables_give_each_number_its_document(
    corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path, files: FileTasks
):
    out, _ = run(ShardsConfig(context=32), corpus, tokenizer, tmp_path / "out", files)
    table = pq.read_table(out / "documents-train.parquet")
    assert table["id"].to_pylist() == [id for texts in TRAIN for id in texts]
    assert table["tokens"].to_pylist() == [len(tokens) for tokens in encoded(tokenizer, TRAIN)]
    assert table["bytes"].to_pylist() == [len(text.encode()) for texts in TRAIN for text in texts.values()]


def test_packing_file_tells_fill_cuts_and_lengths(
    corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path, files: FileTasks
):
    out, outcome = run(ShardsConfig(context=32), corpus, tokenizer, tmp_path / "out", files)
    train, validation = json.loads((out / "packing.json").read_text())
    rows, lengths = open_rows(out / "train/all"), [len(tokens) for tokens in encoded(tokenizer, TRAIN)]
    padding = int((rows.take(np.arange(rows.rows)) == rows.header.pad).sum())
    assert (train["split"], train["group"], validation["split"]) == ("train", "all", "validation")
    assert (train["documents"], train["rows"], train["tokens"]) == (120, rows.rows, sum(lengths))
    assert train["padding"] == padding == outcome.figures["train_padding_tokens"]
    assert train["fill"] == round(1 - padding / (rows.rows * 33), 6)
    assert train["cut_documents"] == sum(length > 33 for length in lengths) == outcome.figures["train_cut_documents"]
    expected, _ = np.histogram(lengths, train["lengths"]["edges"])
    assert train["lengths"]["counts"] == expected.tolist()


def test_header_says_what_rows_were_made_of(corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path, files: FileTasks):
    out, _ = run(ShardsConfig(context=32, seed=5), corpus, tokenizer, tmp_path / "out", files)
    header = open_rows(out / "train/all").header
    special = special_ids(load_tokenizer(tokenizer.path), "test")
    assert (header.tokenizer, header.parent, header.seed, header.packing) == ("facade", "c0ffee", 5, "best_fit")
    assert (header.bos, header.eos, header.pad, header.vocab_size) == (special.bos, special.eos, special.pad, 300)


@pytest.mark.parametrize("packing", ["best_fit", "concatenate", "documents"])
def test_same_bytes_for_any_number_of_workers_and_whatever_is_read_at_a_time(
    corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packing: str
):
    config = ShardsConfig.model_validate(
        {"context": 32, "rows_per_shard": 50, "packing": packing, "group_by": "source"}
    )
    found = []
    for workers, read_bytes, documents in ((0, 2**22, 2**16), (2, 2**22, 2**16), (0, 500, 7)):
        monkeypatch.setattr(tasks.encoded, "ENCODE_BYTES", read_bytes)
        monkeypatch.setattr(tasks.encoded, "SORT_TOKENS", read_bytes)
        monkeypatch.setattr(tasks.encoded, "RANGE_DOCUMENTS", documents)
        place = tmp_path / f"{workers}-{documents}"
        files = FileTasks(place / "parts", FilesConfig(workers=workers))
        found.append(digests(run(config, corpus, tokenizer, place / "out", files)[0]))
    assert found[0] == found[1] == found[2]
    assert len(found[0]) > 5


def test_small_windows_lose_nothing(
    corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path, files: FileTasks, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tasks.packing, "WINDOW_TOKENS", 700)
    out, _ = run(ShardsConfig(context=32, rows_per_shard=9), corpus, tokenizer, tmp_path / "out", files)
    assert unpacked(open_rows(out / "train/all")) == dict(enumerate(encoded(tokenizer, TRAIN)))


def test_another_seed_is_another_order(corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path, files: FileTasks):
    one, _ = run(ShardsConfig(context=32, seed=1), corpus, tokenizer, tmp_path / "1", files)
    two, _ = run(ShardsConfig(context=32, seed=2), corpus, tokenizer, tmp_path / "2", files)
    assert not np.array_equal(read_rows(one / "train/all"), read_rows(two / "train/all"))


def test_tables_that_were_encoded_are_not_encoded_again(
    corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path, files: FileTasks
):
    run(ShardsConfig(context=32), corpus, tokenizer, tmp_path / "1", files)
    parts = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts/encode").glob("*/part.json")}
    assert len(parts) == 3
    larger = make_corpus(tmp_path / "larger", [*TRAIN, make_texts(200, 210)], VALIDATION)
    out, _ = run(ShardsConfig(context=64, packing="concatenate"), larger, tokenizer, tmp_path / "2", files)
    again = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts/encode").glob("*/part.json")}
    assert len(again) == 4
    assert parts.items() <= again.items()
    assert pq.read_metadata(out / "documents-train.parquet").num_rows == 130


@pytest.mark.parametrize("by", ["source", "language"])
def test_groups_hold_the_documents_of_one_source_or_language(
    corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path, files: FileTasks, by: str
):
    config = ShardsConfig.model_validate({"context": 32, "group_by": by})
    out, _ = run(config, corpus, tokenizer, tmp_path / "out", files)
    named = pq.read_table(out / "documents-train.parquet")[by].to_pylist()
    everything: dict[int, list[int]] = {}
    for folder in sorted((out / "train").iterdir()):
        documents = unpacked(open_rows(folder))
        assert {named[number] for number in documents} == {folder.name}
        everything |= documents
    assert everything == dict(enumerate(encoded(tokenizer, TRAIN)))
    assert [folder.name for folder in (out / "validation").iterdir()] == ["all"]
    groups = [entry["group"] for entry in json.loads((out / "packing.json").read_text())]
    assert groups == [*sorted(set(named)), "all"]


def test_group_without_a_whole_row_leaves_no_folder(tokenizer: Tokenizer, tmp_path: Path, files: FileTasks):
    texts = {"a": "river", "b": "stones " * 50}  # of odd and of even length: two sources
    corpus = make_corpus(tmp_path, [texts], make_texts(120, 150))
    config = ShardsConfig(context=16, packing="concatenate", group_by="source")
    out, outcome = run(config, corpus, tokenizer, tmp_path / "out", files)
    assert [folder.name for folder in (out / "train").iterdir()] == ["made-0"]
    assert outcome.ledger.dropped_bytes["incomplete_train_row"] >= 5


def test_names_that_make_no_folder_are_changed_and_stay_apart():
    assert group_folder("wiki-zh.v2") == "wiki-zh.v2"
    assert group_folder("维基") == "维基"
    found = [group_folder(name) for name in ("a/b", "a:b", "..", "a b", "")]
    assert len(set(found)) == 5
    assert not any(set(name) & set("/: ") or name.startswith(".") for name in found)


def test_archive_holds_the_same_rows_in_less_space(
    corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path, files: FileTasks
):
    plain, _ = run(ShardsConfig(context=32), corpus, tokenizer, tmp_path / "plain", files)
    archive, _ = run(ShardsConfig(context=32, codec="zstd"), corpus, tokenizer, tmp_path / "archive", files)
    assert np.array_equal(read_rows(archive / "train/all"), read_rows(plain / "train/all"))
    assert unpacked(open_rows(archive / "train/all")) == unpacked(open_rows(plain / "train/all"))
    sizes = [(folder / "train/all/shard-00000.parquet").stat().st_size for folder in (archive, plain)]
    assert sizes[0] < sizes[1]


def test_single_document_is_enough(tokenizer: Tokenizer, tmp_path: Path, files: FileTasks):
    corpus = make_corpus(tmp_path, [{"only": "river"}], {"other": "stone"})
    out, outcome = run(ShardsConfig(), corpus, tokenizer, tmp_path / "out", files)
    assert unpacked(open_rows(out / "train/all")) == {0: encoded(tokenizer, [{"only": "river"}])[0]}
    assert outcome.figures["train_rows"] == 1


def test_document_longer_than_a_shard_and_a_window_is_whole(
    tokenizer: Tokenizer, tmp_path: Path, files: FileTasks, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tasks.packing, "WINDOW_TOKENS", 1_000)
    train = [{"long": "x" * 20_000, **make_texts(0, 10)}]
    corpus = make_corpus(tmp_path, train, VALIDATION)
    for packing in ("best_fit", "documents", "concatenate"):
        config = ShardsConfig.model_validate({"context": 16, "rows_per_shard": 30, "packing": packing})
        out, _ = run(config, corpus, tokenizer, tmp_path / packing, files)
        found, expected = unpacked(open_rows(out / "train/all")), encoded(tokenizer, train)
        last = shuffled(train, 1)[-1] if packing == "concatenate" else None  # its end may be in no row
        assert all(found[number] == expected[number] for number in range(11) if number != last)


def wide_tokenizer(folder: Path, words: int) -> Tokenizer:
    """One token a word; a text of spaces alone has none."""
    vocabulary = {token: number for number, token in enumerate([*SPECIAL_TOKENS, *(f"w{i}" for i in range(words))])}
    whole = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="w0"))
    whole.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    whole.add_special_tokens(list(SPECIAL_TOKENS))
    folder.mkdir()
    whole.save(str(folder / "tokenizer.json"))
    return Tokenizer(str(folder), "wide")


@pytest.mark.parametrize(("words", "item_bytes"), [(2**16 - 6, 2), (2**16 - 5, 4)])
def test_vocabulary_over_65536_widens_rows_and_wraps_no_id(
    tmp_path: Path, files: FileTasks, words: int, item_bytes: int
):
    tokenizer = wide_tokenizer(tmp_path / "tokenizer", words)
    corpus = make_corpus(tmp_path, [{"a": f"w0 w{words - 1} w17"}], {"b": "w1"})
    out, _ = run(ShardsConfig(context=8), corpus, tokenizer, tmp_path / "out", files)
    rows = open_rows(out / "train/all")
    assert rows.header.item_bytes == item_bytes
    assert rows.take(np.array([0]))[0, :5].tolist() == [0, 6, words + 5, 23, 1]


def test_document_without_tokens_is_dropped_and_counted(tmp_path: Path, files: FileTasks):
    tokenizer = wide_tokenizer(tmp_path / "tokenizer", 20)
    corpus = make_corpus(tmp_path, [{"a": "w1", "spaces": " \n ", "c": "w2 w3"}], {"b": "w1"})
    out, outcome = run(ShardsConfig(context=8), corpus, tokenizer, tmp_path / "out", files)
    assert outcome.ledger.dropped == {"empty_document": 1}
    assert outcome.ledger.dropped_bytes == {"empty_document": 3}
    assert pq.read_table(out / "documents-train.parquet")["tokens"].to_pylist() == [3, 0, 4]
    assert sorted(unpacked(open_rows(out / "train/all"))) == [0, 2]


def test_table_whose_worker_died_keeps_its_numbers_but_goes_into_no_row(
    corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path
):
    works = [EncodeWork(table, tokenizer.folder, "t", 1) for table in tables_of(corpus, "train-*.parquet")]
    parts: list[Part] = []
    for number, (work, function) in enumerate(zip(works, (cannot_encode, encode_table), strict=True)):
        folder = tmp_path / str(number)
        folder.mkdir()
        parts.append(Part(folder, function(work, folder)))
        parts[-1].outcome.ledger.check("encode")
    assert parts[0].outcome.ledger.dropped == {"worker_died": 70}
    kind = RowKind(ShardsConfig(context=32), 300, "t", 0, 1, 2, "c")
    packed, _ = pack_group(kind, EncodedCorpus(parts, item_type(300)), "train", None, tmp_path)
    assert sorted(unpacked(open_rows(tmp_path / "train/all"))) == list(range(70, 120))
    assert packed.documents == 50


def test_ids_that_a_tokenizer_leaves_out_count_as_vocabulary(tmp_path: Path, files: FileTasks):
    tokenizer = wide_tokenizer(tmp_path / "tokenizer", 20)
    path = tokenizer.path / "tokenizer.json"
    path.write_text(path.read_text().replace('"w19":25', '"w19":99').replace('"w19": 25', '"w19": 99'))
    corpus = make_corpus(tmp_path, [{"a": "w19"}], {"b": "w1"})
    out, _ = run(ShardsConfig(context=8), corpus, tokenizer, tmp_path / "out", files)
    rows = open_rows(out / "train/all")
    assert (rows.vocab_size, rows.take(np.array([0]))[0, 1]) == (100, 99)


def test_corpus_smaller_than_a_row_is_refused_when_rows_are_not_padded(
    tokenizer: Tokenizer, tmp_path: Path, files: FileTasks
):
    corpus = make_corpus(tmp_path, [{"only": "river"}], {"only": "river"})
    with pytest.raises(
        UserError, match=r"corpus gives \d+ tokens, fewer than one row of 257. Fix: lower shards.context or add text"
    ):
        run(ShardsConfig(packing="concatenate"), corpus, tokenizer, tmp_path / "out", files)


def test_empty_validation_set_is_refused(tokenizer: Tokenizer, tmp_path: Path, files: FileTasks):
    corpus = make_corpus(tmp_path, [make_texts(0, 20)], {})
    with pytest.raises(UserError, match="validation set gives no document.*keep more documents for validation"):
        run(ShardsConfig(context=32), corpus, tokenizer, tmp_path / "out", files)


@pytest.fixture
def published(corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path, files: FileTasks) -> TokenShards:
    workspace = Workspace(tmp_path / "workspace").open()
    config = ShardsConfig(context=32, rows_per_shard=20)
    built = workspace.begin("shards", "5eed", keep=False)
    outcome = write_shards(config, corpus, tokenizer, built, files)
    manifest = describe("shards", "5eed", identity(config), {}, built, outcome, 0.0)
    return as_artifact(TokenShards, workspace.publish(manifest), manifest)


def test_artifact_lists_its_shards_by_group(published: TokenShards):
    found = artifact_shards(published.path, "train")
    assert found == {"all": sorted((published.path / "train/all").glob("*.parquet"))}
    assert TokenRows.open(found["all"], tokenizer="facade", vocab_size=300, check_pages=True).context == 32


def test_missing_and_resized_shards_are_refused_by_name(published: TokenShards):
    first, second, *_ = artifact_shards(published.path, "train")["all"]
    second.write_bytes(second.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"shard-00001\.parquet has \d+ bytes, the manifest says \d+; write"):
        artifact_shards(published.path, "train")
    first.unlink()
    with pytest.raises(ValueError, match=r"shard-00000\.parquet is missing; write the shards again"):
        artifact_shards(published.path, "train")
    with pytest.raises(ValueError, match="lists no test shards"):
        artifact_shards(published.path, "test")
    with pytest.raises(ValueError, match="no finished token shards"):
        artifact_shards(published.path / "train", "train")


def test_verify_finds_a_flipped_byte(published: TokenShards):
    path = artifact_shards(published.path, "train")["all"][0]
    damaged = bytearray(path.read_bytes())
    damaged[200] ^= 1
    path.write_bytes(damaged)
    problems = [entry.problem for entry in inspect_all(Workspace(published.path.parents[1])) if entry.problem]
    assert len(problems) == 1
    assert "shard-00000.parquet was altered" in str(problems[0])


def test_tokenizer_swapped_after_packing_is_refused(published: TokenShards):
    with pytest.raises(
        ValueError, match="made with tokenizer facade, but this run's is another; write the shards again"
    ):
        TokenRows.open(artifact_shards(published.path, "train")["all"], tokenizer="another")


def _write_all(config: ShardsConfig, corpus: Corpus, tokenizer: Tokenizer, out: Path, parts: Path) -> None:
    write_shards(config, corpus, tokenizer, out, FileTasks(parts, FilesConfig(workers=0)))


def test_two_writers_at_once_leave_whole_shards(corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path, files: FileTasks):
    config = ShardsConfig(context=32, rows_per_shard=10)
    out = tmp_path / "out"
    out.mkdir()
    processes = [
        multiprocessing.get_context("spawn").Process(
            target=_write_all, args=(config, corpus, tokenizer, out, tmp_path / "parts")
        )
        for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    alone, _ = run(config, corpus, tokenizer, tmp_path / "alone", files)
    shards = {name: digest for name, digest in digests(out).items() if "shard-" in name}
    assert shards == {name: digest for name, digest in digests(alone).items() if "shard-" in name}


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(3, 30), min_size=1, max_size=20),
    st.sampled_from(["best_fit", "concatenate", "documents"]),
    st.integers(1, 6),
)
def test_ledger_of_windows_adds_up(lengths: list[int], packing: str, portion: int):
    documents = np.zeros(len(lengths), ORDERED)
    documents["tokens"], documents["bytes"] = lengths, np.array(lengths) - 2
    documents["number"] = np.arange(len(lengths))
    config = ShardsConfig.model_validate({"context": 8, "packing": packing})
    kind = RowKind(config, 300, "t", 0, 1, 2, "c")
    packed = Packed("train", "all", 9)
    portions = (documents[start : start + portion] for start in range(0, len(lengths), portion))
    targets: set[tuple[int, int]] = set()
    for window, pieces in pack_windows(kind, portions, packed):
        for start, number, offset, length in zip(
            pieces.starts, window["number"][pieces.documents], pieces.offsets, pieces.lengths, strict=True
        ):
            asked = range(offset + (start == 0 if packing == "concatenate" else 1), offset + length)
            assert targets.isdisjoint((number, token) for token in asked)
            targets |= {(int(number), token) for token in asked}
    assert packed.targets == len(targets)
    assert packed.tokens == sum(lengths)
    of_text = sum(
        1 for number, length in enumerate(lengths) for token in range(1, length - 1) if (number, token) in targets
    )
    assert packed.text_bytes - packed.tail_bytes == pytest.approx(of_text, abs=0.51)


def test_other_tools_read_shards(published: TokenShards, tmp_path: Path):
    import datasets
    import duckdb
    import polars as pl

    path = artifact_shards(published.path, "train")["all"][0]
    expected = TokenRows.open([path]).take(np.array([3]))[0].tolist()
    loaded = datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert np.frombuffer(loaded[3]["tokens"], "<u2").tolist() == expected
    row = pl.read_parquet(path).row(3, named=True)
    assert np.frombuffer(row["tokens"], "<u2").tolist() == expected
    found = duckdb.sql(f"select tokens, ends from '{path}' limit 1 offset 3").fetchall()[0]
    assert np.frombuffer(found[0], "<u2").tolist() == expected
    assert found[1] == row["ends"] == loaded[3]["ends"]
