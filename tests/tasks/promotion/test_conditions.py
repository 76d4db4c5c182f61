"""What must hold beside the figures."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.artifacts import PretrainedModel
from tasks.examples.kinds.kind import Example
from tasks.memory import memory_of
from tasks.promotion.conditions import find_leaks, is_separate, is_whole
from tests.tasks.promotion.contests import Mind, Room, texts, write_examples

CHINESE = "水力磨坊建在河的拐弯处，春天的水最急，磨盘转得最快，附近村子里的人都挑着麦子来排队。"


def instructions(folder: Path, train: list[tuple[str, str]], heldout: list[tuple[str, str]]) -> Path:
    folder.mkdir()
    for split, pairs in (("train", train), ("heldout", heldout)):
        made = [Example("", {"prompt": prompt, "response": response}, "") for prompt, response in pairs]
        rows = [{"id": one.id, "group": one.id, **one.values} for one in made]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}.parquet")
    return folder


def test_prompt_that_recurs_with_another_answer_is_no_leak(tmp_path: Path) -> None:
    learned = [("def close(self):", "    self.file.close()"), ("def open(self):", "    return self.file")]
    asked = [("def close(self):", "    self.socket.shutdown()"), ("def  OPEN(self):", "return self.file")]
    leaks = find_leaks(instructions(tmp_path / "examples", learned, asked), None)
    assert (len(leaks.exact), len(leaks.near), leaks.judged, leaks.learned) == (1, 0, 2, 2)


def test_near_copy_is_found_in_a_script_without_spaces(tmp_path: Path) -> None:
    write_examples(tmp_path / "examples", [(f"听说：{CHINESE}", "good")], [(CHINESE + "真的", "good"), ("磨坊", "bad")])
    leaks = find_leaks(tmp_path / "examples", None)
    assert (len(leaks.exact), len(leaks.near)) == (0, 1)


def test_what_was_learned_on_nights_before_counts_too(tmp_path: Path) -> None:
    heldout = texts("asked", 10)
    write_examples(tmp_path / "examples", texts("new", 10), heldout)
    write_examples(tmp_path / "memory" / "examples" / "tone", heldout[:3], heldout)
    assert len(find_leaks(tmp_path / "examples", None).all) == 0
    assert len(find_leaks(tmp_path / "examples", memory_of(tmp_path)).exact) == 3


def test_examples_that_were_all_learned_fail_the_condition(tmp_path: Path) -> None:
    write_examples(tmp_path / "examples", texts("asked", 10), texts("asked", 10))
    room = Room(tmp_path)
    room.model("c0ffee", Mind())
    found = is_separate(room.scores("c0ffee"), find_leaks(tmp_path / "examples", None))
    assert not found.passed
    assert found.found == "10 held-out texts against 10 learned ones; left out of the comparison: 10 that were learned, 0 near copies"


def test_artifact_without_a_manifest_or_of_another_version_is_not_whole(tmp_path: Path) -> None:
    model = Room(tmp_path).model("c0ffee", Mind())
    assert is_whole(model).passed
    assert is_whole(model).found == "all files are as they were written: 1"
    (model.path / "manifest.json").write_text(json.dumps({"format": 99}))
    assert not is_whole(model).passed
    assert "another version of Wordmill" in is_whole(model).found
    assert not is_whole(PretrainedModel(str(tmp_path / "absent"), "a")).passed
