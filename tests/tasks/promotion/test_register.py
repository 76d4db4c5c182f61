"""Registration: what a decision does in a registry, while others decide too and while the registry is away."""

import json
import pickle
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Barrier, Lock, Thread
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tasks.artifacts import GateDecision, ModelMemory, PretrainedModel, Report, Workspace
from tasks.errors import UserError
from tasks.promotion import history, register
from tasks.promotion.champion import ChampionConfig, Registry, champion_digest, fetch_champion
from tasks.promotion.decision import Budget, Comparison, Decision, Pair, Verdict, write_decision
from tasks.promotion.history import read_history, settle_history, take_over
from tasks.promotion.register import Candidate, Registration, register_model
from tasks.promotion.versions import MOST_TAGGED, decision_tag
from tasks.tracking.patience import RegistryAway

DECIDING = Comparison("deciding", "text", "bits_per_byte", 48, 48, 1.9, 2.0, 0.1, 0.02, 0.2, 0.05, 0.01, 0.0, "bootstrap", True, "")


def decided(fingerprint: str, rival: str, verdict: Verdict = "promoted") -> Decision:
    """A decision on the model with this fingerprint against version `rival`."""
    against = f"champion, version {rival}" if rival else "baseline: unigram"
    why = {"promoted": "surely better", "refused": "not better", "cannot tell": "too few items"}[verdict]
    budget = Budget(0.05, 1, 0, 0.03, 0.03)
    return Decision(
        "mill", fingerprint, against, rival, "", verdict, why, "2026-01-02T03:04:05+00:00", 1.0, comparisons=(DECIDING,), budget=budget
    )


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """A registry in a database, and a run of its tracking store."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
    client = MlflowClient(uri, uri)
    run = client.create_run(client.create_experiment("experiment"))
    return Registry(uri, run.info.run_id, {"prefect.flow_run_id": "flow", "prefect.flow_run_name": "swift-fox"}, Lock())


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch, registry: Registry) -> list[str]:
    """Fingerprints of the models whose files were sent; none is: that is the test of what registration logs."""
    sent: list[str] = []

    def upload(name: str, model: PretrainedModel, memory: ModelMemory | None, there: Registry) -> SimpleNamespace:
        sent.append(model.fingerprint)
        return SimpleNamespace(model_uri=f"runs:/{registry.run}/model", model_id=None)

    monkeypatch.setattr("tasks.promotion.versions.upload", upload)
    return sent


@pytest.fixture(autouse=True)
def without_a_pause(monkeypatch: pytest.MonkeyPatch, uploads: list[str]) -> None:
    monkeypatch.setattr(history, "SURE_SECONDS", 0.0)


def candidate(root: Path, decision: Decision) -> Candidate:
    """The artifacts of a run up to its registration."""
    workspace = Workspace(root / "workspace").open()
    folder = workspace.begin("gate", decision.challenger, keep=True)
    write_decision(decision, folder)
    model = PretrainedModel(str(workspace.folder("pretrain", decision.challenger)), decision.challenger)
    memory = ModelMemory(str(workspace.folder("memory", "m" * 16)), "m" * 16)
    return Candidate(model, memory, GateDecision(str(folder), "d" * 16), Report("/report", "c" * 16))


def never(folder: Path) -> Decision:
    raise AssertionError("it was decided again")


def register_one(
    root: Path, registry: Registry, name: str, decision: Decision, again: Callable[[Path], Decision] = never
) -> dict[str, str]:
    """Register one model; returns the notes of the artifact."""
    given = candidate(root, decision)
    out = Workspace(root / "workspace").begin("register", decision.challenger, keep=False)
    return dict(register_model(Registration(name), given, out, registry, again).notes)


def client_of(registry: Registry) -> MlflowClient:
    return MlflowClient(registry.uri, registry.uri)


def champion(registry: Registry, name: str) -> str:
    return str(client_of(registry).get_model_version_by_alias(name, "champion").version)


def test_alias_moves_to_what_was_promoted_and_to_nothing_else(tmp_path: Path, registry: Registry) -> None:
    first = register_one(tmp_path, registry, "mill", decided("1111", ""))
    assert (first["uri"], first["promoted"], first["verdict"]) == ("models:/mill@champion", "true", "promoted")
    others: tuple[tuple[str, Verdict], ...] = (("2222", "refused"), ("3333", "cannot tell"))
    for fingerprint, verdict in others:
        notes = register_one(tmp_path, registry, "mill", decided(fingerprint, "1", verdict))
        assert (notes["promoted"], notes["verdict"], champion(registry, "mill")) == ("false", verdict, "1")
    last = register_one(tmp_path, registry, "mill", decided("4444", "1"))
    assert (last["version"], last["why"], champion(registry, "mill")) == ("4", "surely better", "4")


def test_every_decision_is_an_entry_with_its_figures(tmp_path: Path, registry: Registry) -> None:
    register_one(tmp_path, registry, "told", decided("1111", ""))
    register_one(tmp_path, registry, "told", decided("2222", "1", "refused"))
    entry = read_history(client_of(registry), "told")[-1]
    assert (entry.kind, entry.version, entry.before, entry.champion) == ("refused", "2", "1", "1")
    assert (entry.fingerprint, entry.level, entry.rate, entry.metric, entry.gain) == ("2222", 0.03, 0.05, "bits_per_byte", 0.1)
    assert entry.by.endswith(", flow run swift-fox")


def test_version_leads_back_to_artifacts_decision_and_flow_run(tmp_path: Path, registry: Registry) -> None:
    register_one(tmp_path, registry, "traced", decided("1111", ""))
    tags = client_of(registry).get_model_version("traced", "1").tags
    assert tags["wordmill.fingerprint"] == "1111"
    assert tags["wordmill.artifact"] == str(tmp_path / "workspace" / "pretrain" / "1111")
    assert tags["wordmill.memory"] == str(tmp_path / "workspace" / "memory" / ("m" * 16))
    assert (tags["wordmill.report"], tags["prefect.flow_run_id"]) == ("/report", "flow")
    assert (tags["wordmill.verdict"], tags["wordmill.why"]) == ("promoted", "surely better")
    assert json.loads(tags["wordmill.decision"])["comparisons"][0]["metric"] == "bits_per_byte"
    assert tags["wordmill.decision_artifact"].endswith("workspace/gate/1111.partial")


def test_decision_that_is_too_long_for_a_tag_keeps_what_was_decided() -> None:
    pair = Pair("text", "bits_per_byte", "a", "a", "en", "shown " * 100, "", 1.0, 2.0, 1.0, "", "")
    long = replace(decided("1111", "1"), better=(pair,) * 20)
    assert json.loads(decision_tag(long))["comparisons"]
    longest = replace(long, comparisons=(DECIDING,) * 50, why="because " * 1000)
    assert len(decision_tag(longest)) <= MOST_TAGGED
    assert json.loads(decision_tag(longest))["verdict"] == "promoted"


def test_model_that_was_decided_on_is_neither_sent_nor_decided_on_again(tmp_path: Path, registry: Registry, uploads: list[str]) -> None:
    register_one(tmp_path, registry, "again", decided("1111", ""))
    register_one(tmp_path, registry, "again", decided("2222", "1", "refused"))
    notes = register_one(tmp_path, registry, "again", decided("2222", "1", "promoted"))
    assert (notes["version"], notes["verdict"], notes["promoted"]) == ("2", "refused", "false")
    assert "decided before" in notes["why"]
    assert "as entry 2: refused version 2, 1 stays: not better" in notes["why"]
    assert champion(registry, "again") == "1"
    assert uploads == ["1111", "2222"]


def test_model_on_which_no_figures_were_compared_is_decided_on_once_there_are(tmp_path: Path, registry: Registry) -> None:
    register_one(tmp_path, registry, "later", decided("1111", ""))
    register_one(tmp_path, registry, "later", replace(decided("2222", "1", "cannot tell"), comparisons=()))
    assert register_one(tmp_path, registry, "later", decided("2222", "1"))["promoted"] == "true"


def test_registration_that_died_after_the_move_is_finished_and_not_decided_on_again(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    register_one(tmp_path, registry, "died", decided("1111", ""))
    with monkeypatch.context() as patched:
        patched.setattr(register, "set_tags", die)
        with pytest.raises(KeyboardInterrupt):
            register_one(tmp_path, registry, "died", decided("2222", "1"))
    notes = register_one(tmp_path, registry, "died", decided("2222", "1"))
    assert (notes["promoted"], notes["verdict"]) == ("true", "promoted")
    assert client_of(registry).get_model_version("died", "2").tags["wordmill.verdict"] == "promoted"
    assert len(read_history(client_of(registry), "died")) == 2


def test_decision_against_a_champion_that_was_replaced_is_made_again(
    tmp_path: Path, registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    register_one(tmp_path, registry, "moved", decided("1111", ""))
    register_one(tmp_path, registry, "moved", decided("2222", "1"))
    asked: list[Path] = []

    def again(folder: Path) -> Decision:
        asked.append(folder)
        return decided("3333", "2", "refused")

    notes = register_one(tmp_path, registry, "moved", decided("3333", "1"), again)
    assert (notes["verdict"], champion(registry, "moved"), len(asked)) == ("refused", "2", 1)
    assert asked[0].is_dir()
    tags = client_of(registry).get_model_version("moved", "3").tags
    assert tags["wordmill.decision_artifact"] == str(tmp_path / "workspace" / "register" / "3333" / "again-1")
    assert "the champion is version 2 by now, and the decision was made against version 1: decided again" in caplog.text


def test_alias_that_was_moved_by_hand_meanwhile_is_decided_against(tmp_path: Path, registry: Registry) -> None:
    for fingerprint, rival in (("1111", ""), ("2222", "1")):
        register_one(tmp_path, registry, "by-hand", decided(fingerprint, rival))
    client_of(registry).set_registered_model_alias("by-hand", "champion", "1")
    notes = register_one(tmp_path, registry, "by-hand", decided("3333", "2"), lambda folder: decided("3333", "1", "refused"))
    assert (notes["promoted"], champion(registry, "by-hand")) == ("false", "1")
    assert [entry.kind for entry in read_history(client_of(registry), "by-hand")] == ["promoted", "promoted", "found", "refused"]


def test_who_loses_the_champion_at_the_last_moment_decides_again(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_one(tmp_path, registry, "lost", decided("1111", ""))
    register_one(tmp_path, registry, "lost", decided("2222", "1", "refused"))
    client = client_of(registry)

    def too_late(*given: object) -> bool:
        """Another moves the alias between the last look and the take-over."""
        monkeypatch.setattr(register, "take_over", take_over)
        assert take_over(client, "lost", replace(read_history(client, "lost")[0], kind="set", version="2", before="1", champion="2"))
        return take_over(*given)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(register, "take_over", too_late)
    notes = register_one(tmp_path, registry, "lost", decided("3333", "1"), lambda folder: decided("3333", "2"))
    assert (notes["promoted"], champion(registry, "lost")) == ("true", "3")
    assert [entry.champion for entry in read_history(client, "lost")] == ["1", "1", "2", "3"]


def test_champion_that_never_holds_still_is_given_up_on_and_nothing_is_promoted(tmp_path: Path, registry: Registry) -> None:
    register_one(tmp_path, registry, "restless", decided("1111", ""))
    with pytest.raises(ConnectionError, match="the champion changed 5 times while version 2 was decided on"):
        register_one(tmp_path, registry, "restless", decided("2222", "9"), lambda folder: decided("2222", "9"))
    assert champion(registry, "restless") == "1"


def test_two_that_register_at_once_are_both_judged_against_the_champion_of_their_turn(tmp_path: Path, registry: Registry) -> None:
    register_one(tmp_path, registry, "two", decided("1111", ""))
    barrier, notes = Barrier(2), list[dict[str, str]]()

    def night(fingerprint: str) -> None:
        own, asked = client_of(registry), list[str]()

        def again(folder: Path) -> Decision:
            asked.append(settle_history(own, "two")[-1].champion)
            return decided(fingerprint, asked[-1], "refused")

        barrier.wait()
        found = register_one(tmp_path / fingerprint, registry, "two", decided(fingerprint, "1"), again)
        notes.append({**found, "again": ",".join(asked)})

    threads = [Thread(target=night, args=(fingerprint,)) for fingerprint in ("2222", "3333")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winner, loser = sorted(notes, key=lambda one: one["again"])
    assert (winner["promoted"], winner["again"]) == ("true", "")
    assert (loser["verdict"], loser["again"]) == ("refused", winner["version"])
    assert champion(registry, "two") == winner["version"]


def test_champion_that_does_not_exist_is_refused_and_histories_are_not_offered(tmp_path: Path, registry: Registry) -> None:
    register_one(tmp_path, registry, "there", decided("1111", ""))
    with pytest.raises(UserError, match="models:/absent@champion: nothing is registered as 'absent'") as refused:
        champion_digest(ChampionConfig(uri="models:/absent@champion"), registry.uri)
    assert "there" in str(refused.value)
    assert ".history" not in str(refused.value)


def test_identity_of_the_champion_is_its_fingerprint(tmp_path: Path, registry: Registry) -> None:
    register_one(tmp_path, registry, "known", decided("1111", ""))
    uris = ("models:/known@champion", "models:/known/1", "models:/known/latest")
    assert [champion_digest(ChampionConfig(uri=uri), registry.uri) for uri in uris] == [{uri: "1111"} for uri in uris]


def test_latest_is_the_newest_version_and_a_wrong_name_is_told_what_is_there(tmp_path: Path, registry: Registry) -> None:
    register_one(tmp_path, registry, "many", decided("0001", ""))
    for number in range(2, 12):
        client_of(registry).create_model_version("many", "wordmill:/files", tags={"wordmill.fingerprint": f"{number:04}"})
    assert champion_digest(ChampionConfig(uri="models:/many/latest"), registry.uri) == {"models:/many/latest": "0011"}
    with pytest.raises(UserError, match=r"'many' has no such version or alias at .*, but versions 11, 10, .* and @champion \(version 1\)"):
        champion_digest(ChampionConfig(uri="models:/many/99"), registry.uri)
    with pytest.raises(UserError, match="models:/many: expected models:/NAME@ALIAS, models:/NAME/VERSION or models:/NAME/latest"):
        champion_digest(ChampionConfig(uri="models:/many"), registry.uri)
    with pytest.raises(UserError, match="absent.db does not exist"):
        champion_digest(ChampionConfig(uri="models:/many/1"), f"sqlite:///{tmp_path}/absent.db")
    assert not (tmp_path / "absent.db").exists()


def test_champion_whose_files_are_gone_is_told_with_version_and_place(tmp_path: Path, registry: Registry) -> None:
    register_one(tmp_path, registry, "gone", decided("1111", ""))
    with pytest.raises(UserError, match=r"version 1 of 'gone' is registered at .*, but its files, stored at .*, cannot be had"):
        fetch_champion(ChampionConfig(uri="models:/gone@champion"), tmp_path / "out", registry)


class FakeMlflow(ThreadingHTTPServer):
    """A stand-in for an MLflow server: an empty registry that answers a new name with `status` and `body`."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(("127.0.0.1", 0), FakeAnswers)
        self.status, self.body, self.asked = status, body, 0


class FakeAnswers(BaseHTTPRequestHandler):
    """What it says to each request."""

    def do_GET(self) -> None:
        is_alias = "alias" in self.path
        self.answer(404 if is_alias else 200, json.dumps({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"} if is_alias else {}))

    def do_POST(self) -> None:
        assert isinstance(self.server, FakeMlflow)
        self.server.asked += 1
        self.answer(self.server.status, self.server.body)

    def answer(self, status: int, body: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def fake(request: pytest.FixtureRequest) -> Iterator[FakeMlflow]:
    server = FakeMlflow(*request.param)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def said(code: str) -> str:
    return json.dumps({"error_code": code, "message": "its own words\nand more"})


@pytest.mark.parametrize(
    ("fake", "kind", "told"),
    [
        (
            (400, said("INVALID_PARAMETER_VALUE")),
            UserError,
            "refused it (INVALID_PARAMETER_VALUE: its own words); what was made is kept. Fix",
        ),
        ((400, said("BAD_REQUEST")), UserError, "BAD_REQUEST: its own words"),
        ((403, said("PERMISSION_DENIED")), UserError, "Fix: give MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD of one who may"),
        ((403, "Permission denied"), UserError, "Fix: give MLFLOW_TRACKING_USERNAME"),
        ((401, "You are not authenticated"), UserError, "Fix: give MLFLOW_TRACKING_USERNAME"),
        ((429, said("REQUEST_LIMIT_EXCEEDED")), RegistryAway, "did not take it"),
        ((503, said("TEMPORARILY_UNAVAILABLE")), RegistryAway, "did not take it"),
        ((500, "broken"), RegistryAway, "did not take it"),
    ],
    indirect=["fake"],
    ids=lambda value: str(value)[:40],
)
def test_refusal_by_mlflow_is_final_and_told_in_a_line_and_what_may_pass_waits(
    fake: FakeMlflow, kind: type[Exception], told: str, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    there = replace(registry, uri=f"http://127.0.0.1:{fake.server_port}")
    given = candidate(tmp_path, decided("1111", ""))
    workspace = Workspace(tmp_path / "workspace")
    with pytest.raises(kind) as refused:
        register_model(Registration("tiny", 0), given, workspace.begin("register", "1111", False), there, never)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith("register: tiny: MLflow at http://127.0.0.1:")
    assert fake.asked == 1


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes every connection and answers none."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.timeout(120)
def test_silent_mlflow_is_waited_for_no_longer_than_was_said(
    silent: str, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    given = candidate(tmp_path, decided("1111", ""))
    with pytest.raises(RegistryAway) as away:
        register_model(Registration("tiny", 1), given, tmp_path, replace(registry, uri=silent), never)
    assert away.value.address == silent
    assert pickle.loads(pickle.dumps(away.value)).address == silent


def test_model_on_which_no_decision_could_be_made_is_decided_on_when_it_is_registered(tmp_path: Path, registry: Registry) -> None:
    register_one(tmp_path, registry, "undecided", decided("1111", ""))
    given = replace(candidate(tmp_path, decided("2222", "?")), decision=None)
    notes = register_model(Registration("undecided"), given, tmp_path, registry, lambda folder: decided("2222", "1")).notes
    assert (notes["promoted"], champion(registry, "undecided")) == ("true", "2")


def test_registration_goes_on_where_it_was_when_mlflow_comes_back(
    tmp_path: Path, registry: Registry, uploads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = [True, True]

    def answer_is_lost(*given: object) -> bool:
        """The registry takes the entry, and its answer never arrives."""
        won = take_over(*given)  # pyright: ignore[reportArgumentType]
        if lost:
            lost.pop()
            raise MlflowException("API request failed with timeout exception")
        return won

    monkeypatch.setattr(register, "take_over", answer_is_lost)
    notes = register_one(tmp_path, registry, "back", decided("1111", ""))
    assert (notes["promoted"], uploads) == ("true", ["1111"])
    assert len(client_of(registry).search_model_versions("name = 'back.history'")) == 1
