"""`wordmill compare`: any two models on the same items, and nothing is moved."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow import MlflowClient

from tasks.promotion.history import read_history

if TYPE_CHECKING:
    from tests.flows.conftest import Built, Done

Command = Callable[..., "Done"]


def test_two_models_are_compared_on_what_travels_with_them_and_no_alias_moves(command: Command, built: "Built", tmp_path: Path) -> None:
    address = f"sqlite:///{built.workspace}/mlflow.db"
    before = read_history(MlflowClient(address, address), "tiny-answers")
    first, second = built.folder("pretrain"), built.folder("finetune: answers")
    page = tmp_path / "compare.html"
    done = command("compare", str(first), str(second), "--workspace", str(built.workspace), "--page", str(page), "--json")
    found = json.loads(done.out)
    labels = {one["task"]: one for one in found["comparisons"] if one["metric"] == "bits_per_byte"}
    assert labels.keys() == {"general text", "answers"}
    assert labels["answers"]["gain"] < 0, "the one that was tuned on them answers them better"
    assert labels["answers"]["items"] == labels["answers"]["clusters"] > 1
    assert str(second) in page.read_text(encoding="utf-8")
    assert read_history(MlflowClient(address, address), "tiny-answers") == before


def test_models_that_have_no_figure_in_common_are_refused(command: Command, built: "Built") -> None:
    writer, labeller = str(built.folder("pretrain")), str(built.folder("finetune: topics"))
    refused = command("compare", writer, labeller, "--workspace", str(built.workspace), "--suite", "configs/suites/quick.yaml")
    assert "have no figure in common" in refused.refusal()
