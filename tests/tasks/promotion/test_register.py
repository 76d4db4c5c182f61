"""The gate of the champion alias: its rule, and what it does in a registry."""

import json
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread

import pytest
from mlflow import MlflowClient

from tasks.artifacts import PretrainedModel, Report, Scores, Workspace, as_artifact, describe
from tasks.errors import UserError
from tasks.examples.kinds.table import KINDS
from tasks.ledger import StageOutcome
from tasks.promotion.champion import ChampionConfig, Registry, champion_digest, fetch_champion
from tasks.promotion.register import Registration, challenger_name, register_model
from tasks.promotion.register_config import RegisterConfig
from tasks.promotion.standing import Standing, decide, is_better, standing
from tasks.scores import OWN, ScoreRow, write_scores


@pytest.mark.parametrize(
    ("metric", "newcomer", "champion", "margin", "better"),
    [
        ("bits_per_byte", 1.9, 2.0, 0.0, True),
        ("bits_per_byte", 2.1, 2.0, 0.0, False),
        ("bits_per_byte", 2.0, 2.0, 0.0, False),
        ("loss", 1.9, 2.0, 0.0, True),
        ("accuracy", 0.9, 0.8, 0.0, True),
        ("accuracy", 0.8, 0.9, 0.0, False),
        ("accuracy", 0.8, 0.8, 0.0, False),
        ("accuracy", 0.75, 0.5, 0.25, False),
        ("accuracy", 0.875, 0.5, 0.25, True),
        ("bits_per_byte", 1.75, 2.0, 0.25, False),
        ("bits_per_byte", 1.5, 2.0, 0.25, True),
    ],
)
def test_newcomer_must_be_better_by_more_than_the_margin(
    metric: str, newcomer: float, champion: float, margin: float, better: bool
) -> None:
    assert is_better(metric, newcomer, champion, margin) is better


def on(text: str, value: float) -> Standing:
    return Standing(value, value, value, text)


def test_first_of_a_name_becomes_champion() -> None:
    assert decide(RegisterConfig(), "accuracy", on("a", 0.1), None) == (True, "the first of its name")


def test_worse_newcomer_does_not_become_champion_and_the_reason_has_both_figures() -> None:
    promoted, why = decide(RegisterConfig(), "accuracy", on("a", 0.1), on("a", 0.2))
    assert not promoted
    assert why == "not better: accuracy 0.1000 against the champion's 0.2000"


def test_scores_on_other_text_are_not_compared() -> None:
    promoted, why = decide(RegisterConfig(), "accuracy", on("a", 0.1), on("b", 0.2))
    assert promoted
    assert "other text" in why


@pytest.mark.parametrize(("promote", "promoted"), [("always", True), ("never", False)])
def test_promotion_can_be_set_whatever_the_scores(promote: str, promoted: bool) -> None:
    config = RegisterConfig.model_validate({"promote": promote})
    assert decide(config, "accuracy", on("a", 0.1), on("a", 0.2))[0] is promoted
    assert decide(config, "accuracy", on("a", 0.3), None)[0] is promoted


def test_generators_compete_by_bits_per_byte_and_labellers_by_accuracy() -> None:
    found = [KINDS[kind].metric for kind in ("instruction", "classification", "token_labels")]
    assert found == ["bits_per_byte", "accuracy", "accuracy"]


def test_only_a_language_model_competes_for_the_base_models_name() -> None:
    assert challenger_name("mill", "chat", KINDS["instruction"]) == "mill"
    assert challenger_name("mill", "topics", KINDS["classification"]) == "mill-topics"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """A registry in a database, and a run of its tracking store."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
    client = MlflowClient(uri, uri)
    run = client.create_run(client.create_experiment("experiment"))
    return Registry(uri, run.info.run_id, {"prefect.flow_run_id": "flow"}, Lock())


@pytest.fixture(autouse=True)
def without_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions point to the run alone: logging the model itself is the whole run's test."""

    def version_of_nothing(client: MlflowClient, config: Registration, model: PretrainedModel, registry: Registry) -> str:
        if not client.search_registered_models(f"name = '{config.name}'"):
            client.create_registered_model(config.name)
        return str(client.create_model_version(config.name, f"runs:/{registry.run}/model", registry.run).version)

    monkeypatch.setattr("tasks.promotion.register.log_version", version_of_nothing)


def scores(tmp_path: Path, fingerprint: str, value: float, corpus: str = "text") -> Scores:
    """A score table of one figure, as the evaluation publishes it."""
    workspace = Workspace(tmp_path).open()
    built = workspace.begin("evaluate", fingerprint, keep=False)
    own = ScoreRow(OWN, "tiny", "bits_per_byte", "bits_per_byte", value, value, value, 8, 1)
    write_scores([replace(own, model="unigram", value=0.0, ci_low=0.0), own], built)
    inputs = {"model": fingerprint, "tokenizer": fingerprint, "corpus": corpus}
    manifest = describe("evaluate", fingerprint, {"suite": "tiny"}, inputs, built, StageOutcome(), 1.0)
    return as_artifact(Scores, workspace.publish(manifest), manifest)


def register(
    tmp_path: Path, registry: Registry, name: str, fingerprint: str, value: float, corpus: str = "text", rival: Scores | None = None
) -> dict[str, str]:
    """Register one model with one score; returns the notes of the artifact."""
    model, report = PretrainedModel(f"/artifacts/{fingerprint}", fingerprint), Report("/report", "c" * 16)
    config = Registration(RegisterConfig(), name, "bits_per_byte")
    return dict(register_model(config, model, scores(tmp_path, fingerprint, value, corpus), report, tmp_path, registry, rival).notes)


def champion(registry: Registry, name: str) -> str:
    return str(MlflowClient(registry.uri, registry.uri).get_model_version_by_alias(name, "champion").version)


def test_alias_moves_to_a_better_version_only(tmp_path: Path, registry: Registry) -> None:
    assert register(tmp_path, registry, "mill", "1111", 2.0)["uri"] == "models:/mill@champion"
    assert register(tmp_path, registry, "mill", "2222", 2.0)["uri"] == "models:/mill/2"
    assert champion(registry, "mill") == "1"
    assert register(tmp_path, registry, "mill", "3333", 1.5)["why"] == "better: bits_per_byte 1.5000 against the champion's 2.0000"
    assert champion(registry, "mill") == "3"


def test_model_that_was_registered_before_keeps_its_version(tmp_path: Path, registry: Registry) -> None:
    first = register(tmp_path, registry, "again", "1111", 2.0)
    second = register(tmp_path, registry, "again", "1111", 2.0)
    assert first["version"] == second["version"] == "1"


def test_champion_scored_on_other_text_gives_way(tmp_path: Path, registry: Registry) -> None:
    register(tmp_path, registry, "moved", "1111", 1.0, corpus="old")
    assert register(tmp_path, registry, "moved", "2222", 2.0, corpus="new")["promoted"] == "true"


def test_champion_scored_in_the_same_flow_is_compared_by_those_scores(tmp_path: Path, registry: Registry) -> None:
    register(tmp_path, registry, "nightly", "1111", 1.0, corpus="old")
    rival = scores(tmp_path, "4444", 1.5, corpus="new")
    assert register(tmp_path, registry, "nightly", "2222", 2.0, corpus="new", rival=rival)["promoted"] == "false"


def test_version_leads_back_to_artifact_scores_report_and_flow_run(tmp_path: Path, registry: Registry) -> None:
    register(tmp_path, registry, "traced", "1111", 2.0)
    tags = MlflowClient(registry.uri, registry.uri).get_model_version("traced", "1").tags
    assert (tags["wordmill.artifact"], tags["wordmill.fingerprint"]) == ("/artifacts/1111", "1111")
    assert (tags["wordmill.report"], tags["prefect.flow_run_id"]) == ("/report", "flow")
    assert tags["wordmill.scores"] == str(tmp_path / "evaluate" / "1111")


def test_metric_that_the_suite_did_not_measure_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"measured no accuracy, only: bits_per_byte\. Add its task to evaluate\.tasks"):
        standing(scores(tmp_path, "1111", 2.0), "accuracy")


def test_champion_that_does_not_exist_is_refused(registry: Registry) -> None:
    with pytest.raises(UserError, match="models:/absent@champion: nothing is registered as 'absent'"):
        champion_digest(ChampionConfig(uri="models:/absent@champion"), registry.uri)


def test_identity_of_the_champion_is_its_fingerprint(tmp_path: Path, registry: Registry) -> None:
    register(tmp_path, registry, "known", "1111", 2.0)
    uris = ("models:/known@champion", "models:/known/1", "models:/known/latest")
    assert [champion_digest(ChampionConfig(uri=uri), registry.uri) for uri in uris] == [{uri: "1111"} for uri in uris]


def test_latest_is_the_newest_version_and_a_wrong_name_is_told_what_is_there(tmp_path: Path, registry: Registry) -> None:
    for number in range(1, 12):
        register(tmp_path, registry, "many", f"{number:04}", 2.0)
    assert champion_digest(ChampionConfig(uri="models:/many/latest"), registry.uri) == {"models:/many/latest": "0011"}
    with pytest.raises(UserError, match=r"'many' has no such version or alias at .*, but versions 11, 10, .* and @champion \(version 1\)"):
        champion_digest(ChampionConfig(uri="models:/many/99"), registry.uri)
    with pytest.raises(UserError, match="models:/many: expected models:/NAME@ALIAS, models:/NAME/VERSION or models:/NAME/latest"):
        champion_digest(ChampionConfig(uri="models:/many"), registry.uri)
    with pytest.raises(UserError, match="absent.db does not exist"):
        champion_digest(ChampionConfig(uri="models:/many/1"), f"sqlite:///{tmp_path}/absent.db")
    assert not (tmp_path / "absent.db").exists()


def test_champion_whose_files_are_gone_is_told_with_version_and_place(tmp_path: Path, registry: Registry) -> None:
    register(tmp_path, registry, "gone", "1111", 2.0)
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
        ((400, said("RESOURCE_ALREADY_EXISTS")), UserError, "RESOURCE_ALREADY_EXISTS: its own words"),
        ((403, said("PERMISSION_DENIED")), UserError, "Fix: give MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD of one who may"),
        ((403, "Permission denied"), UserError, "Fix: give MLFLOW_TRACKING_USERNAME"),
        ((401, "You are not authenticated"), UserError, "Fix: give MLFLOW_TRACKING_USERNAME"),
        ((429, said("REQUEST_LIMIT_EXCEEDED")), ConnectionError, "did not take it"),
        ((503, said("TEMPORARILY_UNAVAILABLE")), ConnectionError, "did not take it"),
        ((500, "broken"), ConnectionError, "did not take it"),
    ],
    indirect=["fake"],
    ids=lambda value: str(value)[:40],
)
def test_refusal_by_mlflow_is_final_and_told_in_a_line_and_what_may_pass_is_not(
    fake: FakeMlflow, kind: type[Exception], told: str, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    there = replace(registry, uri=f"http://127.0.0.1:{fake.server_port}")
    model, report = PretrainedModel(str(tmp_path), "a" * 16), Report(str(tmp_path), "b" * 16)
    with pytest.raises(kind) as refused:
        register_model(
            Registration(RegisterConfig(), "tiny", "bits_per_byte"), model, scores(tmp_path, "c" * 16, 2.0), report, tmp_path, there
        )
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith("register: tiny: MLflow at http://127.0.0.1:")
    assert fake.asked == 1
