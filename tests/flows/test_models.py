"""`wordmill generate` and `wordmill evaluate` on what a run made."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.flows.conftest import Built, Done

Command = Callable[..., "Done"]
SHORT = ["--max-tokens", "6"]


@pytest.fixture(params=["folder", "registry", "fingerprint", "run"])
def model(request: pytest.FixtureRequest, built: "Built") -> str:
    """The pretrained model, by each of its names."""
    if request.param == "run":
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{built.workspace}/mlflow.db")
        (version,) = client.search_model_versions("name = 'tiny'")
        return str(version.run_id)
    names = {
        "folder": str(built.folder("pretrain")),
        "registry": "models:/tiny@champion",
        "fingerprint": built.stage("pretrain")["fingerprint"][:8],
    }
    return names[request.param]


def test_generate_prints_as_many_continuations_as_asked(command: Command, built: "Built", model: str) -> None:
    done = command("generate", model, "The mill", "--count", "3", *SHORT, "--workspace", str(built.workspace))
    assert done.code == 0, done.err
    assert [f"--- {number} ---" in done.out for number in (1, 2, 3, 4)] == [True, True, True, False]
    assert done.out.count("The mill") >= 3


def test_same_seed_gives_the_same_text_and_another_seed_another(command: Command, built: "Built") -> None:
    def said(seed: int) -> str:
        model = str(built.folder("pretrain"))
        return command("generate", model, "The", "--seed", str(seed), "--max-tokens", "20", "--temperature", "1").out

    assert said(3) == said(3) != said(4)


def test_classifier_labels_the_prompt(command: Command, built: "Built") -> None:
    folder = str(built.folder("finetune: topics"))
    done = command("generate", folder, "The")
    assert done.code == 0, done.err
    assert all("%  " in line for line in done.out.splitlines())
    assert "--seed: a SequenceClassifier has no use for it" in command("generate", folder, "The", "--seed", "2").refusal()


def test_evaluate_scores_a_model_on_a_suite(command: Command, built: "Built", workspace: Path, tmp_path: Path) -> None:
    suite = tmp_path / "suite.yaml"
    suite.write_text("suite: small\ndocuments: python\ntasks: [bits_per_byte]\nmax_documents: 2\ndocument_bytes: 64\nresamples: 100\n")
    done = command("evaluate", str(built.folder("pretrain")), "--suite", str(suite), "--workspace", str(workspace), "--json")
    rows = {row["model"]: row for row in done.document()["scores"]}
    assert set(rows) == {"model", "unigram"}
    row = rows["model"]
    assert (row["suite"], row["metric"], row["n"], row["seed"]) == ("small", "bits_per_byte", 2, 1)
    assert row["ci_low"] <= row["value"] <= row["ci_high"]
