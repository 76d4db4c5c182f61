"""Which labelled rows no night has used: by what they say, not by file, order, format or date; and what a night leaves behind."""

import csv
import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

import tasks.promotion.new_rows as under_test
from tasks.errors import UserError
from tasks.examples.kinds.table import AnyExamples
from tasks.promotion.new_rows import NewRows, close_night, look_for_new, nights_folder, read_chosen, read_nights, write_chosen

Row = Mapping[str, object]
FIRST = [{"text": f"text number {n}", "label": "ab"[n % 2]} for n in range(12)]


def config(folder: Path, form: str = "jsonl", kind: str = "classification", **more: object) -> AnyExamples:
    """Examples of all files of a folder."""
    source = {"kind": form, "paths": [str(folder)]}
    return TypeAdapter(AnyExamples).validate_python({"name": "task", "kind": kind, "source": source, **more})


def write(path: Path, rows: Sequence[Row]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def look(root: Path, limit: int | None = None) -> NewRows:
    return look_for_new(root, "mill", [config(root / "data", limit=limit)])


def counts(news: NewRows) -> tuple[int, int, int, int, int]:
    one = news.sets["task"]
    return one.new, one.waiting, one.changed, one.removed, sum(one.refused.values())


def night(root: Path, verdict: under_test.NightVerdict = "promoted") -> None:
    close_night(root, "mill", look(root), verdict, "why")


def test_all_rows_are_new_before_the_first_night_and_none_after_it(tmp_path: Path) -> None:
    write(tmp_path / "data" / "a.jsonl", FIRST)
    assert counts(look(tmp_path)) == (12, 0, 0, 0, 0)
    night(tmp_path)
    news = look(tmp_path)
    assert counts(news) == (0, 0, 0, 0, 0)
    assert not news.has_news
    assert news.told == "nothing new"


def test_a_night_that_fails_leaves_its_rows_new(tmp_path: Path) -> None:
    write(tmp_path / "data" / "a.jsonl", FIRST)
    night(tmp_path)
    write(tmp_path / "data" / "b.jsonl", [{"text": "another", "label": "a"}])
    news = look(tmp_path)
    write_chosen(tmp_path, "mill", news.sets["task"])  # … and then it is killed
    assert counts(look(tmp_path)) == (1, 0, 0, 0, 0)
    assert len(read_nights(tmp_path, "mill")) == 1


def test_a_night_killed_while_it_ends_leaves_the_state_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "data" / "a.jsonl", FIRST[:6])
    night(tmp_path)
    write(tmp_path / "data" / "b.jsonl", FIRST[6:])

    def killed(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            night(tmp_path)
    assert counts(look(tmp_path)) == (6, 0, 0, 0, 0)
    night(tmp_path)
    assert counts(look(tmp_path)) == (0, 0, 0, 0, 0)
    assert [path.name for path in sorted(nights_folder(tmp_path, "mill").iterdir())] == ["000001", "000002"], "nothing half-written stays"


def test_of_two_nights_that_end_at_once_the_second_is_told_and_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path / "data" / "a.jsonl", FIRST)
    news = look(tmp_path)
    close_night(tmp_path, "mill", news, "refused", "why")
    with pytest.raises(UserError, match="another night of this recipe has ended"):
        close_night(tmp_path, "mill", news, "promoted", "why")
    assert [one.verdict for one in read_nights(tmp_path, "mill")] == ["refused"]


def test_rows_of_a_night_that_could_not_tell_wait_and_join_the_next_that_has_something_new(tmp_path: Path) -> None:
    write(tmp_path / "data" / "a.jsonl", FIRST)
    night(tmp_path, "cannot tell")
    news = look(tmp_path)
    assert counts(news) == (0, 12, 0, 0, 0)
    assert not news.has_news, "they were judged: alone they start no night"
    night(tmp_path, "nothing new")
    write(tmp_path / "data" / "b.jsonl", [{"text": "another", "label": "a"}])
    news = look(tmp_path)
    assert counts(news) == (1, 12, 0, 0, 0)
    assert news.has_news
    chosen = write_chosen(tmp_path, "mill", news.sets["task"])
    assert len(read_chosen(chosen, news.sets["task"].digest)) == 13
    with pytest.raises(UserError, match=r"found 13 other ids, expected .*\. Fix: run the night again"):
        read_chosen(chosen, "0" * 64)
    night(tmp_path)
    assert counts(look(tmp_path)) == (0, 0, 0, 0, 0)


def test_rows_that_a_drift_stopped_stay_new(tmp_path: Path) -> None:
    write(tmp_path / "data" / "a.jsonl", FIRST)
    night(tmp_path, "drift")
    assert look(tmp_path).has_news


def test_another_answer_to_a_known_question_is_a_change_and_a_row_that_is_gone_is_removed(tmp_path: Path) -> None:
    write(tmp_path / "data" / "a.jsonl", FIRST)
    night(tmp_path)
    corrected = {**FIRST[0], "label": "b"}
    write(tmp_path / "data" / "a.jsonl", [corrected, *FIRST[1:10]])
    assert counts(look(tmp_path)) == (1, 0, 1, 2, 0)
    night(tmp_path)
    assert counts(look(tmp_path)) == (0, 0, 0, 0, 0)


def test_a_used_row_that_was_away_is_not_new_when_it_comes_back(tmp_path: Path) -> None:
    write(tmp_path / "data" / "a.jsonl", FIRST)
    night(tmp_path)
    write(tmp_path / "data" / "a.jsonl", FIRST[:8])
    night(tmp_path, "nothing new")
    assert counts(look(tmp_path)) == (0, 0, 0, 0, 0), "they are told as removed once"
    write(tmp_path / "data" / "a.jsonl", FIRST)
    assert counts(look(tmp_path)) == (0, 0, 0, 0, 0)


def test_a_broken_row_is_news_once(tmp_path: Path) -> None:
    write(tmp_path / "data" / "a.jsonl", FIRST)
    night(tmp_path)
    write(tmp_path / "data" / "b.jsonl", [{"text": "no label"}, {"text": " ", "label": "a"}, {"text": "whole", "label": "a"}])
    news = look(tmp_path)
    assert dict(news.sets["task"].refused) == {"empty_text": 1, "missing_field": 1}
    assert news.told == "1 new row (2 refused)"
    night(tmp_path)
    write(tmp_path / "data" / "b.jsonl", [{"text": "whole", "label": "a"}, {"text": "no label"}, {"text": " ", "label": "a"}])
    assert counts(look(tmp_path)) == (0, 0, 0, 0, 0)


def test_a_copy_of_the_files_is_nothing_new(tmp_path: Path) -> None:
    write(tmp_path / "data" / "a.jsonl", FIRST)
    night(tmp_path)
    write(tmp_path / "data" / "again.jsonl", FIRST)
    assert not look(tmp_path).has_news


def test_files_that_did_not_change_are_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "data" / "a.jsonl", FIRST)
    night(tmp_path)

    def parsed(*given: object) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr(under_test, "split_examples", parsed)
    assert counts(look(tmp_path)) == (0, 0, 0, 0, 0)
    write(tmp_path / "data" / "a.jsonl", FIRST[::-1])
    with pytest.raises(AssertionError, match="parsed"):
        look(tmp_path)


def test_dates_do_not_matter_neither_of_files_nor_of_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data" / "a.jsonl"
    write(path, FIRST)
    night(tmp_path)

    class Earlier(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # pyright: ignore[reportIncompatibleMethodOverride]
            return datetime(2001, 1, 1, tzinfo=UTC)

    monkeypatch.setattr(under_test, "datetime", Earlier)
    write(tmp_path / "data" / "b.jsonl", [{"text": "another", "label": "a"}])
    for file in (path, tmp_path / "data" / "b.jsonl"):
        os.utime(file, (0, 0))
    assert counts(look(tmp_path)) == (1, 0, 0, 0, 0)
    night(tmp_path, "refused")
    assert [one.verdict for one in read_nights(tmp_path, "mill")] == ["promoted", "refused"]
    assert counts(look(tmp_path)) == (0, 0, 0, 0, 0)


def test_a_set_beyond_its_limit_has_no_news_of_the_rows_that_are_left_out(tmp_path: Path) -> None:
    write(tmp_path / "data" / "a.jsonl", FIRST)
    close_night(tmp_path, "mill", look(tmp_path, limit=5), "promoted", "why")
    assert counts(look(tmp_path, limit=5)) == (0, 0, 0, 0, 0)


def test_a_state_that_cannot_be_read_is_told_with_what_to_do(tmp_path: Path) -> None:
    write(tmp_path / "data" / "a.jsonl", FIRST)
    night(tmp_path)
    (nights_folder(tmp_path, "mill") / "000001" / "seen.parquet").write_bytes(b"torn")
    with pytest.raises(UserError, match="Fix: remove the folder"):
        look(tmp_path)


def in_format(form: str, rows: Sequence[Row], folder: Path, parts: int) -> None:
    """The same rows, in so many files."""
    folder.mkdir()
    for part in range(parts):
        own, path = rows[part::parts], folder / f"{part}.{form}"
        if not own:
            continue
        if form == "parquet":
            pq.write_table(pa.Table.from_pylist([dict(row) for row in own]), path)
        elif form == "csv":
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(own[0]))
                writer.writeheader()
                writer.writerows([{name: row[name] for name in own[0]} for row in own])
        elif form == "json":
            path.write_text(json.dumps(own), encoding="utf-8")
        else:
            write(path, own)


@settings(max_examples=25, deadline=None)
@given(
    order=st.permutations(range(12)),
    swapped=st.lists(st.booleans(), min_size=12, max_size=12),
    form=st.sampled_from(["jsonl", "json", "csv", "parquet"]),
    parts=st.integers(1, 3),
)
def test_the_same_rows_are_known_in_any_order_of_rows_and_keys_in_any_files_and_format(
    order: list[int], swapped: list[bool], form: str, parts: int
) -> None:
    rows = [{name: FIRST[n][name] for name in (("label", "text") if swapped[n] else ("text", "label"))} for n in order]
    with TemporaryDirectory() as folder:
        root = Path(folder)
        write(root / "data" / "a.jsonl", FIRST)
        first = look(root)
        close_night(root, "mill", first, "promoted", "why")
        in_format(form, rows, root / "other", parts)
        again = config(root / "other", form)
        assert not look_for_new(root, "mill", [again]).has_news
        assert look_for_new(root, "elsewhere", [again]).sets["task"].digest == first.sets["task"].digest
