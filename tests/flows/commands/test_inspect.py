"""`wordmill inspect`: what a stage dropped, in the terminal, as JSON and as a page."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.flows.conftest import Done
from tests.tasks.corpus_run import Bench, document

ENGLISH = "the mill wheel turns grain into flour while old stones wait under quiet water and children carry bread home"
HAN = "磨坊旁边的小河流过田野水轮转动石磨把麦子变成面粉孩子们沿着安静的路把面包带回家傍晚光落在大麦上"
HOSTILE = "<script>document.title = 'owned'</script> [bold red]x[/] \x1b[31mred \u202eturned"


@dataclass(frozen=True)
class Mill:
    """A workspace with two selections of one corpus."""

    workspace: Path
    strict: str
    loose: str


@pytest.fixture(scope="module")
def mill_corpus(tmp_path_factory: pytest.TempPathFactory) -> Mill:
    bench = Bench.open(tmp_path_factory.mktemp("inspect") / "workspace")
    long = [document(f"long{n}", f"{ENGLISH} {n} " * (2 + n)) for n in range(4)]
    short = [document("hostile", HOSTILE), document("short", "Too short."), document("han", HAN, language="zh")]
    clean = bench.annotate(bench.raw([*long, *short]), repairs={"invisible": False})
    strict = bench.select(clean, rules=[{"column": "chars", "min": 100}])
    loose = bench.select(clean, rules=[{"column": "chars", "min": 20}])
    date(strict.path, "2026-01-02T00:00:00+00:00")
    date(loose.path, "2026-01-01T00:00:00+00:00")
    return Mill(bench.workspace.root, strict.fingerprint, loose.fingerprint)


def date(folder: Path, finished: str) -> None:
    """Says of an artifact that it was finished then."""
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"finished": finished}))


@pytest.fixture
def inspect(command: Callable[..., Done], mill_corpus: Mill) -> Callable[..., Done]:
    def call(*arguments: str) -> Done:
        return command("inspect", *arguments, "--workspace", str(mill_corpus.workspace))

    return call


def test_ledger_and_samples_of_the_newest_artifact_are_shown(inspect: Callable[..., Done], mill_corpus: Mill):
    done = inspect("select")
    assert done.code == 0, done.err
    assert mill_corpus.strict in done.out
    assert re.search(r"min_chars +3 +42\.9.% +\d+ B +chars below the minimum", done.out)
    assert "chars at least 100" in done.out
    assert "Too short." in done.out
    assert "kept, nearest to the bound" in done.out


def test_text_of_the_corpus_cannot_steer_the_terminal(inspect: Callable[..., Done]):
    out = inspect("select").out
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "red]x[/]" in out  # markup of rich is none here


def test_columns_stay_aligned_beside_wide_characters(inspect: Callable[..., Done]):
    lines = [line for line in inspect("select", "--count", "9").out.splitlines() if "│" in line]
    assert any("磨坊" in line for line in lines)
    assert len({cell_len(line.partition("│")[0]) for line in lines}) == 1


def test_an_artifact_is_named_by_the_start_of_its_fingerprint(inspect: Callable[..., Done], mill_corpus: Mill):
    found = json.loads(inspect("select", "--artifact", mill_corpus.loose[:6], "--json").out)
    assert (found["fingerprint"], found["dropped"]) == (mill_corpus.loose, {"min_chars": 1})


def test_json_holds_ledger_rule_and_pairs(inspect: Callable[..., Done]):
    found = json.loads(inspect("select", "--reason", "min_chars", "--count", "1", "--json").out)
    assert (found["rows_in"], found["rows_out"], found["dropped"]) == (7, 4, {"min_chars": 3})
    (group,) = found["reasons"]
    assert (group["figure"], group["rule"]) == ("chars", "chars at least 100")
    (pair,) = group["pairs"]
    assert pair["sample"]["value"] < 100 <= pair["beside"]["value"]


def test_a_stage_without_drops_says_so(inspect: Callable[..., Done]):
    assert "nothing was dropped" in inspect("annotate").out


def test_the_page_holds_the_text_and_nothing_runs_in_it(inspect: Callable[..., Done], tmp_path: Path):
    page = tmp_path / "samples.html"
    assert inspect("select", "--page", str(page)).out == f"wrote {page}\n"
    text = page.read_text()
    assert "&lt;script&gt;document.title" in text
    assert "<script" not in text
    assert "script-src &#39;none&#39;" in text
    assert not re.search(r'(src|href)="(?!data:)', text)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["selct"], "selct drops no documents. Did you mean select?"),
        (["pretrain"], "Stages that do: ingest, annotate, select, deduplicate, decontaminate."),
        (["deduplicate"], "no finished artifact of deduplicate"),
        (["select", "--reason", "min_char"], "Did you mean min_chars? Reasons here: min_chars."),
        (["annotate", "--reason", "empty"], "It dropped nothing."),
        (["select", "--artifact", "zz"], "no artifact of select with a fingerprint zz…. Known, newest first: "),
        (["select", "--page", "/no/such/folder/x.html"], "--page /no/such/folder/x.html: No such file or directory"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(inspect: Callable[..., Done], arguments: list[str], told: str):
    assert told in inspect(*arguments).refusal()


def test_ingest_shows_what_became_of_the_bytes_of_its_files(command: Callable[..., Done], tmp_path: Path):
    (tmp_path / "a.txt").write_bytes("one\n".encode("utf-16"))
    (tmp_path / "b.txt").write_bytes(b"%PDF-1.7")
    Bench.open(tmp_path / "w").ingest({"name": "s", "kind": "text", "paths": [str(tmp_path / "*.txt")]})
    shown = " ".join(command("inspect", "ingest", "--workspace", str(tmp_path / "w")).out.split())
    assert "18 bytes of files, unpacked: 4 in records, 8 in rejects, 2 between them, 4 more in UTF-16 and the like than as UTF-8" in shown
    assert json.loads(command("inspect", "ingest", "--workspace", str(tmp_path / "w"), "--json").out)["figures"]["file_bytes"] == 18
