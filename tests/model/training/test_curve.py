"""The curve of a training: what is appended is read, while it grows and after a resumption."""

from pathlib import Path

import pytest

from model.training.curve import CURVE, CurveReader, append_point, read_curve
from tests.curve_points import point


def test_what_was_appended_is_read(tmp_path: Path) -> None:
    points = [point(1, 3.0), point(2, 2.0, validation=2.5, worst=(2, 4.0))]
    for one in points:
        append_point(tmp_path, one)
    assert read_curve(tmp_path)[1] == points[1]
    assert [one.step for one in read_curve(tmp_path)] == [1, 2]


def test_curve_keeps_the_later_of_two_points_of_a_step(tmp_path: Path) -> None:
    for step, loss in ((1, 3.0), (2, 2.0), (3, 1.0), (2, 2.5)):
        append_point(tmp_path, point(step, loss))
    assert [(one.step, one.loss) for one in read_curve(tmp_path)] == [(1, 3.0), (2, 2.5), (3, 1.0)]


def test_nothing_was_trained_where_there_is_no_curve(tmp_path: Path) -> None:
    assert read_curve(tmp_path) == []


def test_line_that_is_being_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    append_point(tmp_path, point(1))
    line = (tmp_path / CURVE).read_text()
    reader = CurveReader(tmp_path)
    assert [one.step for one in reader.new_points()] == [1]
    with (tmp_path / CURVE).open("a") as file:
        file.write(line[:20])
        file.flush()
        assert reader.new_points() == []
        file.write(line[20:])
    assert [one.step for one in reader.new_points()] == [1]
    assert [one.step for one in CurveReader(tmp_path, skips_old=True).new_points()] == []


def test_curve_of_an_earlier_version_has_no_worst_steps(tmp_path: Path) -> None:
    append_point(tmp_path, point(1, worst=(1, 2.0)))
    known = (tmp_path / CURVE).read_text()
    (tmp_path / CURVE).write_text(known.replace(', "worst_step": 1, "worst_loss": 2.0', ""))
    assert [one.worst_step for one in read_curve(tmp_path)] == [0]


def test_line_that_is_no_point_is_named(tmp_path: Path) -> None:
    (tmp_path / CURVE).write_text('{"step": 1}\n')
    with pytest.raises(ValueError, match=r"curve\.jsonl: no point of a curve"):
        read_curve(tmp_path)
