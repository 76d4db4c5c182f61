"""A suite on the modules of Python: judged on what the model's recipe held out, or told of what it learned from."""

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from tasks.artifacts import describe
from tasks.evaluate.suite import EvaluateConfig
from tasks.ledger import Ledger, StageOutcome
from tasks.lineage import holdout
from tasks.lineage.artifact_graph import Node
from tasks.lineage.holdout import judged_apart, python_holdouts
from tasks.sampling import HeldOut
from tasks.settings import Json

SUITE = EvaluateConfig(documents="python")
DIGEST = "d" * 64


@dataclass(frozen=True)
class Text:
    group: str


@pytest.fixture(autouse=True)
def _library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library of a hundred modules."""
    monkeypatch.setattr(holdout, "python_texts", lambda _: [Text(""), *(Text(f"module{number}") for number in range(100))])
    monkeypatch.setattr(holdout, "python_digest", lambda: DIGEST)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "wordmill")
    return caplog


def node(folder: Path, stage: str, config: dict[str, Json], digest: str = DIGEST) -> Node:
    place = folder / f"{stage}-{len(list(folder.iterdir()))}"
    place.mkdir()
    manifest = describe(stage, place.name, config, {"file python": digest}, place, StageOutcome(Ledger()), 1.0)
    (place / "manifest.json").write_text(json.dumps(asdict(manifest)))
    return Node(stage, place.name, place, {}, "now", config, {}, frozenset())


def corpus(folder: Path, share: float, seed: int, kind: str = "python", digest: str = DIGEST) -> list[Node]:
    return [
        node(folder, "ingest", {"sources": [{"kind": kind}]}, digest),
        node(folder, "decontaminate", {"heldout_share": share, "heldout_seed": seed}),
    ]


def test_suite_that_names_no_hold_out_takes_that_of_the_models_recipe(tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
    config = judged_apart(SUITE, "m", corpus(tmp_path, 0.4, 7))
    assert (config.heldout_share, config.heldout_seed) == (0.4, 7)
    assert [record.getMessage() for record in said.records] == [
        "evaluate: judged on the modules that the model's recipe held out (share 0.4, seed 7)"
    ]


def test_modules_that_the_model_learned_from_are_counted_where_the_suite_says_otherwise(
    tmp_path: Path, said: pytest.LogCaptureFixture
) -> None:
    asked = EvaluateConfig(documents="python", heldout_share=0.5, heldout_seed=8)
    assert judged_apart(asked, "m", corpus(tmp_path, 0.4, 7)) == asked
    assert "modules judged on are among those that m learned from, whose recipe held out by share 0.4, seed 7. Fix: leave" in said.text
    said.clear()
    inner = EvaluateConfig(documents="python", heldout_share=0.2, heldout_seed=7)  # all of it was held out
    assert judged_apart(inner, "m", corpus(tmp_path, 0.4, 7)) == inner
    assert not said.text


def test_two_recipes_that_held_out_by_other_seeds_are_both_told(tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
    tuned = node(tmp_path, "examples", {"source": {"kind": "python_areas"}, "heldout_share": 0.3, "seed": 9})
    assert judged_apart(SUITE, "m", [*corpus(tmp_path, 0.4, 7), tuned]) == SUITE
    assert "whose recipe held out by share 0.3, seed 9 and share 0.4, seed 7" in said.text


def test_model_from_elsewhere_or_of_another_python_is_told_of(tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
    assert judged_apart(SUITE, "m", []) == SUITE
    assert "what m was trained on is not known here" in said.text
    judged_apart(SUITE, "m", corpus(tmp_path, 0.4, 7, digest="e" * 64))
    assert "m learned from the modules of another Python than this one" in said.text


def test_early_artifact_that_names_no_hold_out_had_the_one_that_is_the_default(tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
    early = [node(tmp_path, "ingest", {"sources": [{"kind": "python"}]}), node(tmp_path, "decontaminate", {"seed": 1})]
    assert list(python_holdouts(early)) == [HeldOut()]
    assert judged_apart(SUITE, "m", early) == SUITE
    assert "learned from" not in said.text


def test_model_of_other_text_is_judged_as_the_suite_says(tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
    assert judged_apart(SUITE, "m", corpus(tmp_path, 0.4, 7, kind="jsonl")) == SUITE
    assert not said.text
