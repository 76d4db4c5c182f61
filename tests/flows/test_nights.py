"""Nights, through a real Prefect and a real MLflow server: promoted only because it was better, and nothing lost."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from mlflow import MlflowClient

from tasks.promotion.decision import Decision, read_decision
from tasks.promotion.history import Entry, read_history, take_over
from tasks.promotion.new_rows import read_nights

if TYPE_CHECKING:
    from tests.flows.conftest import Built, Done, Mill

pytestmark = pytest.mark.timeout(600)
ROOT = Path(__file__).parents[2]
WORDS = "river mill wheel grain flour stone water bread road evening light field barley".split()
SHORT = "evaluate: {suite: nightly, max_responses: 2, response_tokens: 8, sample_tokens: 8, prompts: [The], resamples: 100}"
WRITER = """
name: writer
champion: {uri: models:/tiny-answers@champion}
night: {replay: 0.25}
examples:
  - {name: answers, kind: instruction, source: {kind: jsonl, paths: [ROWS]}}
finetune:
  - {name: answers, examples: answers, epochs: 3, batch_rows: 8, optimizer: {learning_rate: 3.0e-3, warmup_steps: 2}, threads: 1}
gate: {general_tolerance: 0.5}
heldout: {share: 0.3}
"""
LABELLER = """
name: labeller
champion: {uri: models:/tiny-topics@champion}
night: {replay: 0}
examples:
  - {name: topics, kind: classification, source: {kind: jsonl, paths: [ROWS]}}
finetune:
  - {name: topics, examples: topics, epochs: 3, batch_rows: 8, optimizer: {learning_rate: 5.0e-3, warmup_steps: 2}, threads: 1}
heldout: {share: 0.3}
"""


@pytest.fixture(scope="module")
def workspace(built: "Built", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the built one, in which three models are champions."""
    return Path(shutil.copytree(built.workspace, tmp_path_factory.mktemp("nights") / "workspace"))


@dataclass
class Server:
    """An MLflow server over the workspace's database."""

    address: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    wait_until: Callable[..., None]
    process: "subprocess.Popen[bytes] | None" = None

    def starts(self) -> None:
        with self.log.open("ab") as log:
            self.process = process = subprocess.Popen(
                self.command, cwd=ROOT, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        self.wait_until(lambda: answers(self.address) or process.poll() is not None, "MLflow's server")
        assert process.poll() is None, self.log.read_text()[-2000:]

    def falls_silent(self) -> None:
        """It takes connections, and never answers."""
        self._signal(signal.SIGSTOP)

    def dies(self) -> None:
        self._signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, number)


@pytest.fixture(scope="module")
def server(
    workspace: Path, clean_environment: dict[str, str], free: Callable[[], int], wait_until: Callable[..., None]
) -> Iterator[Server]:
    port = free()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{workspace}/mlflow.db", "--default-artifact-root", (workspace / "mlartifacts").as_uri()]
    command += ["--no-serve-artifacts"]
    server = Server(f"http://127.0.0.1:{port}", command, clean_environment, workspace / "server.log", wait_until)
    try:
        server.starts()
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.dies()


@pytest.fixture(scope="module")
def registry(server: Server) -> str:
    """Its address."""
    return server.address


def answers(address: str) -> bool:
    from urllib.error import URLError
    from urllib.request import urlopen

    try:
        urlopen(f"{address}/health", timeout=2).close()
    except (URLError, OSError):
        return False
    return True


@pytest.fixture(scope="module")
def night(mill: "Mill", workspace: Path, registry: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., "Done"]:
    """`wordmill run` of a night's recipe over all rows that were given so far, against the servers."""
    folder = tmp_path_factory.mktemp("rows")

    def run(recipe: str, rows: list[dict[str, str]], *overrides: str) -> "Done":
        name = recipe.split("\n")[1].removeprefix("name: ")
        kept = folder / name
        kept.mkdir(exist_ok=True)
        if rows:
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (kept / f"{len(list(kept.iterdir()))}.jsonl").write_text(lines, encoding="utf-8")
        path = folder / f"{name}.yaml"
        path.write_text(f"{recipe}{SHORT}\n".replace("ROWS", f"{kept}/*.jsonl"), encoding="utf-8")
        changes = [part for change in overrides for part in ("--set", change)]
        return mill("run", str(path), "--workspace", str(workspace), "--json", *changes, MLFLOW_TRACKING_URI=registry)

    return run


def sentence(source: random.Random, words: int) -> str:
    return " ".join(source.choice(WORDS) for _ in range(words)).capitalize() + "."


def told(source: random.Random, count: int, verb: str) -> list[dict[str, str]]:
    return [{"prompt": f"{verb} {source.choice(WORDS)} {n}", "response": sentence(source, 8)} for n in range(count)]


def champion(registry: str, name: str) -> str:
    return str(MlflowClient(registry, registry).get_model_version_by_alias(name, "champion").version)


def last_decision(done: "Done", workspace: Path) -> Decision:
    stages = done.document()["stages"]
    (gate,) = (stage for stage in stages if stage["stage"].startswith("gate"))
    return read_decision(workspace / "gate" / gate["fingerprint"])


def test_writer_is_promoted_for_rows_that_help_and_refused_for_rows_that_harm_general_text(
    night: Callable[..., "Done"], workspace: Path, registry: str
) -> None:
    source = random.Random(3)
    done = night(WRITER, told(source, 160, "Tell of"))
    decision = last_decision(done, workspace)
    assert decision.verdict == "promoted", decision.why
    assert champion(registry, "tiny-answers") == "2"
    version = MlflowClient(registry, registry).get_model_version("tiny-answers", "2")
    assert (version.tags["wordmill.verdict"], json.loads(version.tags["wordmill.decision"])["verdict"]) == ("promoted", "promoted")
    assert "Promoted" in (workspace / "morning.html").read_text(encoding="utf-8")

    done = night(WRITER, [])
    assert (done.document()["stages"], done.document()["notes"]) == ([], ["nothing new"])
    assert champion(registry, "tiny-answers") == "2"

    shouted = [{"prompt": f"Shout {source.choice(WORDS)} {n}", "response": "ZQ" * 20 + str(n)} for n in range(160)]
    done = night(WRITER, shouted, "gate.general_tolerance=0.05", "night.replay=0", "finetune.0.epochs=6")
    decision = last_decision(done, workspace)
    assert decision.verdict == "refused", decision.why
    assert decision.comparisons[0].passed, "it is better at what it was asked"
    assert "guard general text" in decision.why
    assert champion(registry, "tiny-answers") == "2"
    verdicts = [entry.kind for entry in read_history(MlflowClient(registry, registry), "tiny-answers")]
    assert verdicts == ["promoted", "promoted", "refused"]
    assert [one.verdict for one in read_nights(workspace, "writer")] == ["promoted", "refused"]


def test_labeller_is_refused_for_rows_with_wrong_labels_and_rows_that_are_judged_on_are_set_aside(
    night: Callable[..., "Done"], workspace: Path, registry: str, recipe: Path
) -> None:
    known = [json.loads(line) for line in (recipe.parent / "topics.jsonl").read_text(encoding="utf-8").splitlines()]
    other = {"chinese": "english", "english": "chinese"}
    wrong = [{"text": f"{row['text']} again {n}", "label": other[row["label"]]} for n in range(3) for row in known]
    done = night(LABELLER, [*wrong, *known], "gate.min_items=5")
    decision = last_decision(done, workspace)
    assert decision.verdict == "refused", decision.why
    assert champion(registry, "tiny-topics") == "1"
    (gathered,) = (stage for stage in done.document()["stages"] if stage["stage"].startswith("gather"))
    assert sum(count for reason, count in gathered["dropped"].items() if "held_out" in reason) > 0, gathered["dropped"]


def test_two_nights_at_once_are_one_night(
    mill: "Mill", night: Callable[..., "Done"], workspace: Path, registry: str, tmp_path: Path
) -> None:
    """The second one waits for the first, and finds nothing new."""
    from tests.flows.conftest import finish

    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in told(random.Random(5), 40, "Sing of")), encoding="utf-8")
    path = tmp_path / "twice.yaml"
    text = WRITER.replace("name: writer", "name: twice").replace("ROWS", str(rows))
    path.write_text(text + SHORT, encoding="utf-8")
    command = ("run", str(path), "--workspace", str(workspace), "--json")
    nights = [mill.start(*command, MLFLOW_TRACKING_URI=registry) for _ in range(2)]
    found = [finish(process).document() for process in nights]
    assert sorted(len(document["stages"]) > 0 for document in found) == [False, True]
    assert next(document["notes"] for document in found if not document["stages"]) == ["nothing new"]
    assert len(read_nights(workspace, "twice")) == 1


def test_night_that_fails_leaves_champion_and_rows_as_they_were(night: Callable[..., "Done"], workspace: Path, registry: str) -> None:
    before = champion(registry, "tiny-topics")
    rows = [{"text": f"{word} {n}", "label": "english"} for n, word in enumerate(WORDS)]
    failed = night(LABELLER, rows, "finetune.0.optimizer.learning_rate=1e30", "finetune.0.epochs=30")  # long enough to give up
    assert failed.code == 2, failed.err[-2000:]
    assert "Failed" in (workspace / "morning.html").read_text(encoding="utf-8")
    assert champion(registry, "tiny-topics") == before
    assert [one.verdict for one in read_nights(workspace, "labeller")] == ["refused"]


def test_night_that_finds_the_registry_silent_ends_and_its_challenger_is_registered_by_a_server_that_was_killed_and_restarted(
    mill: "Mill", workspace: Path, server: Server, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    from tests.flows.conftest import finish

    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in told(random.Random(7), 60, "Write of")), encoding="utf-8")
    path = tmp_path / "silent.yaml"
    path.write_text(WRITER.replace("name: writer", "name: silent").replace("ROWS", str(rows)) + SHORT, encoding="utf-8")
    known = set(workspace.glob("gather/*"))
    command = ("run", str(path), "--workspace", str(workspace), "--json", "--set", "register.wait_seconds=2")
    process = mill.start(*command, MLFLOW_TRACKING_URI=server.address, MLFLOW_HTTP_REQUEST_TIMEOUT="5")
    wait_until(lambda: {one for one in workspace.glob("gather/*") if one.suffix != ".partial"} - known, "its rows", process)
    server.falls_silent()
    document = finish(process).document()
    server.dies()
    (note,) = (told for told in document["notes"] if told.startswith("registration waits"))
    assert document["registered"] == []
    assert [one.verdict for one in read_nights(workspace, "silent")] == ["waiting"]
    register = ("register", note.split()[-1], "--workspace", str(workspace))
    assert server.address in mill(*register, MLFLOW_TRACKING_URI=server.address).refusal()
    server.starts()
    registered = mill(*register, MLFLOW_TRACKING_URI=server.address)
    assert registered.code == 0, registered.err[-2000:]
    assert not list((workspace / "waiting").glob("*.json"))
    newest = read_history(MlflowClient(server.address, server.address), "tiny-answers")[-1]
    assert newest.fingerprint == note.split()[-1]


def test_of_runs_that_promote_at_once_through_the_server_one_wins(registry: str) -> None:
    client = MlflowClient(registry, registry)
    client.create_registered_model("raced")
    for number in range(1, 7):
        client.create_model_version("raced", f"wordmill:/raced/{number}")

    def promote(version: int) -> bool:
        entry = Entry(0, "promoted", "2026-01-01T00:00:00+00:00", f"host {version}", str(version), "", str(version), "better")
        return take_over(MlflowClient(registry, registry), "raced", entry)

    with ThreadPoolExecutor(6) as pool:
        won = list(pool.map(promote, range(1, 7)))
    assert sum(won) == 1
    assert champion(registry, "raced") == str(won.index(True) + 1)
