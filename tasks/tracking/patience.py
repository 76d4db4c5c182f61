"""Patience with MLflow: what it refused is final; what may pass is tried again, and never for longer than a stated time."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from tasks.errors import UserError, machine_fault
from tasks.tracking.address import may_pass, mlflow_problem

if TYPE_CHECKING:
    from mlflow.exceptions import MlflowException
    from requests import RequestException

Answer = TypeVar("Answer")
WAIT_SECONDS = 120.0  # for an MLflow that is silent, dead or being restarted
LONGEST_PAUSE = 15.0  # between two tries
PASSING, REFUSED = (408, 429), (401, 403)  # HTTP's: time-out, too many requests; no or another password
FIX = "what was made is kept. Fix: see that it answers, then run again"


class RegistryAway(ConnectionError):
    """MLflow at `address` did not answer for as long as was allowed."""

    def __init__(self, told: str, address: str = "") -> None:
        super().__init__(told)
        self.address = address


@dataclass
class Patience:
    """How long one errand may wait for the MLflow at `address`: all its requests together, counted from the first that failed.

    A request itself lasts as long as MLFLOW_HTTP_REQUEST_TIMEOUT and MLFLOW_HTTP_REQUEST_MAX_RETRIES let it.
    """

    address: str
    seconds: float
    place: str  # of the errand, for its errors: "register: mill"
    _deadline: float | None = field(default=None, init=False)

    def ask(self, request: Callable[[], Answer]) -> Answer:
        """What `request` returns. UserError for what MLflow refuses, RegistryAway where it does not take it in time."""
        from mlflow.exceptions import MlflowException
        from requests import RequestException

        pause = 0.5
        while True:
            try:
                return request()
            except (MlflowException, RequestException) as error:
                if machine_fault(error) is not None:
                    raise
                told = what_it_told(error, f"{self.place}: MLflow at {self.address}")
                if isinstance(told, UserError):
                    raise told from error
                self._pause(told, pause)
            self.require()  # asked in short before a long request is made again
            pause = min(2 * pause, LONGEST_PAUSE)

    def require(self) -> None:
        """Wait for a server to answer; a database needs no answer. UserError where it refuses us."""
        while (problem := mlflow_problem(self.address) if self.address.startswith("http") else None) is not None:
            told = f"{self.place}: MLflow at {self.address} {problem}; {FIX}"
            if not may_pass(problem):
                raise UserError(told)
            self._pause(ConnectionError(told), 1.0)

    def left(self) -> float:
        """Seconds that it may still wait."""
        return self.seconds if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def _pause(self, fault: ConnectionError, seconds: float) -> None:
        """Sleep after a failure. RegistryAway, with the words of `fault`, where the time allowed is over."""
        self._deadline = self._deadline or time.monotonic() + self.seconds
        if self.left() <= 0:
            raise RegistryAway(str(fault), self.address) from fault
        time.sleep(min(seconds, self.left()))


def what_it_told(error: "MlflowException | RequestException", place: str) -> UserError | ConnectionError:
    """What MLflow refused is final; too many requests, a broken server and a broken connection may pass."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        status = error.get_http_status_code()
    else:  # of files
        status = 500 if error.response is None else error.response.status_code
    words = next(iter(str(error).splitlines()), type(error).__name__)[:500].rstrip(".")
    if not 400 <= status < 500 or status in PASSING:
        return ConnectionError(f"{place} did not take it ({words}); {FIX}")
    if status in REFUSED:
        fix = "give MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD of one who may register models, then run again"
    else:
        fix = "put right what it names, or give the recipe another name, then run again"
    return UserError(f"{place} refused it ({words}); what was made is kept. Fix: {fix}.")
