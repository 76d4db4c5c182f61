"""What the tests of the shards share: one corpus, its tokenizer, its file tasks, a published artifact."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.artifacts import Corpus, Tokenizer, TokenShards, Workspace, as_artifact, describe
from tasks.executor.filetasks import FilesConfig, FileTasks
from tasks.settings import identity
from tasks.shards.shards import ShardsConfig, write_shards
from tasks.tokenizer.tokenizer import TokenizerConfig, train_tokenizer
from tests.tasks.shards.shards_run import TRAIN, VALIDATION, make_corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"), TRAIN, VALIDATION)


@pytest.fixture(scope="session")
def tokenizer(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(TokenizerConfig(vocab_size=300), corpus, folder)
    return Tokenizer(str(folder), "facade")


@pytest.fixture
def files(tmp_path: Path) -> Iterator[FileTasks]:
    tasks_here = FileTasks(tmp_path / "parts", FilesConfig(workers=0))
    yield tasks_here
    tasks_here.close()


@pytest.fixture
def published(corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path, files: FileTasks) -> TokenShards:
    workspace = Workspace(tmp_path / "workspace").open()
    config = ShardsConfig(context=32, rows_per_shard=20)
    built = workspace.begin("shards", "5eed", keep=False)
    outcome = write_shards(config, corpus, tokenizer, built, files)
    manifest = describe("shards", "5eed", identity(config), {}, built, outcome, 0.0)
    return as_artifact(TokenShards, workspace.publish(manifest), manifest)
