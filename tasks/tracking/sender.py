"""Journal sender to MLflow: `python -m tasks.tracking.sender JOURNALS URI ARTIFACTS`, started by a run, one per folder.

It ends when every journal it found is closed (or its writer is gone) and sent. When MLflow does not answer it waits
and tries again, up to a minute between tries; the run it serves never waits for it.
"""

import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from tasks.tracking.journal import Bookmark, Entry, pending, read_bookmark, write_bookmark, writer_lock

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

BATCH = 800  # metrics in a request; MLflow takes 1000
POLL_SECONDS = 0.5
MOST_SECONDS = 60.0  # between two tries
ENTRY = TypeAdapter(Entry)
LOGGED_TABLES = "mlflow.loggedArtifacts"  # the tag by which the MLflow page finds tables


def main(folder: Path, uri: str, artifacts: Path) -> None:
    """Send until all journals are closed and sent."""
    os.nice(10)
    parent = os.getppid()
    lock = FileLock(folder / "sender.lock")
    while not taken(lock):  # another run's sender serves this folder, ours included, for as long as that run lasts
        if os.getppid() != parent:
            return
    send_all(folder, connect(uri), artifacts if "://" not in uri or uri.startswith("sqlite") else None, parent)


def taken(lock: FileLock) -> bool:
    """Try for a second to take the lock."""
    try:
        lock.acquire(timeout=1)
    except Timeout:
        return False
    return True


def connect(uri: str) -> "MlflowClient":
    """A client with short time-outs, so that a dead server costs seconds here and nothing elsewhere."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri)


def send_all(folder: Path, client: "MlflowClient", artifacts: Path | None, parent: int) -> None:
    """Loop over the journals until nothing is left to wait for. A journal that cannot be sent never holds up another."""
    from mlflow.exceptions import MlflowException

    waits: dict[Path, float] = {}  # seconds until a journal that was not taken is tried again
    due: dict[Path, float] = {}
    while True:
        parent_gone = os.getppid() != parent
        left = False
        for journal in sorted(folder.glob("*.jsonl")):
            if time.monotonic() < due.get(journal, 0.0):
                left = True
                continue
            try:
                left |= not send(journal, client, artifacts)
                waits.pop(journal, None)
            except (MlflowException, OSError) as error:
                print(f"{time.strftime('%F %T')} {journal.name} not sent, will try again: {str(error)[:300]}", flush=True)
                left = True
                waits[journal] = min(2 * waits.get(journal, POLL_SECONDS), MOST_SECONDS)
                due[journal] = time.monotonic() + waits[journal]
        if parent_gone or not left:
            return  # the next run sends what is left
        time.sleep(POLL_SECONDS)


def send(journal: Path, client: "MlflowClient", artifacts: Path | None) -> bool:
    """Send what is pending in one journal; True when it is closed, or its writer is gone, and all is sent."""
    from mlflow.exceptions import MlflowException

    bookmark = read_bookmark(journal)
    closed = bookmark.offset > 0 and "closed" in bookmark.runs
    ended = not closed and is_abandoned(journal)  # asked before what is pending is read
    while lines := pending(journal)[:BATCH]:
        shipment = Shipment(journal, client, artifacts, dict(bookmark.runs), dict(bookmark.refused))
        for group in grouped(shipment.readable(lines)):
            shipment.apply_or_set_aside(group)
            closed = closed or group[0].kind == "close"
        if closed:
            shipment.runs["closed"] = "yes"
        offset = bookmark.offset + sum(len(line) + 1 for line in lines)
        bookmark = Bookmark(offset, shipment.runs, shipment.refused)
        write_bookmark(journal, bookmark)
    if ended and not closed:
        for run in bookmark.runs.values():
            try:
                if client.get_run(run).info.status == "RUNNING":
                    client.set_terminated(run, "KILLED")
            except MlflowException as error:
                if not is_final(error):
                    raise
        write_bookmark(journal, Bookmark(bookmark.offset, {**bookmark.runs, "closed": "yes"}, bookmark.refused))
    return closed or ended


def is_final(error: "MlflowException") -> bool:
    """Whether MLflow will never take it. A missing password, too many requests and a broken server pass."""
    status = error.get_http_status_code()
    return 400 <= status < 500 and status not in (401, 403, 408, 429)


def is_abandoned(journal: Path) -> bool:
    """Whether no process writes the journal any more: it was closed, or its writer was killed."""
    lock = writer_lock(journal)
    try:
        with lock.acquire(timeout=0):
            return True
    except Timeout:
        return False


def grouped(entries: list[Entry]) -> list[list[Entry]]:
    """Runs of consecutive metrics entries of one run together, so that they go in one request; others alone."""
    groups: list[list[Entry]] = []
    for entry in entries:
        last = groups[-1][-1] if groups else None
        if last and entry.kind == last.kind == "metrics" and entry.run == last.run:
            groups[-1].append(entry)
        else:
            groups.append([entry])
    return groups


@dataclass
class Shipment:
    """Entries of one journal on their way: which MLflow run each of its runs became, and why MLflow would not have others."""

    journal: Path
    client: "MlflowClient"
    artifacts: Path | None
    runs: dict[str, str]
    refused: dict[str, str]

    def readable(self, lines: list[bytes]) -> list[Entry]:
        """The lines as entries; what is none is set aside."""
        entries: list[Entry] = []
        for line in lines:
            try:
                entries.append(ENTRY.validate_json(line))
            except ValidationError as error:
                fault = error.errors(include_url=False)[0]
                self.set_aside(
                    line.decode(errors="replace"), f"not an entry of a journal: {'.'.join(map(str, fault['loc']))} {fault['msg']}"
                )
        return entries

    def apply_or_set_aside(self, group: list[Entry]) -> None:
        """Send a group; what MLflow refuses for good is set aside, and with a run all that belongs to it."""
        from mlflow.exceptions import MlflowException

        first = group[0]
        if first.kind == "close":
            return
        needed = first.parent if first.kind == "start" else first.run
        reason = None
        if needed is not None and needed not in self.runs:
            reason = self.refused.get(needed, "its run was never taken")
        else:
            try:
                apply(group, self.client, self.runs, self.artifacts)
                return
            except MlflowException as error:
                if not is_final(error):
                    raise
                reason = str(error)[:500]
        if first.kind == "start":
            self.refused[first.run] = reason
        for entry in group:
            self.set_aside(asdict(entry), reason)

    def set_aside(self, entry: object, reason: str) -> None:
        """Keep beside the journal what MLflow refused, with its words."""
        with self.journal.with_suffix(".refused").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"refused": reason, "entry": entry}, ensure_ascii=False) + "\n")


def apply(group: list[Entry], client: "MlflowClient", runs: dict[str, str], artifacts: Path | None) -> None:
    """Send one group of entries of the same kind and run."""
    from mlflow.entities import Metric, Param, RunTag

    entry = group[0]
    if entry.kind == "start":
        runs[entry.run] = create_run(entry, client, runs, artifacts)
        return
    run = runs[entry.run]
    match entry.kind:
        case "params":
            items = [Param(key, str(value)[:6000]) for key, value in sorted(entry.values.items())]
            for start in range(0, len(items), 100):
                client.log_batch(run, params=items[start : start + 100])
        case "metrics":
            metrics = [Metric(k, float(v), e.time, e.step) for e in group for k, v in e.values.items()]
            for start in range(0, len(metrics), BATCH):
                client.log_batch(run, metrics=metrics[start : start + BATCH])
        case "tags":
            client.log_batch(run, tags=[RunTag(key, str(value)[:5000]) for key, value in entry.values.items()])
        case "dataset":
            client.log_inputs(run, [dataset_input(entry)])
        case "artifact" if Path(entry.path).exists():
            client.log_artifact(run, entry.path, entry.folder or None)
        case "table":
            client.log_text(run, entry.text, entry.name)
            client.set_tag(run, LOGGED_TABLES, json.dumps([{"path": entry.name, "type": "table"}]))
        case "end":
            client.set_terminated(run, entry.status, entry.time)
        case _:
            pass


def create_run(entry: Entry, client: "MlflowClient", runs: dict[str, str], artifacts: Path | None) -> str:
    """Create (or find again, after a crash between sending and marking) the MLflow run of a start entry."""
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME, MLFLOW_SOURCE_NAME

    if entry.parent is None:
        experiment = experiment_id(client, entry.experiment, artifacts)
    else:
        experiment = client.get_run(runs[entry.parent]).info.experiment_id
    known = client.search_runs([experiment], f"tags.`wordmill.key` = '{entry.run}'", max_results=1)
    if known:
        return known[0].info.run_id
    tags = {**entry.tags, "wordmill.key": entry.run, MLFLOW_RUN_NAME: entry.name, MLFLOW_SOURCE_NAME: "wordmill"}
    if entry.parent is not None:
        tags[MLFLOW_PARENT_RUN_ID] = runs[entry.parent]
    return client.create_run(experiment, entry.time, tags, entry.name).info.run_id


def experiment_id(client: "MlflowClient", name: str, artifacts: Path | None) -> str:
    """The experiment of that name, created if need be; without a server its files go below `artifacts`.

    MlflowException, which is for good, for one that was deleted: MLflow would find it, and then take no run.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage == "deleted":
        raise MlflowException.invalid_parameter_value(
            f"its experiment {name!r} was deleted. Fix: MLFLOW_TRACKING_URI={client.tracking_uri} mlflow experiments restore "
            f"--experiment-id {found.experiment_id}, or give the recipe another name."
        )
    if found is not None:
        return found.experiment_id
    location = None if artifacts is None else (artifacts / name).as_uri()
    return client.create_experiment(name, location)


def dataset_input(entry: Entry) -> "DatasetInput":
    """An MLflow dataset with our content digest."""
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

    source = json.dumps({"uri": entry.source})
    dataset = Dataset(entry.name, entry.digest, "local", source, profile=json.dumps(dict(entry.profile)))
    return DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, "input")])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
