"""What the tests of the flows share: a tiny corpus and recipe, one Prefect server, and one workspace that was built once.

Tests that change a workspace get a copy of that one, so that a run of theirs builds only what they are about.
"""

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import psutil
import pytest

ROOT = Path(__file__).parents[2]
NAME = "tiny"  # of the recipe: MLflow experiment and registry name

WORDS = (
    "the a small river mill wheel turns grain into flour while old stones wait under water and children carry bread "
    "along quiet roads before evening light falls over fields of barley"
).split()
HAN = "磨坊旁边的小河流过田野水轮转动石磨把麦子变成面粉孩子们沿着安静的路把面包带回家傍晚光落在大麦上"
COPIES, TOO_SHORT = 3, 2

RECIPE = """
name: tiny
ingest:
  sources:
    - {name: stories, kind: jsonl, paths: [INPUT/stories.jsonl]}
    - {name: notes, kind: text, paths: [INPUT/notes]}
tokenizer: {vocab_size: 320}
shards: {context: 32}
model: {family: llama, layers: 1, width: 32, heads: 2, context: 32}
pretrain:
  steps: 8
  batch_tokens: 256
  optimizer: {learning_rate: 3.0e-3, warmup_steps: 2}
  evaluate_every: 4
  evaluate_batches: 1
  checkpoint_every: 4
  log_every: 1
  threads: 1
examples:
  - {name: topics, kind: classification, source: {kind: jsonl, paths: [INPUT/topics.jsonl]}}
  - {name: answers, kind: instruction, source: {kind: jsonl, paths: [INPUT/answers.jsonl]}}
finetune:
  - {name: topics, examples: topics, steps: 4, optimizer: {learning_rate: 1.0e-3}, log_every: 1, batch_rows: 4, threads: 1}
  - {name: answers, examples: answers, steps: 4, optimizer: {learning_rate: 1.0e-3}, log_every: 1, batch_rows: 4, threads: 1}
evaluate:
  suite: tiny
  max_documents: 4
  document_bytes: 256
  max_examples: 8
  max_responses: 2
  response_tokens: 8
  sample_tokens: 8
  prompts: ["The "]
  resamples: 100
register: {name: tiny, promote: always}
heldout: {share: 0.3}
"""


def english(source: random.Random, sentences: int) -> str:
    return " ".join(" ".join(source.choice(WORDS) for _ in range(9)).capitalize() + "." for _ in range(sentences))


def chinese(source: random.Random, sentences: int) -> str:
    return "".join("".join(source.choice(HAN) for _ in range(14)) + "。" for _ in range(sentences))


def write_lines(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_input(folder: Path) -> Path:
    """The recipe and everything it reads, the same on every call; returns the recipe's path."""
    source = random.Random(7)
    stories = [english(source, 8) for _ in range(30)] + [chinese(source, 12) for _ in range(14)]
    stories += stories[:COPIES] + ["Too short."] * TOO_SHORT
    write_lines(folder / "stories.jsonl", [{"text": text} for text in stories])
    (folder / "notes").mkdir()
    for number in range(4):
        (folder / "notes" / f"{number}.txt").write_text(english(source, 8), encoding="utf-8")
    topics = [("chinese", chinese), ("english", english)]
    rows = [{"text": f"{topics[n % 2][1](source, 2)} {n}", "label": topics[n % 2][0]} for n in range(40)]
    write_lines(folder / "topics.jsonl", rows)
    rows = [{"prompt": f"Tell of {source.choice(WORDS)} {n}", "response": english(source, 1)} for n in range(40)]
    write_lines(folder / "answers.jsonl", rows)
    recipe = folder / "tiny.yaml"
    recipe.write_text(RECIPE.replace("INPUT", str(folder)), encoding="utf-8")
    return recipe


@dataclass(frozen=True)
class Done:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    def document(self) -> dict:
        """The JSON document that a command with --json prints; fails with what the command complained of."""
        assert self.code == 0, self.err[-4000:]
        return json.loads(self.out)

    def refusal(self) -> str:
        """The one message of a command that refused the user's input."""
        assert (self.code, self.out) == (2, ""), self.out + self.err
        assert "Traceback" not in self.err
        assert self.err.startswith("error: ")
        return self.err


@dataclass(frozen=True)
class Mill:
    """The `wordmill` command in processes of its own, with nothing of this machine's settings."""

    environment: dict[str, str] = field(default_factory=dict)

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """In a process group of its own, as a shell starts a job."""
        return subprocess.Popen(
            [sys.executable, "-m", "flows.cli", *arguments],
            cwd=ROOT,
            env={**self.environment, **variables},
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def __call__(self, *arguments: str, **variables: str) -> Done:
        process = self.start(*arguments, **variables)
        return finish(process)

    def run(self, recipe: Path, workspace: Path, *overrides: str) -> Done:
        """`wordmill run --json`."""
        return self("run", str(recipe), "--workspace", str(workspace), "--json", *sets(overrides))


def finish(process: subprocess.Popen[str]) -> Done:
    try:
        out, err = process.communicate(timeout=200)
    finally:
        if process.poll() is None:
            kill_family(process.pid)
    return Done(process.returncode, out, err)


def sets(overrides: tuple[str, ...]) -> list[str]:
    return [part for override in overrides for part in ("--set", override)]


def kill_family(pid: int) -> None:
    """Ends a process that a test started, and its descendants."""
    try:
        process = psutil.Process(pid)
        family = [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, timeout=10)


def wait_for(claim: Callable[[], bool], what: str, process: subprocess.Popen[str] | None = None) -> None:
    """Returns once `claim` is true; fails when it never is, or when `process` ended before."""
    deadline = time.monotonic() + 240
    while not claim():
        if process is not None and process.poll() is not None and not claim():
            _, err = process.communicate()
            pytest.fail(f"the process ended before {what}:\n{err[-4000:]}")
        assert time.monotonic() < deadline, f"waited in vain for: {what}"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(url: str) -> bool:
    try:
        urlopen(url, timeout=2).close()
    except (URLError, OSError):
        return False
    return True


@pytest.fixture(scope="session")
def free() -> Callable[[], int]:
    """`free_port`."""
    return free_port


@pytest.fixture(scope="session")
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Without the settings of this machine's user, and with Prefect's home in a folder of its own."""
    home = tmp_path_factory.mktemp("prefect")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_", "RAY_"))}
    return {
        **kept,
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "NO_COLOR": "1",
        "COLUMNS": "160",
        "PWD": str(ROOT),
    }


@pytest.fixture(scope="session")
def prefect_api(clean_environment: dict[str, str]) -> Iterator[str]:
    """The API address of one Prefect server for all tests."""
    port, home = free_port(), clean_environment["PREFECT_HOME"]
    environment = {
        **clean_environment,
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home}/server.db",
        "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
    }
    with (Path(home) / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/api/health") or server.poll() is not None, "Prefect's server")
        assert server.poll() is None, (Path(home) / "server.log").read_text()[-2000:]
        yield f"http://127.0.0.1:{port}/api"
    finally:
        kill_family(server.pid)


@pytest.fixture(scope="session")
def mill(clean_environment: dict[str, str], prefect_api: str) -> Mill:
    """The command, with the tests' Prefect server."""
    return Mill({**clean_environment, "PREFECT_API_URL": prefect_api})


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny recipe, beside the files it reads."""
    return write_input(tmp_path_factory.mktemp("input"))


@dataclass(frozen=True)
class Built:
    """A workspace in which the tiny recipe ran, and what that run printed."""

    workspace: Path
    document: dict
    err: str

    def stage(self, label: str) -> dict:
        return next(stage for stage in self.document["stages"] if stage["stage"] == label)

    def folder(self, label: str) -> Path:
        """The artifact of a stage."""
        return self.workspace / label.partition(":")[0] / self.stage(label)["fingerprint"]


@pytest.fixture(scope="session")
def built(mill: Mill, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Built once; tests read it. What changes it takes `workspace`."""
    folder = tmp_path_factory.mktemp("built") / "workspace"
    done = mill.run(recipe, folder)
    return Built(folder, done.document(), done.err)


@pytest.fixture
def workspace(built: Built, tmp_path: Path) -> Path:
    """A copy of the built workspace."""
    return Path(shutil.copytree(built.workspace, tmp_path / "workspace"))


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Done]]:
    """The `wordmill` command in this process, for what needs no server; the environment is put back afterwards."""
    from flows.cli import main

    before = dict(os.environ)
    for name in before:
        if name.startswith(("PREFECT_API", "MLFLOW_")):
            monkeypatch.delenv(name)

    def call(*arguments: str) -> Done:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["wordmill", *arguments])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = capsys.readouterr()
        return Done(code, out, err)

    yield call
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def plan(command: Callable[..., Done], recipe: Path) -> Callable[..., dict[str, dict]]:
    """`wordmill plan --json` in this process: rows by label."""

    def call(workspace: Path, *overrides: str, of: Path = recipe) -> dict[str, dict]:
        done = command("plan", str(of), "--workspace", str(workspace), "--json", *sets(overrides))
        return {row["label"]: row for row in done.document()["stages"]}

    return call


@pytest.fixture(scope="session")
def wait_until() -> Callable[..., None]:
    """`wait_for`."""
    return wait_for
