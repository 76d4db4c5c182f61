"""Patience with an MLflow that is silent, dead or coming back."""

import socket
from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException

from tasks.errors import UserError
from tasks.tracking import patience
from tasks.tracking.patience import Patience, RegistryAway

DATABASE = "sqlite:////registry.db"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which goes on by sleeping alone."""
    seconds = [0.0]

    def sleep(long: float) -> None:
        seconds[0] += long

    monkeypatch.setattr(patience, "time", SimpleNamespace(monotonic=lambda: seconds[0], sleep=sleep))
    return seconds


def test_request_that_fails_for_a_while_is_made_again_until_it_is_taken(clock: list[float]) -> None:
    asked: list[float] = []

    def request() -> str:
        asked.append(clock[0])
        if clock[0] < 5:
            raise MlflowException("API request failed with timeout exception")
        return "taken"

    assert Patience(DATABASE, 60, "register").ask(request) == "taken"
    assert clock[0] < 20


def test_time_allowed_counts_from_the_first_failure_over_all_requests(clock: list[float]) -> None:
    waits = Patience(DATABASE, 60, "register: mill")

    def fails_until_50() -> None:
        if clock[0] < 50:
            raise MlflowException("no answer")

    def fails() -> None:
        raise MlflowException("no answer\nand more")

    waits.ask(fails_until_50)
    with pytest.raises(
        RegistryAway, match=r"^register: mill: MLflow at sqlite:////registry.db did not take it \(no answer\); what was made is"
    ):
        waits.ask(fails)
    assert clock[0] == 60


def test_long_request_that_is_taken_is_never_cut(clock: list[float]) -> None:
    def upload() -> str:
        clock[0] += 10_000
        return "sent"

    assert Patience(DATABASE, 60, "register").ask(upload) == "sent"


def test_what_mlflow_refuses_is_not_asked_again(clock: list[float]) -> None:
    def refused() -> None:
        raise MlflowException.invalid_parameter_value("a name with a slash")

    with pytest.raises(UserError, match="refused it"):
        Patience(DATABASE, 60, "register").ask(refused)
    assert clock[0] == 0


@pytest.mark.timeout(60)
def test_server_that_is_dead_is_away_once_the_time_is_over() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(RegistryAway, match="does not answer") as away:
        Patience(address, 0.2, "registry").require()
    assert away.value.address == address
