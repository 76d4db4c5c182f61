"""The torture set: every bad input is a counted reject or a flagged repair, and its neighbours come out untouched."""

from collections import Counter
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
from pydantic import TypeAdapter

from tasks.errors import UserError
from tasks.reading.found import Found, Refused
from tasks.reading.read import list_files, read_file
from tasks.reading.sources import AnySource
from tests.torture import GROUPS, Case, write_torture_set

SOURCES: TypeAdapter[AnySource] = TypeAdapter(AnySource)


@cache
def cases() -> list[Case]:
    return write_torture_set(Path(mkdtemp(prefix="torture")))


def read(case: Case) -> tuple[list[Found], list[Refused]]:
    source = SOURCES.validate_python(dict(case.source))
    everything = [found for file in list_files(source) for found in read_file(source, file)]
    documents = [found for found in everything if isinstance(found, Found)]
    return documents, [found for found in everything if isinstance(found, Refused)]


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case.group}-{case.name}")
def test_bad_input_is_counted_or_mended_and_its_neighbours_are_untouched(case: Case):
    expected = case.expected
    if expected.error:
        with pytest.raises(UserError, match=expected.error):
            read(case)
        return
    documents, refused = read(case)
    assert dict(Counter(one.fault.reason for one in refused)) == dict(expected.rejects)
    if expected.begins is None:
        assert [one.text for one in documents] == list(expected.kept)
    else:
        assert documents[0].text == expected.begins
    flags = {flag for one in documents for flag in one.meta.get("repaired", "").split(",") if flag}
    assert flags == set(expected.repairs)
    assert all(len(one.fault.evidence.encode()) <= 256 for one in refused)
    ids = [one.id for one in (*documents, *refused)]
    assert len(ids) == len(set(ids))


def test_every_group_has_cases_with_names_of_their_own():
    names = [(case.group, case.name) for case in cases()]
    assert len(names) == len(set(names))
    assert {group for group, _ in names} == {group for group, _ in GROUPS}
