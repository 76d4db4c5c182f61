"""History of a champion: one order for all, compare-and-set, and an alias that follows."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Thread

import pytest
from mlflow import MlflowClient

from tasks.promotion import history
from tasks.promotion.history import Entry, Line, append, champion_after, described, read_history, settle_history, take_over, valid
from tasks.tracking.registered import registered_names

ROOT = Path(__file__).parents[3]
FIRST = Entry(0, "promoted", "2026-01-02T03:04:05+00:00", "someone@somewhere", "1", "", "1", "better", "aaaa")


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture(scope="module")
def client(uri: str) -> MlflowClient:
    return MlflowClient(uri, uri)


@pytest.fixture
def mill(client: MlflowClient, request: pytest.FixtureRequest) -> str:
    """A name with five versions and no champion."""
    name = request.node.name.replace("[", "-").replace("]", "")
    client.create_registered_model(name)
    for number in range(1, 6):
        client.create_model_version(name, "wordmill:/files", tags={"wordmill.fingerprint": f"of-{number}"})
    return name


@pytest.fixture(autouse=True)
def without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "SURE_SECONDS", 0.0)


def move(before: str, version: str, kind: history.EntryKind = "promoted") -> Entry:
    return replace(FIRST, kind=kind, version=version, before=before, champion=version)


def champion(client: MlflowClient, name: str) -> str:
    return str(client.get_model_version_by_alias(name, "champion").version)


def numbered(*moves: tuple[str, str]) -> list[Line]:
    return [Line(replace(move(*one), number=number), f"mark {number}", True) for number, one in enumerate(moves, 1)]


def test_entry_counts_only_where_it_starts_from_the_champion_after_the_last_that_counts() -> None:
    lines = numbered(("", "1"), ("1", "2"), ("1", "3"), ("2", "4"), ("3", "5"), ("4", "4"))
    assert [line.entry.number for line in valid(lines)] == [1, 2, 4, 6]


def test_entry_that_was_sent_twice_counts_once() -> None:
    first, second = numbered(("", "1"), ("1", "1"))
    twice = [first, second, replace(second, entry=replace(second.entry, number=3))]
    assert [line.entry.number for line in valid(twice)] == [1, 2]


def test_alias_moves_only_from_the_champion_that_was_compared_with(client: MlflowClient, mill: str) -> None:
    assert take_over(client, mill, FIRST)
    assert take_over(client, mill, move("1", "2"))
    assert not take_over(client, mill, move("1", "3"))
    assert champion(client, mill) == "2"
    assert [(entry.number, entry.champion) for entry in read_history(client, mill)] == [(1, "1"), (2, "2")]


def test_refusal_counts_only_while_the_champion_is_the_one_that_it_was_compared_with(client: MlflowClient, mill: str) -> None:
    refusal = replace(FIRST, kind="refused", version="2", before="1", champion="1")
    assert take_over(client, mill, FIRST)
    assert take_over(client, mill, refusal)
    assert take_over(client, mill, move("1", "3"))
    assert not take_over(client, mill, refusal)
    assert champion(client, mill) == "3"


def test_of_many_that_promote_at_once_from_one_champion_exactly_one_wins(client: MlflowClient, mill: str, uri: str) -> None:
    take_over(client, mill, FIRST)
    barrier, won = Barrier(8), list[str]()

    def promote(version: str) -> None:
        own = MlflowClient(uri, uri)
        barrier.wait()
        if take_over(own, mill, move("1", version)):
            won.append(version)

    threads = [Thread(target=promote, args=(str(2 + number % 4),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert champion(client, mill) == won[0] == champion_after(read_history(client, mill))


PROMOTE = """
import sys
from mlflow import MlflowClient
from tasks.promotion.history import Entry, take_over
uri, name, version = sys.argv[1:]
client = MlflowClient(uri, uri)
client.get_registered_model(name)
print("ready", flush=True)
sys.stdin.readline()
print(take_over(client, name, Entry(0, "promoted", "2026-01-01T00:00:00+00:00", "a@b", version, "1", version, "better")), flush=True)
"""


def test_of_two_processes_that_promote_at_once_one_wins_and_the_other_is_told(client: MlflowClient, mill: str, uri: str) -> None:
    take_over(client, mill, FIRST)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROMOTE, uri, mill, version], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for version in ("2", "3")
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=120)[0].strip() for process in processes]
    assert sorted(answers) == ["False", "True"]
    assert champion(client, mill) == ("2" if answers[0] == "True" else "3")


def test_move_whose_alias_was_never_set_is_completed_by_the_next_reader(client: MlflowClient, mill: str) -> None:
    take_over(client, mill, FIRST)
    append(client, mill, move("1", "2"))
    assert champion(client, mill) == "1"
    assert [entry.champion for entry in settle_history(client, mill)] == ["1", "2"]
    assert champion(client, mill) == "2"


def test_first_promotion_whose_alias_was_never_set_is_completed(client: MlflowClient, mill: str) -> None:
    append(client, mill, FIRST)
    settle_history(client, mill)
    assert champion(client, mill) == "1"


def test_late_setter_does_not_undo_a_later_move(client: MlflowClient, mill: str, monkeypatch: pytest.MonkeyPatch) -> None:
    take_over(client, mill, FIRST)
    setter: Callable[..., bool] = history.set_alias

    def overtaken(own: MlflowClient, name: str, version: str) -> bool:
        """Between reading the history and setting the alias, another promotes twice over."""
        monkeypatch.setattr(history, "set_alias", setter)
        assert take_over(client, mill, move("2", "3"))
        return setter(own, name, version)

    monkeypatch.setattr(history, "set_alias", overtaken)
    assert take_over(client, mill, move("1", "2"))
    assert champion(client, mill) == "3"
    assert [entry.kind for entry in settle_history(client, mill)] == ["promoted"] * 3


@pytest.mark.parametrize("version", ["1", "5"], ids=["to the one before", "elsewhere"])
def test_alias_that_was_moved_by_hand_is_found_and_stays(client: MlflowClient, version: str, request: pytest.FixtureRequest) -> None:
    name = f"hand {version}"
    client.create_registered_model(name)
    for _ in range(5):
        client.create_model_version(name, "wordmill:/files", tags={"wordmill.fingerprint": "known"})
    take_over(client, name, FIRST)
    take_over(client, name, move("1", "2"))
    client.set_registered_model_alias(name, "champion", version)
    last = settle_history(client, name)[-1]
    assert (last.kind, last.before, last.champion, last.fingerprint) == ("found", "2", version, "known")
    assert champion(client, name) == version
    assert not take_over(client, name, move("2", "3"))


def test_champion_from_before_there_was_a_history_is_found(client: MlflowClient, mill: str) -> None:
    client.set_registered_model_alias(mill, "champion", "4")
    (entry,) = settle_history(client, mill)
    assert described(entry) == "found version 4, the first: champion before there was a history"
    assert take_over(client, mill, move("4", "5"))


def test_champion_that_was_deleted_is_found_to_be_none(client: MlflowClient, mill: str) -> None:
    take_over(client, mill, FIRST)
    client.delete_model_version(mill, "1")
    assert (settle_history(client, mill)[-1].kind, champion_after(read_history(client, mill))) == ("found", "")
    assert take_over(client, mill, move("", "2"))


def test_promoted_version_that_was_deleted_before_its_alias_was_set_leaves_the_champion(client: MlflowClient, mill: str) -> None:
    take_over(client, mill, FIRST)
    append(client, mill, move("1", "2"))
    client.delete_model_version(mill, "2")
    assert champion_after(settle_history(client, mill)) == champion(client, mill) == "1"


@pytest.mark.filterwarnings("ignore:.*transition_model_version_stage")
def test_archived_champion_stays_champion(client: MlflowClient, mill: str) -> None:
    take_over(client, mill, FIRST)
    client.transition_model_version_stage(mill, "1", "Archived")
    assert [entry.kind for entry in settle_history(client, mill)] == ["promoted"]


def test_order_is_that_of_the_numbers_whatever_the_clock_says(client: MlflowClient, mill: str) -> None:
    take_over(client, mill, replace(FIRST, at="2026-10-25T02:59:00+02:00"))
    take_over(client, mill, replace(move("1", "2"), at="2026-10-25T02:01:00+01:00"))
    take_over(client, mill, replace(move("2", "3"), at="1970-01-01T00:00:00+00:00"))
    assert [entry.champion for entry in read_history(client, mill)] == ["1", "2", "3"]


def test_history_goes_on_from_the_alias_where_an_entry_was_deleted(client: MlflowClient, mill: str) -> None:
    for before, version in (("", "1"), ("1", "2"), ("2", "3")):
        take_over(client, mill, move(before, version))
    client.delete_model_version(f"{mill}.history", "2")
    assert champion_after(settle_history(client, mill)) == champion(client, mill) == "3"
    assert take_over(client, mill, move("3", "4"))


def test_versions_of_the_history_that_are_no_entries_do_not_count(
    client: MlflowClient, mill: str, caplog: pytest.LogCaptureFixture
) -> None:
    take_over(client, mill, FIRST)
    client.create_model_version(f"{mill}.history", "wordmill:/other")
    client.create_model_version(f"{mill}.history", "wordmill:/other", tags={history.ENTRY: '{"number": 1}'})
    assert take_over(client, mill, move("1", "2"))
    assert [entry.number for entry in read_history(client, mill)] == [1, 4]
    assert f"{mill}.history, version 3: no entry of a history" in caplog.text


def test_reading_changes_nothing_where_nothing_is_registered(client: MlflowClient) -> None:
    assert settle_history(client, "absent") == read_history(client, "absent") == ()
    assert not client.search_registered_models("name LIKE 'absent%'")


def test_history_is_no_model_and_is_readable_in_mlflow(client: MlflowClient, mill: str) -> None:
    take_over(client, mill, FIRST)
    take_over(client, mill, move("1", "3"))
    assert mill in registered_names(client)
    assert f"{mill}.history" not in registered_names(client)
    assert client.get_model_version(f"{mill}.history", "2").description == "promoted version 3 in place of 1: better"


def test_history_longer_than_a_page_is_read_whole(client: MlflowClient, mill: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "PAGE", 2)
    for before, version in (("", "1"), ("1", "2"), ("2", "3"), ("3", "4"), ("4", "5")):
        assert take_over(client, mill, move(before, version))
    assert len(read_history(client, mill)) == 5
