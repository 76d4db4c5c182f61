"""The torture set through the real stages: each bad input is counted or mended, and its neighbours come out untouched."""

import re
from collections import Counter
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tasks import ingest
from tasks.artifacts import Artifact
from tests.torture import Entry, Fate, Outcome, run_torture_set, table, totals, write_torture_set
from tests.torture_files import GOOD, Case
from tests.torture_html import HtmlCase
from tests.torture_rules import RuleCase
from tests.torture_text import TextCase

SECONDS = 60.0  # for one task of the default size; none needs three of them on an idle machine
WORKER_BYTES = 1 << 30
BLANK_LINES = re.compile(r"\n{4,}")
LINE_ENDS = re.compile("\r\n|[\r\u2028\x0b]")


@cache
def outcome() -> Outcome:
    """One run for all tests; small files go in groups, as those of a large source do."""
    with TemporaryDirectory(prefix="torture") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest, "MANY_FILES", 2)
        return run_torture_set(write_torture_set(Path(folder) / "files"), Path(folder) / "workspace")
