"""What is posted after a night, and that its address is nowhere else."""

import json
import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from flows.runner import notify as module
from flows.runner.notify import notify
from tasks.promotion.notify_config import NotifyConfig
from tests.tasks.report.nights import MORNING, MORNINGS

SECRET = "T0PS3CRET"
Answer = Callable[[BaseHTTPRequestHandler], object]


class Receiver:
    """A web server that notes what it is sent, and answers as it is told to."""

    def __init__(self, answers: list[Answer]) -> None:
        self.bodies: list[dict] = []
        self.paths: list[str] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.paths.append(self.path)
                receiver.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                answers[min(len(receiver.bodies), len(answers)) - 1](self)

            def do_GET(self) -> None:
                receiver.paths.append(f"GET {self.path}")
                status(200)(self)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/{SECRET}"


def status(code: int, **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code, f"no {SECRET} for you")
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


@contextmanager
def receiving(*answers: Answer) -> Generator[Receiver]:
    receiver = Receiver(list(answers))
    threading.Thread(target=receiver.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield receiver
    finally:
        receiver.server.shutdown()
        receiver.server.server_close()


@pytest.fixture(autouse=True)
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """Everything that was logged, down to the libraries' smallest words, or printed; none of it may hold the address."""
    caplog.set_level(logging.DEBUG)
    logger = logging.getLogger("wordmill")
    logger.addHandler(caplog.handler)
    everything: list[str] = []

    def call() -> str:
        out, err = capfd.readouterr()
        everything.extend([out, err, *(f"{record.getMessage()} {record.exc_text or ''}" for record in caplog.records)])
        return "\n".join(record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING)

    yield call
    call()
    logger.removeHandler(caplog.handler)
    assert SECRET not in "\n".join(everything)


CONFIG = NotifyConfig(webhook="env:MILL_WEBHOOK", when="always")


def test_the_receiver_gets_one_line_of_text_and_the_facts(monkeypatch: pytest.MonkeyPatch, told: Callable[[], str]) -> None:
    with receiving(status(200)) as receiver:
        monkeypatch.setenv("MILL_WEBHOOK", f" {receiver.url}\n")
        assert notify(CONFIG, MORNING)
    (body,) = receiver.bodies
    assert receiver.paths == [f"/services/{SECRET}"]
    assert body["text"] == (
        "wordmill-areas 7: Promoted. areas: macro f1 is surely better by more than 0.01: luck alone does as well with a chance of 0.0004, "
        "0.0021 is allowed. "
        "areas: macro f1 0.612 → 0.648 (+0.036). Rows: 200 new, 3 changed, 1 removed."
    )
    assert (body["verdict"], body["name"], body["version"], body["new_rows"]) == ("promoted", "wordmill-areas", "7", 200)
    assert body["links"]["report"] == MORNING.links["report"]
    assert told() == ""


def test_text_calls_nobody_whatever_a_file_says(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving(status(200)) as receiver:
        monkeypatch.setenv("MILL_WEBHOOK", receiver.url)
        notify(CONFIG, replace(MORNINGS["failed"], why="new.jsonl:3: label '<!channel>'\nis new"))
    assert "<" not in receiver.bodies[0]["text"]
    assert "\n" not in receiver.bodies[0]["text"]


@pytest.mark.parametrize(
    ("when", "states"),
    [
        ("always", set(MORNINGS)),
        ("decided", set(MORNINGS) - {"nothing new"}),
        ("failed", {"all rows refused", "drift", "failed", "waiting"}),
    ],
)
def test_nights_that_are_told(when: str, states: set[str]) -> None:
    config = NotifyConfig.model_validate({"webhook": "env:MILL_WEBHOOK", "when": when})
    assert {state for state, morning in MORNINGS.items() if module.is_wanted(config, morning)} == states


def test_without_a_webhook_nobody_is_told(told: Callable[[], str]) -> None:
    assert not notify(NotifyConfig(when="always"), MORNING)
    assert told() == ""


def test_server_that_fails_once_is_tried_again(monkeypatch: pytest.MonkeyPatch, told: Callable[[], str]) -> None:
    with receiving(status(500), status(204)) as receiver:
        monkeypatch.setenv("MILL_WEBHOOK", receiver.url)
        assert notify(CONFIG, MORNING)
    assert len(receiver.bodies) == 2
    assert told() == ""


@pytest.mark.parametrize(
    ("answer", "tries", "words"),
    [
        (status(500), 2, "answered 500 Internal Server Error"),
        (status(404), 1, "answered 404 Not Found"),
        (status(799), 2, "answered 799"),
        (status(302, Location=f"http://127.0.0.1:1/{SECRET}"), 1, "answered 302 Found. Fix: store the address that it leads to"),
        (status(307, Location=f"/{SECRET}"), 1, "answered 307 Temporary Redirect"),
        (lambda request: request.connection.close(), 2, "could not be reached"),
        (lambda request: request.wfile.write(f"{SECRET} is no HTTP\r\n\r\n".encode()), 2, "could not be reached (BadStatusLine)"),
    ],
    ids=["500", "404", "799", "302", "307", "closed", "no HTTP"],
)
def test_refusal_is_a_warning_without_the_address(
    monkeypatch: pytest.MonkeyPatch, told: Callable[[], str], answer: Answer, tries: int, words: str
) -> None:
    with receiving(answer) as receiver:
        monkeypatch.setenv("MILL_WEBHOOK", receiver.url)
        assert not notify(CONFIG, MORNING)
    assert len(receiver.paths) == tries
    said = told()
    assert said.startswith("Nobody was told of this night: the webhook in env:MILL_WEBHOOK ")
    assert words in said


def test_server_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch, told: Callable[[], str]) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.2)
    ended = threading.Event()
    with receiving(lambda request: ended.wait(60)) as receiver:
        monkeypatch.setenv("MILL_WEBHOOK", receiver.url)
        assert not notify(CONFIG, MORNING)
        assert 1 <= len(receiver.bodies) <= 2
        ended.set()
    assert "did not answer within" in told()


def test_answer_that_never_ends_holds_nobody_up(monkeypatch: pytest.MonkeyPatch, told: Callable[[], str]) -> None:
    """Each byte of it comes in time."""
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.3)
    ended = threading.Event()

    def drip(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not ended.is_set():
            try:
                request.wfile.write(b"x")
            except OSError:
                return
            time.sleep(0.05)

    with receiving(drip) as receiver:
        monkeypatch.setenv("MILL_WEBHOOK", receiver.url)
        assert not notify(CONFIG, MORNING)
        ended.set()
    assert "did not answer within" in told()


@pytest.mark.parametrize(
    "address",
    [
        "",
        f"hooks.example.com/{SECRET}",
        f"file:///{SECRET}",
        f"http://[::1/{SECRET}",
        f"https://host:{SECRET}/",
        f"https://user:{SECRET}@host/",
        f"https://host/a {SECRET}",
        f"https://hôte/{SECRET}",
        f"https://{'a' * 80}.example/{SECRET}",
        f"https://example..com/{SECRET}",
    ],
)
def test_variable_without_a_web_address_is_a_warning_that_does_not_repeat_it(
    monkeypatch: pytest.MonkeyPatch, told: Callable[[], str], address: str
) -> None:
    monkeypatch.setenv("MILL_WEBHOOK", address)
    assert not notify(CONFIG, MORNING)
    assert "env:MILL_WEBHOOK" in told()
    assert "Fix: " in told()


def test_server_that_is_not_there_is_a_warning(monkeypatch: pytest.MonkeyPatch, told: Callable[[], str]) -> None:
    with receiving(status(200)) as receiver:
        pass
    monkeypatch.setenv("MILL_WEBHOOK", receiver.url)
    assert not notify(CONFIG, MORNING)
    assert told().endswith("refuses the connection")


def test_address_is_taken_from_a_secret_block(
    monkeypatch: pytest.MonkeyPatch, prefect_api: str, clean_environment: dict[str, str], told: Callable[[], str]
) -> None:
    from prefect.blocks.system import Secret
    from prefect.events.worker import EventsWorker
    from prefect.settings import PREFECT_API_URL, temporary_settings
    from pydantic import SecretStr

    with temporary_settings({PREFECT_API_URL: prefect_api}), receiving(status(200)) as receiver:
        Secret(value=SecretStr(receiver.url)).save("mill-webhook", overwrite=True)  # pyright: ignore[reportUnusedCoroutine]
        assert notify(CONFIG.model_copy(update={"webhook": "secret:mill-webhook"}), MORNING)
        assert len(receiver.bodies) == 1
        assert not notify(CONFIG.model_copy(update={"webhook": "secret:no-such-block"}), MORNING)
        EventsWorker.drain_all()  # while there is a server that takes them
    assert "the webhook in secret:no-such-block is not set" in told()
