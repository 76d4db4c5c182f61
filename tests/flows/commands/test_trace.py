"""`wordmill trace` and `wordmill forget` on what a run made."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from model.training.events import Event, append_event
from model.training.left_out import LeftOut, write_left_out

if TYPE_CHECKING:
    from tests.flows.conftest import Built, Done, Mill

Command = Callable[..., "Done"]
Planner = Callable[..., dict[str, dict]]
STEPS = 8  # of the recipe


@pytest.fixture
def trace(command: Command, built: "Built") -> Command:
    def call(*arguments: str) -> "Done":
        return command("trace", *arguments, "--workspace", str(built.workspace))

    return call


def pretrained(built: "Built") -> str:
    return built.stage("pretrain")["fingerprint"]


def training_documents(built: "Built") -> list[dict]:
    return [row for path in sorted(built.folder("decontaminate").glob("train-*")) for row in pq.read_table(path).to_pylist()]


def raw_documents(built: "Built") -> list[dict]:
    return [row for path in sorted(built.folder("ingest").glob("documents-*")) for row in pq.read_table(path).to_pylist()]


def document_seen(trace: Command, built: "Built") -> dict:
    """A story that the training saw in its third step."""
    pieces = trace(pretrained(built), "--step", "3", "--json").document()["documents"]
    document_id = next(piece["id"] for piece in pieces if piece["source"] == "stories")
    return next(row for row in training_documents(built) if row["id"] == document_id)


def test_a_run_is_known_by_each_of_its_names(trace: Command, built: "Built") -> None:
    from mlflow import MlflowClient

    (version,) = MlflowClient(f"sqlite:///{built.workspace}/mlflow.db").search_model_versions("name = 'tiny'")
    names = [
        pretrained(built)[:8],
        str(built.folder("pretrain")),
        str(built.folder("pretrain") / "model"),
        "models:/tiny@champion",
        str(version.run_id),
        f"runs:/{version.run_id}/model",
    ]
    found = [trace(name, "--step", "3", "--json").document() for name in names]
    assert all(step == found[0] for step in found)
    assert (found[0]["run"]["fingerprint"], found[0]["run"]["steps"], found[0]["run"]["done"]) == (pretrained(built), STEPS, STEPS)
    assert found[0]["documents"]


def test_a_tuned_model_leads_to_what_its_base_saw(trace: Command, built: "Built") -> None:
    tuned = built.stage("finetune: topics")["fingerprint"]
    found = trace(tuned, "--step", "1", "--json").document()
    assert (found["run"]["fingerprint"], found["run"]["via"]) == (pretrained(built), [f"finetune {tuned}"])
    assert f"which finetune {tuned} comes from" in trace(tuned, "--step", "1").out


def test_a_step_is_shown_a_piece_a_paragraph(trace: Command, built: "Built") -> None:
    found = trace(pretrained(built), "--step", str(STEPS), "--json").document()
    out = trace(pretrained(built), "--step", str(STEPS)).out
    assert f"pretrain {pretrained(built)}: step {STEPS} of {STEPS}" in out
    for piece in found["documents"]:
        assert re.search(rf"row {piece['row']}, tokens {piece['start']} to {piece['end']} +{piece['id']}", out)


def test_a_step_makes_a_page_in_which_nothing_runs(trace: Command, built: "Built", tmp_path: Path) -> None:
    page = tmp_path / "step.html"
    assert trace(pretrained(built), "--step", "2", "--page", str(page)).out == f"wrote {page}\n"
    text = page.read_text(encoding="utf-8")
    pieces = trace(pretrained(built), "--step", "2", "--json").document()["documents"]
    assert all(piece["id"] in text for piece in pieces)
    assert "<script" not in text
    assert not re.search(r'(src|href)="(?!data:)', text)


def test_a_document_is_told_from_its_source_to_the_registered_models(trace: Command, built: "Built") -> None:
    document = document_seen(trace, built)
    found = trace("--document", document["id"][:12], "--json").document()
    assert (found["document"]["id"], found["document"]["path"]) == (document["id"], document["path"])
    assert [station["stage"] for station in found["artifacts"]] == [
        "ingest",
        "annotate",
        "select",
        "deduplicate",
        "decontaminate",
        "tokenizer",
        "shards",
        "pretrain",
        "finetune",
        "finetune",
        "evaluate",
        "evaluate",
        "evaluate",
        "report",
        "register",
        "register",
        "register",
    ]
    assert set(found["registered"]) == {"models:/tiny/1", "models:/tiny-answers/1", "models:/tiny-topics/1"}
    seen = next(station for station in found["artifacts"] if station["stage"] == "pretrain")["seen"]
    for step in range(1, STEPS + 1):
        pieces = trace(pretrained(built), "--step", str(step), "--json").document()["documents"]
        rows = {piece["row"] for piece in pieces if piece["id"] == document["id"]}
        assert rows == {time["row"] for time in seen if time["step"] == step}
    assert trace(pretrained(built), "--document", document["id"], "--json").document() == found


def test_a_text_is_found_with_the_way_of_its_document(trace: Command, built: "Built") -> None:
    document = next(row for row in training_documents(built) if row["language"] == "zh")
    found = trace("--text", document["text"][20:34], "--json").document()
    assert (found["documents"], found["listed"][0]["document"]["id"]) == (1, document["id"])
    assert "decontaminate" in {station["stage"] for station in found["listed"][0]["artifacts"]}
    assert re.search(r"1 document holds it.*decontaminate .* kept to train on", trace("--text", document["text"][20:34]).out, re.DOTALL)
    many = trace("--text", "mill", "--json").document()
    assert many["documents"] > len(many["listed"])
    ours = trace(pretrained(built), "--text", "mill", "--json").document()
    assert set(ours["artifacts"]) == {f"decontaminate/{built.stage('decontaminate')['fingerprint']}"}
    assert "0 documents hold it" in trace("--text", "no such words").out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "found none of them, expected one of --step N, --data-step N, --document ID and --text TEXT"),
        (["--data-step", "1"], "--data-step belongs to a run. Fix: wordmill trace RUN --data-step N"),
        (["RUN", "--data-step", "8"], "data step 8 of "),
        (["RUN", "--data-step", "-1"], "it has 0 to 7"),
        (["RUN", "--step", "1", "--document", "ab"], "found --step and --document, expected one"),
        (["--step", "1"], "--step belongs to a run"),
        (["--document", "ab", "--page", "x.html"], "--page shows a step"),
        (["RUN", "--step", "0"], "Fix: give a step from 1 to 8"),
        (["RUN", "--step", "-2"], "Fix: give a step from 1 to 8"),
        (["RUN", "--step", "9"], "step 9 of "),
        (["RUN", "--step", "1", "--page", "/no/such/folder/x.html"], "--page /no/such/folder/x.html: No such file or directory"),
        (["feedfeed", "--step", "1"], "no model with fingerprint feedfeed"),
        (["models:/none@champion", "--step", "1"], "nothing is registered as 'none'"),
        (["--document", "zz"], "no document with id zz"),
        (["--text", " "], "--text is empty"),
    ],
)
def test_what_cannot_be_traced_is_refused(trace: Command, built: "Built", arguments: list[str], told: str) -> None:
    given = [pretrained(built) if argument == "RUN" else argument for argument in arguments]
    assert told in trace(*given).refusal()


def test_steps_of_a_run_that_went_back_are_told_with_what_was_left_out_and_skipped(
    command: Command, trace: Command, built: "Built", workspace: Path, tmp_path: Path
) -> None:
    folder = workspace / "pretrain" / pretrained(built)
    write_left_out(folder / "checkpoints", [LeftOut(4, 4, 2)])
    append_event(folder, Event("skipped", 5, "loss nan, not finite", data_step=6))

    def of(*arguments: str) -> "Done":
        return command("trace", str(folder), *arguments)

    skipped = of("--step", "5", "--json").document()
    assert (skipped["data_step"], skipped["skipped"]["told"], skipped["left_out"]) == (6, "loss nan, not finite", False)
    assert skipped["documents"] == trace(pretrained(built), "--step", "7", "--json").document()["documents"]
    shown = " ".join(of("--step", "5").out.split())
    assert "this step was skipped: loss nan, not finite. Its batch was read, and nothing was learned from it" in shown
    assert "the run went back to step 4, and left out 2 batches before it" in shown
    gone = of("--data-step", "4", "--json").document()
    assert (gone["step"], gone["left_out"]) == (None, True)
    assert gone["documents"] == trace(pretrained(built), "--data-step", "4", "--json").document()["documents"]
    assert "data step 4, left out" in of("--data-step", "4").out
    page = tmp_path / "left.html"
    assert of("--data-step", "4", "--page", str(page)).code == 0
    assert "Data step 4: what was left out" in page.read_text()


def test_a_run_from_before_steps_could_be_traced_says_so(command: Command, built: "Built", workspace: Path) -> None:
    folder = workspace / "pretrain" / pretrained(built)
    (folder / "training.json").unlink()
    assert "has no training.json" in command("trace", str(folder), "--step", "1").refusal()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "forget: no id"),
        (["--list", "ab"], "--list shows what is marked and takes nothing else"),
        (["zz"], "no document with id zz"),
        (["", "--reason", "x"], "the id is empty"),
    ],
)
def test_what_cannot_be_forgotten_is_refused_and_nothing_is_forgotten(
    command: Command, built: "Built", arguments: list[str], told: str
) -> None:
    assert told in command("forget", *arguments, "--workspace", str(built.workspace)).refusal()
    assert not (built.workspace / "forgotten.jsonl").exists()


def notes_recipe(recipe: Path, folder: Path) -> Path:
    """A recipe that has one of the two sources, and only makes a corpus."""
    path = folder / "notes.yaml"
    path.write_text(f"name: notes\nmakes: corpus\ningest:\n  sources:\n    - {{name: notes, kind: text, paths: [{recipe.parent}/notes]}}\n")
    return path


def parts(workspace: Path, stage: str) -> set[str]:
    return {path.name for path in (workspace / "parts" / stage).iterdir()}


def test_a_forgotten_document_is_gone_after_the_next_run_and_only_what_it_touched_was_made_again(
    mill: "Mill", command: Command, trace: Command, plan: Planner, built: "Built", recipe: Path, workspace: Path, tmp_path: Path
) -> None:
    document = document_seen(trace, built)
    other = notes_recipe(recipe, tmp_path)
    before = plan(workspace, of=other)["ingest"]["fingerprint"]
    known = {stage: parts(workspace, stage) for stage in ("ingest", "annotate")}

    def forget(*arguments: str) -> "Done":
        return command("forget", *arguments, "--workspace", str(workspace))

    told = forget(document["id"][:10], "--reason", "its author asked", "--json").document()
    assert (told["document"]["id"], told["marked_before"], told["forgotten"]) == (document["id"], False, True)
    assert {Path(folder).parent.name for folder in told["delete"]} >= {
        "ingest",
        "annotate",
        "decontaminate",
        "shards",
        "pretrain",
    }
    assert set(told["registered"]) == {"models:/tiny/1", "models:/tiny-answers/1", "models:/tiny-topics/1"}
    again = forget(document["id"])
    assert re.search(r"was marked already on .* \(its author asked\)", again.out)
    (entry,) = json.loads(forget("--list", "--json").out)["forgotten"]
    assert (entry["id"], entry["source"], entry["path"]) == (document["id"], "stories", document["path"])

    planned = plan(workspace)
    assert planned["ingest"]["why"] == ["file forgotten documents: new input"]
    assert plan(workspace, of=other)["ingest"]["fingerprint"] == before
    assert {label for label, row in planned.items() if row["cached"]} == {"examples: topics", "examples: answers"}

    done = mill.run(recipe, workspace).document()
    stages = {stage["stage"]: stage for stage in done["stages"]}
    assert {label: stage["fingerprint"] for label, stage in stages.items()} == {label: row["fingerprint"] for label, row in planned.items()}
    same_text = sum(row["text"] == document["text"] for row in raw_documents(built))  # a copy in the same file goes too
    assert stages["ingest"]["rows_in"] == built.stage("ingest")["rows_in"]
    assert stages["ingest"]["dropped"] == {"forgotten": same_text}
    assert {stage: len(parts(workspace, stage) - known[stage]) for stage in known} == {"ingest": 1, "annotate": 1}
    shards = workspace / "shards" / stages["shards"]["fingerprint"]
    assert document["id"] not in {id_ for path in shards.glob("documents-*.parquet") for id_ in pq.read_table(path)["id"].to_pylist()}
    new = {str(workspace / label.partition(":")[0] / stage["fingerprint"]) for label, stage in stages.items()}
    left = forget(document["id"], "--json").document()
    assert not new & set(left["delete"])
    assert set(left["delete"]) == set(told["delete"])
    for folder in left["delete"]:
        shutil.rmtree(folder)
    gone = forget(document["id"], "--json").document()
    assert gone["delete"] == []
    assert [station["stage"] for station in gone["artifacts"] if station["role"] != "follows"] == [
        "ingest",
        "select",
        "deduplicate",
    ]
    assert {told.rpartition("(")[2] for told in gone["untold"]} == {
        "models:/tiny/1)",
        "models:/tiny-answers/1)",
        "models:/tiny-topics/1)",
    }
    assert not plan(workspace)["ingest"]["why"]
