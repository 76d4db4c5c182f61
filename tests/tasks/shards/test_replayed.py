"""Rows of a continued pretraining: own text and general text are kept apart, so that they can be mixed by weights."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tasks.artifacts import Corpus, ReplayText, Tokenizer, Workspace, as_artifact, describe
from tasks.errors import UserError
from tasks.executor.filetasks import FileTasks
from tasks.ledger import Ledger, StageOutcome
from tasks.shards.shards import ShardsConfig, write_shards
from tests.tasks.shards.shards_run import TRAIN, encoded, make_texts, open_rows, run, unpacked, write_documents


def replayed(root: Path, texts: dict[str, str]) -> ReplayText:
    """A published artifact with general text."""
    workspace = Workspace(root).open()
    folder = workspace.begin("replay", "4e91", keep=False)
    write_documents(folder / "train-00000.parquet", texts)
    manifest = describe("replay", "4e91", {}, {}, folder, StageOutcome(Ledger()), 0.0)
    return as_artifact(ReplayText, workspace.publish(manifest), manifest)


def test_general_sources_and_replayed_text_are_one_group_and_own_text_the_other(
    corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path, files: FileTasks
):
    more = make_texts(200, 220)
    out = tmp_path / "out"
    out.mkdir()
    outcome = write_shards(ShardsConfig(context=32, general=("made-0",)), corpus, tokenizer, out, files, replayed(tmp_path / "more", more))
    outcome.ledger.check("shards")
    every = encoded(tokenizer, [*TRAIN, more])
    is_general = [len(text) % 2 == 0 for texts in TRAIN for text in texts.values()] + [True] * 20
    for group, wanted in (("general", True), ("own", False)):
        expected = {number: tokens for number, tokens in enumerate(every) if is_general[number] == wanted}
        assert unpacked(open_rows(out / "train" / group)) == expected
    assert pq.read_table(out / "documents-train.parquet")["id"].to_pylist() == [id for texts in (*TRAIN, more) for id in texts]
    assert [folder.name for folder in (out / "validation").iterdir()] == ["all"]


@pytest.mark.parametrize(
    ("general", "message"), [(("made-0", "made-1"), "shards: found no own text"), (("wiki",), "shards: found no general text to replay")]
)
def test_a_side_without_a_document_is_refused(
    corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path, files: FileTasks, general: tuple[str, ...], message: str
):
    with pytest.raises(UserError, match=message):
        run(ShardsConfig(context=32, general=general), corpus, tokenizer, tmp_path / "out", files)
