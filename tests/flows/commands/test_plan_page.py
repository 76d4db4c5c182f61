"""What `wordmill plan` shows before anything is spent."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flows.commands.plan_page import span
from tasks.artifacts import Workspace
from tasks.planning.estimate import Estimate
from tasks.planning.training_work import MEMORY_PARTS
from tests.earlier_runs import leave_stage

if TYPE_CHECKING:
    from tests.flows.conftest import Built, Done

ROOT = Path(__file__).parents[3]
DEMO, FULL, ADAPT = (str(ROOT / "configs" / f"{name}.yaml") for name in ("demo", "full", "adapt"))
Command = Callable[..., "Done"]


@pytest.fixture
def shown(command: Command, tmp_path: Path) -> Callable[..., str]:
    """The page of a recipe in an empty workspace."""

    def call(recipe: str, *overrides: str) -> str:
        sets = [part for override in overrides for part in ("--set", override)]
        done = command("plan", recipe, "--workspace", str(tmp_path / "workspace"), *sets)
        assert done.code == 0, done.err
        return done.out

    return call


@pytest.fixture
def told(command: Command, tmp_path: Path) -> Callable[..., dict]:
    """The same as data."""

    def call(recipe: str, *overrides: str, workspace: Path | None = None) -> dict:
        sets = [part for override in overrides for part in ("--set", override)]
        return command("plan", recipe, "--workspace", str(workspace or tmp_path / "workspace"), "--json", *sets).document()

    return call


def test_plan_without_any_earlier_run_says_what_it_knows_and_what_it_does_not(shown: Callable[..., str], tmp_path: Path) -> None:
    page = shown(DEMO)
    assert all(name in page for name in MEMORY_PARTS)
    assert "all stages: never built in this workspace" in page
    assert "GFLOP/s here" in page
    assert "cost: unknown; set prices.machine_hour" in page
    assert "arXiv 2203.15556" in page
    assert not (tmp_path / "workspace").exists()


def test_plan_for_gpus_that_are_not_here_tells_both(told: Callable[..., dict]) -> None:
    pretrain = told(FULL)["trainings"][0]
    assert pretrain["hardware"] == {"name": "8 x H100", "here": False, "assumed": False}
    assert pretrain["estimate"]["from"] == "at 40 % MFU of an H100 (989.5 TFLOP/s)"
    assert pretrain["here"]["seconds"] > 100 * pretrain["estimate"]["seconds"]
    assert pretrain["memory"]["verdict"] == "fits"


def test_training_that_does_not_fit_is_shown_with_settings_that_do(shown: Callable[..., str]) -> None:
    page = shown(FULL, "cluster.device_memory=6GB")
    assert "pretrain does not fit: " in page
    assert "most of it activations" in page
    assert page.count("  would fit: --set ") >= 3


def test_long_training_is_shown_with_shorter_ones(shown: Callable[..., str]) -> None:
    page = shown(DEMO, "pretrain.steps=1000000000")
    assert "through in a day: --set pretrain.steps=" in page


def test_cost_follows_from_prices(told: Callable[..., dict]) -> None:
    total = told(FULL, "prices={gpu_hour: 2.5, machine_hour: 0.4, currency: EUR}")["total"]
    seconds = total["wall"]["seconds"]
    assert total["currency"] == "EUR"
    assert total["cost"]["amount"] == pytest.approx(seconds / 3600 * (8 * 2.5 + 0.4), rel=1e-3)


def test_price_that_is_none_is_refused_with_its_place(command: Command) -> None:
    refusal = command("plan", DEMO, "--set", "prices.gpu_hour=-1").refusal()
    assert "prices.gpu_hour" in refusal
    refusal = command("plan", DEMO, "--set", "prices.gpu_hours=1").refusal()
    assert "Did you mean gpu_hour?" in refusal
    refusal = command("plan", DEMO, "--set", "report.currency_per_hour=1").refusal()
    assert "prices: {machine_hour: 1" in refusal


def test_unknown_gpu_is_refused_with_those_that_are_known(command: Command) -> None:
    assert "H100" in command("plan", DEMO, "--set", "cluster.gpu=Z80").refusal()


def test_cached_stages_take_no_time_and_changed_ones_what_they_took(told: Callable[..., dict], recipe: Path, built: "Built") -> None:
    found = told(str(recipe), "finetune.0.optimizer.learning_rate=5.0e-4", workspace=built.workspace)
    stages = {row["label"]: row for row in found["stages"]}
    assert stages["ingest"]["estimate"] is None
    assert stages["finetune: topics"]["estimate"]["from"] == "1 earlier run"
    assert stages["finetune: topics"]["estimate"]["seconds"] == pytest.approx(built.stage("finetune: topics")["seconds"], rel=0.5)
    assert stages["evaluate: topics"]["estimate"]["seconds"] == pytest.approx(built.stage("evaluate: topics")["seconds"], rel=0.05)
    assert found["total"]["unknown"] == []
    assert found["total"]["wall"]["seconds"] <= found["total"]["seconds"]["seconds"]
    trained = {one["label"]: one for one in found["trainings"]}
    assert trained["pretrain"]["cached"]
    assert trained["finetune: topics"]["memory"]["measured"] > 0


def test_recipe_with_a_base_is_told_the_memory_of_its_shape(told: Callable[..., dict], built: "Built") -> None:
    (training,) = told(ADAPT, f"base.folder={built.folder('pretrain')}")["trainings"]
    assert training["parameters"] == int(built.document["stages"] and _parameters(built))
    assert training["trained"] < 0.5 * training["parameters"]
    assert training["memory"]["peak"] > training["memory"]["weights"]


def _parameters(built: "Built") -> float:
    from tasks.artifacts import read_manifest

    manifest = read_manifest(built.folder("pretrain"))
    assert manifest is not None
    return manifest.figures["parameters"]


def test_earlier_run_of_the_same_stage_is_named_as_the_source(told: Callable[..., dict], tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace").open()
    leave_stage(workspace, "report", "a1", 7.0)
    rows = {row["label"]: row for row in told(DEMO)["stages"]}
    assert rows["report"]["estimate"]["seconds"] == 7.0
    assert rows["ingest"]["estimate"] is None


def test_span_has_the_unit_of_its_size() -> None:
    assert span(Estimate(21.04, 16, 28, "")) == "21 s (16–28)"
    assert span(Estimate(288, 213, 390, "")) == "4.8 min (3.5–6.5)"
    assert span(Estimate(41 * 86400, 14 * 86400, 120 * 86400, "")) == "41 days (14–120)"
