"""Figures reach MLflow by way of the journal: none is lost, none counts twice, and no run waits for a server."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError
from urllib.request import urlopen

import psutil
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import RestException

from tasks.artifacts import Workspace
from tasks.errors import UserError, machine_fault
from tasks.tracking import journal as journal_module
from tasks.tracking.address import registry_name, require_answer, tracking_address
from tasks.tracking.journal import (
    Bookmark,
    Journal,
    Sender,
    mlflow_run,
    pending,
    read_bookmark,
    start_sender,
    unsent_entries,
    write_bookmark,
)
from tasks.tracking.sender import send, send_all

ROOT = Path(__file__).parents[2]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal", "experiment", "run", {"colour": "red"})


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> MlflowClient:
    """Of a database without a server."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
    return MlflowClient(uri, uri)


def points(client: MlflowClient, run: str, metric: str) -> list[tuple[int, float]]:
    return sorted((point.step, point.value) for point in client.get_metric_history(run, metric))


def test_every_kind_of_entry_arrives(journal: Journal, client: MlflowClient, tmp_path: Path) -> None:
    child = journal.child("stage", {"wordmill.stage": "clean"})
    journal.params(child, {"steps": "8"})
    journal.metrics(child, {"loss": 2.5}, step=3)
    journal.tags(child, {"device": "cpu"})
    journal.dataset(child, "raw", "0123456789abcdef", "/somewhere", {})
    (tmp_path / "note.txt").write_text("hello")
    journal.artifact(child, tmp_path / "note.txt")
    journal.table(child, "ledger", {"what": ["in", "out"], "rows": [3, 2]})
    journal.end(child, "FINISHED")
    journal.end(journal.run, "KILLED")
    journal.close()
    assert send(journal.path, client, tmp_path / "artifacts")
    runs = read_bookmark(journal.path).runs
    parent, found = client.get_run(runs[journal.run]), client.get_run(runs[child])
    assert (parent.info.status, parent.info.run_name, parent.data.tags["colour"]) == ("KILLED", "run", "red")
    assert (found.info.status, found.data.tags["mlflow.parentRunId"]) == ("FINISHED", runs[journal.run])
    assert (found.data.params["steps"], found.data.tags["device"]) == ("8", "cpu")
    assert points(client, runs[child], "loss") == [(3, 2.5)]
    assert [(d.dataset.name, d.dataset.digest) for d in found.inputs.dataset_inputs] == [("raw", "0123456789abcdef")]
    assert [file.path for file in client.list_artifacts(runs[child])] == ["ledger.json", "note.txt"]
    table = Path(client.download_artifacts(runs[child], "ledger.json", str(tmp_path))).read_text()
    assert json.loads(table) == {"columns": ["what", "rows"], "data": [["in", 3], ["out", 2]]}
    tag = client.get_run(runs[child]).data.tags["mlflow.loggedArtifacts"]
    assert json.loads(tag) == [{"path": "ledger.json", "type": "table"}]


def test_sending_a_journal_twice_changes_nothing(journal: Journal, client: MlflowClient, tmp_path: Path) -> None:
    journal.params(journal.run, {"steps": "8"})
    for step in range(5):
        journal.metrics(journal.run, {"loss": step / 2}, step)
    journal.close()
    send(journal.path, client, tmp_path)
    run = read_bookmark(journal.path).runs[journal.run]
    write_bookmark(journal.path, Bookmark(0, {}))  # as if the sender had died before it wrote the bookmark
    send(journal.path, client, tmp_path)
    assert read_bookmark(journal.path).runs[journal.run] == run
    assert points(client, run, "loss") == [(step, step / 2) for step in range(5)]


def test_figures_that_are_not_finite_are_left_out(journal: Journal, client: MlflowClient, tmp_path: Path) -> None:
    journal.metrics(journal.run, {"a": float("nan"), "b": float("inf"), "c": 1.0})
    journal.metrics(journal.run, {"a": float("-inf")})
    journal.close()
    send(journal.path, client, tmp_path)
    assert client.get_run(read_bookmark(journal.path).runs[journal.run]).data.metrics == {"c": 1.0}


def test_torn_last_line_waits_for_its_rest(journal: Journal) -> None:
    with journal.path.open("a") as file:
        file.write('{"kind": "metrics", ')
    assert len(pending(journal.path)) == 1
    assert unsent_entries(journal.path.parent) == 1


def test_full_disk_is_told_with_the_journal_that_it_held_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.tracking.journal.uuid.uuid4", lambda: SimpleNamespace(hex="full"))
    (tmp_path / "full.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as fault:
        Journal(tmp_path, "experiment", "run", {})
    assert "no space left on the disk (" + str(tmp_path / "full.jsonl") in str(machine_fault(fault.value))


def test_closed_journal_takes_no_more(journal: Journal) -> None:
    journal.close()
    before = journal.path.read_bytes()
    journal.metrics(journal.run, {"loss": 1.0})
    assert journal.path.read_bytes() == before


def test_journal_that_is_still_open_is_not_done(journal: Journal, client: MlflowClient, tmp_path: Path) -> None:
    assert not send(journal.path, client, tmp_path)
    assert pending(journal.path) == []
    journal.close()
    assert send(journal.path, client, tmp_path)


WRITE = """
import sys, time
from pathlib import Path
from tasks.tracking.journal import Journal
journal = Journal(Path(sys.argv[1]), "experiment", "run", {})
journal.metrics(journal.child("stage", {}), {"loss": 1.0})
journal.end(journal.child("done", {}), "FINISHED")
print(journal.path, flush=True)
time.sleep(600)
"""


def test_runs_of_a_killed_writer_are_closed_as_killed(client: MlflowClient, tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    path = Path(writer.stdout.readline().strip())
    assert not send(path, client, tmp_path)
    writer.kill()
    writer.communicate()
    assert send(path, client, tmp_path)
    found = [client.get_run(run).info for key, run in read_bookmark(path).runs.items() if key != "closed"]
    assert {info.run_name: info.status for info in found} == {"run": "KILLED", "stage": "KILLED", "done": "FINISHED"}


def test_end_of_a_run_does_not_wait_for_another_and_its_sender_is_relieved(tmp_path: Path) -> None:
    folder, uri = tmp_path / "journal", f"sqlite:///{tmp_path}/mlflow.db"
    first, second = Journal(folder, "experiment", "first", {}), Journal(folder, "experiment", "second", {})
    sender = start_sender(folder, uri, tmp_path)
    first.close()
    assert sender.drain(first.path, seconds=200) == 0
    assert sender.process.poll() is None
    relief = start_sender(folder, uri, tmp_path)
    sender.process.kill()  # as it ends with the first run
    sender.process.wait()
    second.metrics(second.run, {"loss": 1.0})
    second.close()
    assert relief.drain(second.path, seconds=200) == 0
    assert points(MlflowClient(uri), read_bookmark(second.path).runs[second.run], "loss") == [(0, 1.0)]


def test_stuck_journal_of_another_run_delays_the_end_of_this_one_by_seconds_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "OTHERS_SECONDS", 0.3)
    folder = tmp_path / "journal"
    own, stuck = Journal(folder, "experiment", "own", {}), Journal(folder, "experiment", "stuck", {})
    own.close()
    idle = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])  # a stand-in for a sender that gets nowhere
    write_bookmark(own.path, Bookmark(own.path.stat().st_size, {}))
    started = time.monotonic()
    assert Sender(idle, folder).drain(own.path, seconds=30) == len(pending(stuck.path)) == 1
    assert time.monotonic() - started < 5
    assert idle.wait(timeout=10) != 0


class Refusing(MlflowClient):
    """MLflow's client, whose server answers some runs' creation with a status (a stand-in for what a server would say)."""

    def __init__(self, uri: str, status: str, names: set[str]) -> None:
        super().__init__(uri, uri)
        self.status, self.names = status, names

    def create_run(self, *arguments: object, **named: object) -> object:
        if arguments[3] in self.names:
            raise RestException({"error_code": self.status, "message": "no"})
        return super().create_run(*arguments, **named)  # type: ignore[arg-type]


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/mlflow.db"


def refusals(journal: Path) -> list[tuple[str, str]]:
    """Kind of each entry that was set aside, and why."""
    rows = [json.loads(line) for line in journal.with_suffix(".refused").read_text().splitlines()]
    return [(row["entry"]["kind"], row["refused"]) for row in rows]


@pytest.mark.parametrize("status", ["INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"])
def test_run_that_mlflow_refuses_holds_up_no_other_and_its_entries_are_kept(tmp_path: Path, uri: str, status: str) -> None:
    folder = tmp_path / "journal"
    first, second = Journal(folder, "experiment", "first", {}), Journal(folder, "experiment", "second", {})
    for journal in (first, second):
        journal.metrics(journal.child("stage", {}), {"loss": 1.0})
        journal.close()
    send_all(folder, Refusing(uri, status, {"first"}), tmp_path, os.getppid())
    assert unsent_entries(folder) == 0
    kept = refusals(first.path)
    assert [kind for kind, _ in kept] == ["start", "start", "metrics"]
    assert all(status in reason for _, reason in kept)
    assert not second.refused.exists()
    (stage,) = [key for key in read_bookmark(second.path).runs if key not in (second.run, "closed")]
    assert points(MlflowClient(uri), read_bookmark(second.path).runs[stage], "loss") == [(0, 1.0)]
    with pytest.raises(UserError, match=f"MLflow refused this run: {status}: no"):
        mlflow_run(first.path, first.run, seconds=60)


@pytest.mark.parametrize("status", ["UNAUTHENTICATED", "PERMISSION_DENIED"])
def test_run_that_is_not_taken_without_a_password_waits_and_is_sent_with_one(tmp_path: Path, uri: str, status: str) -> None:
    folder = tmp_path / "journal"
    first, second = Journal(folder, "experiment", "first", {}), Journal(folder, "experiment", "second", {})
    for journal in (first, second):
        journal.metrics(journal.run, {"loss": 1.0})
        journal.close()
    send_all(folder, Refusing(uri, status, {"first"}), tmp_path, parent=0)  # which is gone: one pass
    assert (len(pending(first.path)), len(pending(second.path))) == (3, 0)
    send_all(folder, MlflowClient(uri), tmp_path, os.getppid())
    assert points(MlflowClient(uri), read_bookmark(first.path).runs[first.run], "loss") == [(0, 1.0)]


def test_journal_that_an_earlier_version_poisoned_is_set_aside(tmp_path: Path, uri: str) -> None:
    folder = tmp_path / "journal"
    journal = Journal(folder, "experiment", "first", {})
    write_bookmark(journal.path, Bookmark(journal.path.stat().st_size, {}))  # beyond a start that was not taken
    journal.metrics(journal.child("stage", {}), {"loss": 1.0})
    journal.close()
    send_all(folder, MlflowClient(uri), tmp_path, os.getppid())
    assert unsent_entries(folder) == 0
    assert [kind for kind, _ in refusals(journal.path)] == ["start", "metrics"]


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"[1]",
        b"\xff\xfe",
        b"null",
        b"3 4",
        b'{"kind": "metrics", "run": "a"}',
        b'{"kind": "metrics", "run": "RUN", "time": 1, "values": {"a": [1]}}',
        b'{"kind": "later", "run": "RUN", "time": 1}',
    ],
)
def test_line_that_is_no_entry_is_set_aside(journal: Journal, client: MlflowClient, tmp_path: Path, line: bytes) -> None:
    with journal.path.open("ab") as file:
        file.write(line.replace(b"RUN", journal.run.encode()) + b"\n")
    journal.metrics(journal.run, {"loss": 1.0})
    journal.close()
    assert send(journal.path, client, tmp_path)
    assert points(client, read_bookmark(journal.path).runs[journal.run], "loss") == [(0, 1.0)]
    assert len(journal.refused.read_text().splitlines()) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"offset": 0}', '{"offset": 0, "runs": {}, "later": 1}'])
def test_bookmark_that_cannot_be_read_costs_nothing(journal: Journal, client: MlflowClient, tmp_path: Path, text: str) -> None:
    journal.metrics(journal.run, {"loss": 1.0})
    journal.close()
    send(journal.path, client, tmp_path)
    journal.path.with_suffix(".sent").write_text(text)
    assert send(journal.path, client, tmp_path)
    assert points(client, read_bookmark(journal.path).runs[journal.run], "loss") == [(0, 1.0)]


def test_deleted_experiment_is_told_at_once(tmp_path: Path, uri: str) -> None:
    client = MlflowClient(uri)
    client.delete_experiment(client.create_experiment("experiment"))
    journal = Journal(tmp_path / "journal", "experiment", "first", {})
    send(journal.path, client, tmp_path)
    with pytest.raises(
        UserError, match=r"MLflow refused this run: .*deleted. Fix: .*mlflow experiments restore --experiment-id \d+, or .*another name"
    ):
        mlflow_run(journal.path, journal.run, seconds=60)


def test_deleted_run_does_not_hold_up_the_end_of_a_killed_writer(tmp_path: Path, uri: str) -> None:
    client, journal = MlflowClient(uri), Journal(tmp_path / "journal", "experiment", "first", {})
    send(journal.path, client, tmp_path)
    write_bookmark(journal.path, Bookmark(read_bookmark(journal.path).offset, {journal.run: "0" * 32}))
    journal._writer.release()  # as when its process is killed
    assert send(journal.path, client, tmp_path)


def test_recipe_goes_before_environment_goes_before_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_address(None, workspace) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://environment")
    assert tracking_address(None, workspace) == "http://environment"
    assert tracking_address("http://recipe", workspace) == "http://recipe"


def test_workspaces_registry_is_the_same_wherever_the_workspace_lies() -> None:
    assert registry_name("sqlite:////a/mlflow.db") == registry_name("sqlite:////b/mlflow.db")
    assert registry_name("http://host/") == registry_name("http://host") != registry_name("http://other")


def test_silent_server_is_refused_and_a_database_is_not_asked() -> None:
    require_answer("sqlite:////absent/mlflow.db")
    with pytest.raises(UserError, match="MLflow at http://127.0.0.1:1 does not answer"):
        require_answer("http://127.0.0.1:1")


def test_password_in_an_address_goes_to_the_environment_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    assert tracking_address("http://me:p%40ss@127.0.0.1:1/sub", Workspace(tmp_path)) == "http://127.0.0.1:1/sub"
    assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == ("me", "p@ss")
    assert tracking_address("http://you:other@127.0.0.1:1", Workspace(tmp_path)) == "http://127.0.0.1:1"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "p@ss"


class Server:
    """An MLflow server that can be killed and started again on the same port and database."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder, self.uri = folder, f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "mlflow",
                    "server",
                    "--host",
                    "127.0.0.1",
                    "--port",
                    str(self.port),
                    "--workers",
                    "1",
                    "--backend-store-uri",
                    f"sqlite:///{self.folder}/mlflow.db",
                    "--default-artifact-root",
                    str(self.folder),
                ],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
            )
        while True:
            assert self.process.poll() is None, (self.folder / "server.log").read_text()[-2000:]
            try:
                urlopen(f"{self.uri}/health", timeout=2).close()
                return
            except (URLError, OSError):
                time.sleep(0.1)

    def kill(self) -> None:
        if self.process is None:
            return
        family = [*psutil.Process(self.process.pid).children(recursive=True), psutil.Process(self.process.pid)]
        for member in family:
            member.kill()
        psutil.wait_procs(family, timeout=10)
        self.process.wait()
        self.process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "mlflow").mkdir()
    found = Server(tmp_path / "mlflow")
    found.start()
    yield found
    found.kill()


def test_figures_written_while_the_server_is_dead_are_sent_once_it_is_back(server: Server, journal: Journal) -> None:
    folder = journal.path.parent
    child = journal.child("pretrain", {})
    sender = start_sender(folder, server.uri, folder / "artifacts")
    for step in range(300):
        journal.metrics(child, {"loss": step / 7, "rate": 1.0}, step)
    assert mlflow_run(journal.path, child, seconds=100) is not None
    server.kill()
    for step in range(300, 600):
        journal.metrics(child, {"loss": step / 7, "rate": 1.0}, step)
    journal.end(child, "FINISHED")
    journal.close()
    assert unsent_entries(folder) >= 302
    assert sender.drain(journal.path, seconds=0.1) >= 302
    server.start()
    assert start_sender(folder, server.uri, folder / "artifacts").drain(journal.path, seconds=100) == 0
    client = MlflowClient(server.uri)
    run = read_bookmark(journal.path).runs[child]
    assert points(client, run, "loss") == [(step, step / 7) for step in range(600)]
    assert client.get_run(run).info.status == "FINISHED"
    assert len(client.search_runs([client.get_run(run).info.experiment_id])) == 2
