"""Which stages a change makes run again, and how the plan says why."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flows.pretrain import pretrain
from flows.recipe import Recipe
from flows.runner.plan import Plan
from tasks.artifacts import Workspace
from tests.flows.recipe_text import load_recipe

if TYPE_CHECKING:
    from tests.flows.conftest import Built, Mill

ROOT = Path(__file__).parents[3]
Planner = Callable[..., dict[str, dict]]

MODELS = ("base", "topics", "answers")
CONTESTS = {*(f"{stage}: {model}" for stage in ("gate", "register") for model in MODELS), "report"}
EVALUATIONS = {*(f"evaluate: {model}" for model in MODELS), *CONTESTS}
AFTER_SHARDS = {"pretrain", "finetune: topics", "finetune: answers", *(f"memory: {model}" for model in MODELS), *EVALUATIONS}
AFTER_TOKENIZER = {"shards", *AFTER_SHARDS}
AFTER_DEDUPLICATE = {"decontaminate", "tokenizer", *AFTER_TOKENIZER}
AFTER_SELECT = {"deduplicate", *AFTER_DEDUPLICATE}
TUNING_OF_TOPICS = {*(f"{stage}: topics" for stage in ("finetune", "evaluate", "memory", "gate", "register")), "report"}


def waiting(rows: dict[str, dict]) -> set[str]:
    return {label for label, row in rows.items() if not row["cached"]}


def test_nothing_waits_after_a_run(plan: Planner, built: "Built") -> None:
    assert waiting(plan(built.workspace)) == set()


def test_everything_waits_in_a_new_workspace_and_none_is_made(plan: Planner, tmp_path: Path) -> None:
    rows = plan(tmp_path / "new")
    assert all(row["why"] == ["never built in this workspace"] for row in rows.values())
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "override",
    [
        "concurrency=1",
        "pretrain.workers=2",
        "pretrain.threads=3",
        "pretrain.gpus_per_worker=1",
        "finetune.0.threads=2",
        "finetune.1.workers=2",
        "cluster.address=auto",
        "cluster.object_store_bytes=99999999",
        "files.workers=1",
        "files.place=ray",
        "register.wait_seconds=5",
    ],
)
def test_where_and_how_fast_a_stage_runs_makes_nothing_run_again(plan: Planner, built: "Built", override: str) -> None:
    assert waiting(plan(built.workspace, override)) == set()


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("clean.annotate.repairs.nfc=false", {"annotate", "select", *AFTER_SELECT}),
        ("clean.select.presets=[gopher]", {"select", *AFTER_SELECT}),
        ("deduplicate.threshold=0.8", {"deduplicate", *AFTER_DEDUPLICATE}),
        ("decontaminate.ngram_words=9", AFTER_DEDUPLICATE),
        ("tokenizer.vocab_size=300", {"tokenizer", *AFTER_TOKENIZER}),
        ("shards.seed=2", AFTER_TOKENIZER),
        ("model.layers=2", AFTER_SHARDS),
        ("pretrain.optimizer.warmup_steps=3", AFTER_SHARDS),
        ("examples.0.limit=30", {"examples: topics", *AFTER_DEDUPLICATE}),
        ("finetune.0.optimizer.learning_rate=5.0e-4", TUNING_OF_TOPICS),
        ("evaluate.seed=2", EVALUATIONS),
        ("gate.margin=0.01", CONTESTS),
        ("register.promote=better", CONTESTS),
        ("register.name=other", CONTESTS),
        ("name=other", set()),
    ],
)
def test_change_makes_its_stage_and_those_behind_it_run(plan: Planner, built: "Built", override: str, expected: set[str]) -> None:
    assert waiting(plan(built.workspace, override)) == expected


def moved_input(recipe: Path, folder: Path) -> Path:
    """A copy of recipe and sources in another folder."""
    shutil.copytree(recipe.parent, folder)
    copy = folder / recipe.name
    copy.write_text(copy.read_text().replace(str(recipe.parent), str(folder)))
    return copy


def test_sources_that_moved_are_the_same_sources(plan: Planner, built: "Built", recipe: Path, tmp_path: Path) -> None:
    assert waiting(plan(built.workspace, of=moved_input(recipe, tmp_path / "elsewhere"))) == set()


def test_one_changed_byte_of_a_source_makes_all_that_reads_it_run(plan: Planner, built: "Built", recipe: Path, tmp_path: Path) -> None:
    copy = moved_input(recipe, tmp_path / "elsewhere")
    note = tmp_path / "elsewhere" / "notes" / "2.txt"
    note.write_bytes(note.read_bytes().replace(b".", b"!", 1))
    rows = plan(built.workspace, of=copy)
    assert waiting(rows) == {"ingest", "annotate", "select", *AFTER_SELECT}
    assert rows["ingest"]["why"] == ["file notes/2.txt: changed"]


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("deduplicate", AFTER_SELECT),
        ("tokenizer", {"tokenizer", *AFTER_TOKENIZER}),
        ("pretrain", AFTER_SHARDS),
        ("evaluate", EVALUATIONS),
        ("gate", CONTESTS),
    ],
)
def test_raised_revision_voids_a_stage_and_those_behind_it(built: "Built", recipe: Path, section: str, expected: set[str]) -> None:
    loaded = load_recipe(Recipe, str(recipe))
    config = getattr(loaded, section)
    raised = loaded.model_copy(update={section: config.model_copy(update={"revision": config.revision + 1})})
    planned = Plan(Workspace(built.workspace), f"sqlite:///{built.workspace}/mlflow.db")
    pretrain(planned, raised)
    assert {row.label for row in planned.rows if not row.cached} == expected
    first = next(row for row in planned.rows if not row.cached)
    assert first.why[0].endswith(f"revision: {config.revision} → {config.revision + 1}")


def test_plan_waits_for_no_library_that_only_a_run_needs(clean_environment: dict[str, str], recipe: Path, tmp_path: Path) -> None:
    heavy = {"prefect", "mlflow", "ray", "torch", "transformers", "scipy.stats"}
    program = f"import sys; from flows.cli import cli; cli(sys.argv[1:], standalone_mode=False); print({heavy!r} & set(sys.modules))"
    plan = [sys.executable, "-c", program, "plan", str(recipe), "--workspace", str(tmp_path)]
    done = subprocess.run(plan, cwd=ROOT, env=clean_environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["set()"]), done.stderr


def test_plan_names_the_field_that_changed(plan: Planner, built: "Built") -> None:
    rows = plan(built.workspace, "finetune.0.optimizer.learning_rate=5.0e-4")
    assert rows["finetune: topics"]["why"] == [
        "optimizer.final_learning_rate: 0.0001 → 5e-05",
        "optimizer.learning_rate: 0.001 → 0.0005",
    ]
    assert rows["evaluate: topics"]["why"] == ["model: changed"]
    assert rows["gate: topics"]["why"] == ["memory: changed", "model: changed", "scores: changed"]


def test_plan_names_the_rule_of_the_gate_that_changed(plan: Planner, built: "Built") -> None:
    rows = plan(built.workspace, "gate.margin=0.01")
    assert rows["gate: topics"]["why"] == ["contest.gate.margin: 0.0 → 0.01"]


def test_plan_names_the_file_that_is_gone(plan: Planner, workspace: Path, built: "Built") -> None:
    (workspace / "tokenizer" / built.stage("tokenizer")["fingerprint"] / "tokenizer.json").unlink()
    rows = plan(workspace)
    assert waiting(rows) == {"tokenizer"}
    assert "tokenizer.json is missing" in rows["tokenizer"]["why"][0]


def test_run_does_what_the_plan_said(mill: "Mill", plan: Planner, recipe: Path, workspace: Path) -> None:
    change = "finetune.0.optimizer.learning_rate=5.0e-4"
    planned = plan(workspace, change)
    done = mill.run(recipe, workspace, change).document()
    assert {s["stage"]: (s["fingerprint"], s["status"] == "cached") for s in done["stages"]} == {
        label: (row["fingerprint"], row["cached"]) for label, row in planned.items()
    }
    assert waiting(plan(workspace, change)) == set()
