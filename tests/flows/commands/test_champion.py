"""`wordmill champion`: the history told, and moves that leave an entry."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from mlflow import MlflowClient

from tasks.promotion import history
from tasks.promotion.history import Entry, take_over

if TYPE_CHECKING:
    from tests.flows.conftest import Done

Command = Callable[..., "Done"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workspace")


@pytest.fixture(scope="module")
def client(workspace: Path) -> MlflowClient:
    """The workspace's registry, in which `other` has a version without a champion."""
    uri = f"sqlite:///{workspace}/mlflow.db"
    client = MlflowClient(uri, uri)
    client.create_registered_model("other")
    client.create_model_version("other", "wordmill:/files")
    return client


@pytest.fixture(autouse=True)
def without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "SURE_SECONDS", 0.0)


@pytest.fixture
def mill(client: MlflowClient, request: pytest.FixtureRequest) -> str:
    """A name with three versions, of which 1 and then 3 were promoted."""
    name = request.node.name[:80]
    client.create_registered_model(name)
    for number in (1, 2, 3):
        client.create_model_version(name, "wordmill:/files", tags={"wordmill.fingerprint": f"of-{number}"})
    kinds: tuple[history.EntryKind, ...] = ("promoted", "refused", "promoted")
    for kind, version, before, after in zip(kinds, "123", ("", "1", "1"), "113", strict=True):
        at = f"2026-01-0{version}T03:04:05+00:00"
        assert take_over(client, name, Entry(0, kind, at, "night@mill", version, before, after, f"because of {version}"))
    return name


@pytest.fixture
def asked(command: Command, workspace: Path) -> Command:
    def call(*arguments: str) -> "Done":
        return command("champion", *arguments, "--workspace", str(workspace))

    return call


def champion(client: MlflowClient, name: str) -> str:
    return str(client.get_model_version_by_alias(name, "champion").version)


def test_history_is_told_with_the_champion_first_and_the_newest_entry_next(asked: Command, mill: str) -> None:
    done = asked(mill)
    lines = done.out.splitlines()
    assert lines[0] == f"{mill}: version 3 is the champion since 2026-01-03 03:04:05 UTC (models:/{mill}@champion)"
    assert [line.split()[0] for line in lines[3:]] == ["3", "2", "1"]
    assert "2026-01-02 03:04:05" in lines[4]
    assert [word in lines[4] for word in ("refused", "night@mill", "because of 2")] == [True, True, True]
    document = asked(mill, "--json").document()
    assert (document["name"], document["champion"]) == (mill, "3")
    assert [entry["kind"] for entry in document["history"]] == ["promoted", "refused", "promoted"]


def test_rollback_goes_to_the_champion_before_and_leaves_an_entry(asked: Command, mill: str, client: MlflowClient) -> None:
    done = asked(mill, "--rollback", "--why", "it swears")
    assert (done.code, done.out) == (0, f"{mill}: rolled back to version 1 in place of 3: it swears\n")
    assert champion(client, mill) == "1"
    last = asked(mill, "--json").document()["history"][-1]
    assert (last["kind"], last["before"], last["champion"], last["fingerprint"]) == ("rolled back", "3", "1", "of-1")
    assert "@" in last["by"]


def test_rollback_is_refused_where_there_was_no_other_champion(asked: Command, client: MlflowClient) -> None:
    client.create_registered_model("single")
    client.create_model_version("single", "wordmill:/files")
    assert "there is no champion before: it never had one" in asked("single", "--rollback").refusal()
    take_over(client, "single", Entry(0, "promoted", "2026-01-01T00:00:00+00:00", "a@b", "1", "", "1", "better"))
    told = asked("single", "--rollback").refusal()
    assert "there is no champion before: version 1 was it from the first. Fix: --set VERSION" in told
    assert champion(client, "single") == "1"


def test_rollback_is_refused_where_the_version_before_was_deleted(asked: Command, mill: str, client: MlflowClient) -> None:
    client.delete_model_version(mill, "1")
    assert "there is no version 1 any more at sqlite:" in asked(mill, "--rollback").refusal()
    assert champion(client, mill) == "3"


def test_any_version_can_be_set_with_a_reason(asked: Command, mill: str, client: MlflowClient) -> None:
    assert asked(mill, "--set", "2", "--why", "tried by hand").out == f"{mill}: set to version 2 in place of 3: tried by hand\n"
    assert champion(client, mill) == "2"
    assert "version 2 is the champion already. Nothing was moved" in asked(mill, "--set", "2", "--why", "again").refusal()
    assert "there is no version 9 at sqlite:" in asked(mill, "--set", "9", "--why", "no such").refusal()
    assert "there is no version new at sqlite:" in asked(mill, "--set", "new", "--why", "no number").refusal()
    assert champion(client, mill) == "2"


def test_move_without_its_reason_and_two_moves_at_once_are_refused(asked: Command, mill: str) -> None:
    assert 'Fix: add --why "…"' in asked(mill, "--set", "2").refusal()
    assert 'Fix: add --why "…"' in asked(mill, "--set", "2", "--why", "  ").refusal()
    assert "Fix: give one of them" in asked(mill, "--set", "2", "--why", "both", "--rollback").refusal()
    assert "Fix: give --rollback or --set VERSION too" in asked(mill, "--why", "nothing").refusal()


def test_alias_that_was_moved_by_hand_is_told(asked: Command, mill: str, client: MlflowClient) -> None:
    client.set_registered_model_alias(mill, "champion", "2")
    lines = asked(mill).out.splitlines()
    assert lines[0].startswith(f"{mill}: version 2 is the champion since ")
    assert "found" in lines[3]
    assert "moved outside Wordmill" in lines[3]


def test_unknown_name_is_told_what_is_registered_without_histories(asked: Command, mill: str, command: Command, tmp_path: Path) -> None:
    told = asked("absent").refusal()
    assert "nothing is registered as 'absent' at sqlite:" in told
    assert mill in told
    assert "other" in told
    assert ".history" not in told
    assert "expected the name of a registered model" in asked("models:/other@champion").refusal()
    assert "nothing is registered at sqlite:" in command("champion", "x", "--workspace", str(tmp_path / "none")).refusal()
    assert not (tmp_path / "none").exists()


def test_name_without_a_champion_is_told(asked: Command, client: MlflowClient) -> None:
    assert asked("other").out == "other: no champion yet, and nothing was decided\n"
