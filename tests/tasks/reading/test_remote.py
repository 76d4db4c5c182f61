"""Remote files: what a service answers in place of a file is told, and its silence is bounded."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from model.data import remote_files
from tasks.errors import UserError
from tasks.reading import remote
from tasks.reading.files import SourceFile, digest_of, find_files

BODY = b"a line of text\n" * 1000


class Service(BaseHTTPRequestHandler):
    """Answers with the status that the path names; /half goes silent, and /cut ends, in the middle of the file."""

    protocol_version = "HTTP/1.1"
    silence = threading.Event()

    def do_HEAD(self) -> None:
        self.head()

    def do_GET(self) -> None:
        if not self.head():
            return
        whole = self.path == "/whole"
        self.wfile.write(BODY if whole else BODY[: len(BODY) // 2])
        self.wfile.flush()
        if self.path == "/half":
            self.silence.wait(20)
        self.close_connection = not whole

    def head(self) -> bool:
        name = self.path.strip("/")
        self.send_response(int(name) if name.isdecimal() else 200)
        self.send_header("Content-Length", "0" if name.isdecimal() else str(len(BODY)))
        self.end_headers()
        return not name.isdecimal()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    Service.silence.set()
    server.shutdown()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_files, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(remote, "TELL_SECONDS", 0.1)


def test_file_behind_an_address_is_found_and_read(service: str) -> None:
    (file,) = find_files("ingest source 'web'", [f"{service}/whole"])
    assert file.bytes == len(BODY)
    with remote.read_remote(file.url) as stream:
        assert stream.read() == BODY


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("401", "the service answered 401 Unauthorized. Fix: check the address"),
        ("404", "not found. Fix: check the address"),
        ("500", "the service answered 500 Internal Server Error. Fix: check the address and the network, or try again later"),
    ],
)
def test_answer_in_place_of_a_file_is_told(service: str, name: str, told: str) -> None:
    with pytest.raises(UserError) as refusal:
        find_files("ingest source 'web'", [f"{service}/{name}"])
    assert str(refusal.value).startswith(f"ingest source 'web': {service}/{name}: {told}")
    assert "AWS" not in str(refusal.value)


@pytest.mark.usefixtures("impatient")
def test_service_that_goes_silent_in_the_middle_of_a_file_is_waited_for_a_while(service: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UserError, match=r"/half: the service went silent, and was waited for in vain\. Fix: "):
        digest_of(SourceFile("half", f"{service}/half"))
    assert "no answer yet" in caplog.text


def test_file_that_breaks_off_is_told(service: str) -> None:
    with pytest.raises(UserError, match=r"/cut: .*(received \d+ of 15000 bytes|ContentLengthError).* Fix: "):
        digest_of(SourceFile("cut", f"{service}/cut"))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("scheme", ["http", "s3"])
def test_service_that_takes_a_connection_and_never_answers_is_waited_for_a_while(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        url = f"http://{address}/file" if scheme == "http" else f"s3://{address.replace('.', '-').replace(':', '-')}/file"
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{address}",
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "y",
            "AWS_DEFAULT_REGION": "nowhere",
        }.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(UserError, match=r"ingest source 'web': (http|s3)://.*/file: .*(silent|[Tt]imeout).* Fix: "):
            find_files("ingest source 'web'", [url])
