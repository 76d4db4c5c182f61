"""A recipe with a corpus and a base: the registered model goes on learning new text, and some of the old."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from tests.tasks.foreign import write_bert, write_gpt2

if TYPE_CHECKING:
    from tests.flows.conftest import Built, Done, Mill

Command = Callable[..., "Done"]
RECIPE = """
name: continued
champion: {uri: models:/tiny@champion}
heldout: {share: 0.3}
ingest:
  sources:
    - {name: letters, kind: jsonl, paths: [INPUT/letters.jsonl]}
decontaminate: {validation_share: 0.2}
replay: {share: 0.25}
shards: {context: 32}
pretrain:
  steps: 8
  batch_tokens: 256
  optimizer: {learning_rate: 1.0e-3, warmup_steps: 2}
  evaluate_every: 4
  evaluate_batches: 1
  checkpoint_every: 4
  log_every: 1
  threads: 1
evaluate: {suite: tiny, max_documents: 8, document_bytes: 256, sample_tokens: 4, prompts: ["Dear "], resamples: 100, threads: 1}
register: {name: letters, promote: always}
"""
WORDS = "dear friend letter paper ink candle winter road home sister brother garden river stone bridge church bell".split()


@pytest.fixture(scope="session")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe, beside the text that is learned."""
    folder = tmp_path_factory.mktemp("letters")
    source = random.Random(3)
    texts = [" ".join(" ".join(source.choice(WORDS) for _ in range(9)).capitalize() + "." for _ in range(8)) for _ in range(40)]
    (folder / "letters.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    recipe = folder / "continued.yaml"
    recipe.write_text(RECIPE.replace("INPUT", str(folder)))
    return recipe


def figures(folder: Path) -> dict[str, float]:
    return json.loads((folder / "manifest.json").read_text())["figures"]


def test_champion_goes_on_learning_new_text_beside_its_own_and_the_report_says_what_changed(
    mill: "Mill", command: Command, built: "Built", workspace: Path, letters: Path
) -> None:
    document = mill.run(letters, workspace, "adapt.add_tokens=20").document()
    stages = {stage["stage"]: stage for stage in document["stages"]}
    assert {"champion", "tokenizer: of the base", "replay", "shards", "pretrain", "change", "evaluate: base", "gate: base"} <= stages.keys()
    folder = {label: workspace / label.partition(":")[0] / stage["fingerprint"] for label, stage in stages.items()}
    champion, after = (json.loads((folder[label] / "model" / "config.json").read_text()) for label in ("champion", "pretrain"))
    assert (after["hidden_size"], after["vocab_size"]) == (champion["hidden_size"], champion["vocab_size"] + 20)
    groups = sorted(path.name for path in (folder["shards"] / "train").iterdir())
    assert groups == ["general", "own"]
    audit = json.loads((folder["pretrain"] / "audit.json").read_text())
    assert {share["name"]: share["realised"] for share in audit["shares"] if share["kind"] == "group"} == {"general": 0.25, "own": 0.75}
    changed = figures(folder["change"])
    assert set(changed) == {f"bits_per_byte.{text}.{when}" for text in ("own", "general") for when in ("before", "after")}
    assert changed["bits_per_byte.own.after"] < changed["bits_per_byte.own.before"]
    assert changed["bits_per_byte.general.before"] == pytest.approx(figures(folder["evaluate: base"])["bits_per_byte"], abs=9)
    sources = set(pq.read_table(folder["memory: base"] / "memory" / "text.parquet")["source"].to_pylist())
    assert sources == {"letters", "stories", "notes"}, "what it learned now, and what its champion remembered"
    assert "What continuing changed" in (folder["report"] / "report.html").read_text()
    assert document["registered"][0]["name"] == "letters"
    seen = command("trace", stages["pretrain"]["fingerprint"], "--step", "3", "--workspace", str(workspace)).out
    assert ("letters" in seen, "memory of the base" in seen) == (True, True)

    def lengthened(fingerprint: str) -> "Done":
        sets = ("adapt.add_tokens=20", "pretrain.steps=12", f"pretrain.start={{from: '{fingerprint}', counts: anew}}")
        overrides = [part for override in sets for part in ("--set", override)]
        return command("plan", str(letters), "--workspace", str(workspace), *overrides)

    assert lengthened(stages["pretrain"]["fingerprint"]).code == 0
    scratch = built.stage("pretrain")["fingerprint"]
    assert f"pretrain/{scratch} did not go on from a base, as this recipe does" in lengthened(scratch).refusal()


def test_plan_of_a_continued_run_names_what_is_reused_and_takes_the_shape_of_its_base(
    command: Command, workspace: Path, letters: Path
) -> None:
    rows = command("plan", str(letters), "--workspace", str(workspace), "--json").document()
    (training,) = rows["trainings"]
    assert (training["label"], training["parameters"] > 0) == ("pretrain", True)
    assert [row["label"] for row in rows["stages"]][:2] == ["champion", "ingest"]
    assert rows["registers"] == {"base": "letters"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.layers=2"], "model: the shape is that of the base: leave the section out"),
        (["tokenizer.vocab_size=400"], "tokenizer: the base brings its own"),
        (["base.folder=x"], "a training goes on from champion or from base: give one of the two"),
        (["champion=null"], "replay: it is of a base that goes on learning, and there is none"),
        (["replay.sources=[wiki]"], "replay.sources: 'wiki' is none of ingest.sources: letters"),
        (["replay.sources=[letters]"], "replay.sources: all sources are general text, so nothing is left to learn"),
        (["shards.group_by=source"], "replay.share 0.25 weighs general text against own text, and so would shards.group_by"),
        (["pretrain.word_vectors=x"], "pretrain.word_vectors: the base has embeddings"),
        (["replay.share=0.3333"], "replay: share 0.3333 has more than three digits"),
        (["replay.shares=0.1"], "replay.shares: unknown key. Did you mean share?"),
    ],
)
def test_recipe_that_does_not_go_with_a_base_is_refused(command: Command, letters: Path, overrides: list[str], message: str) -> None:
    sets = [part for override in overrides for part in ("--set", override)]
    assert message in command("plan", str(letters), *sets).refusal()


def starting_from(folder: Path, *more: str) -> list[str]:
    """Overrides: another base, whose little tokenizer spells most words in letters."""
    return ["champion=null", f"base.folder={folder}", "adapt.allow_poor_fit=true", *more]


def changed_by(document: dict, workspace: Path) -> dict[str, float]:
    """Figures of the stage change."""
    return figures(workspace / "change" / next(one["fingerprint"] for one in document["stages"] if one["stage"] == "change"))


def test_folder_from_elsewhere_without_text_of_its_own_is_refused_with_what_to_do(mill: "Mill", letters: Path, tmp_path: Path) -> None:
    write_gpt2(tmp_path / "gpt2")
    done = mill.run(letters, tmp_path / "workspace", *starting_from(tmp_path / "gpt2"))
    assert done.code == 2
    assert "error: replay: the base brings no memory, expected memory/text.parquet, as a registered model has it. Fix: name the" in done.err
    document = mill.run(letters, tmp_path / "workspace", *starting_from(tmp_path / "gpt2", "replay.share=0")).document()
    found = changed_by(document, tmp_path / "workspace")
    assert found["bits_per_byte.own.after"] < found["bits_per_byte.own.before"]


def test_encoder_goes_on_filling_in(mill: "Mill", letters: Path, tmp_path: Path) -> None:
    write_bert(tmp_path / "bert")
    asked = starting_from(tmp_path / "bert", "replay.share=0", "pretrain.objective={kind: masked}")
    document = mill.run(letters, tmp_path / "workspace", *asked).document()
    assert set(changed_by(document, tmp_path / "workspace")) == {"masked_loss.own.before", "masked_loss.own.after"}
