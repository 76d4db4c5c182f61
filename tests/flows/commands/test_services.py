"""`wordmill up`: servers that run deployments for who knows their password, and for no web page."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest
from mlflow import MlflowClient

from flows.commands import services
from tasks.errors import UserError
from tasks.tracking.address import basic, silent

if TYPE_CHECKING:
    from tests.flows.conftest import Mill

ROOT = Path(__file__).parents[3]
FOREIGN = "http://evil.example"


@dataclass(frozen=True)
class Up:
    """What `wordmill up` started, the folder it was typed in, and what it printed."""

    folder: Path
    workspace: Path
    environment: dict[str, str]
    prefect: str  # address of the API
    mlflow: str
    ports: tuple[str, ...]
    out: str

    @property
    def pair(self) -> str:
        return (self.workspace / "services" / "auth").read_text().strip()

    def call(self, *arguments: str) -> str:
        """A command typed in the folder, with nothing in its environment that names a server."""
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def up(mill: "Mill", clean_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory, free: Callable[[], int]) -> Iterator[Up]:
    """In a checkout of links, for it writes prefect.toml where it is typed; a umask that lets everybody read."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("flows", "tasks", "model", "configs", "prefect.yaml"):
        (folder / name).symlink_to(ROOT / name)
    workspace, prefect, mlflow, worker = folder / "workspace", free(), free(), free()
    environment = {**clean_environment, "PWD": str(folder)}
    ports = ("--prefect-port", str(prefect), "--mlflow-port", str(mlflow), "--worker-port", str(worker))
    found = Up(folder, workspace, environment, f"http://127.0.0.1:{prefect}/api", f"http://127.0.0.1:{mlflow}", ports, "")
    before = os.umask(0o022)
    try:
        out = found.call("flows.cli", "up", "--workspace", str(workspace), *ports)
        yield Up(folder, workspace, environment, found.prefect, found.mlflow, ports, out)
    finally:
        os.umask(before)
        found.call("flows.cli", "down", "--workspace", str(workspace))


def answer(url: str, body: bytes | None = None, method: str | None = None, **headers: str) -> tuple[int, dict[str, str]]:
    """Status and headers of an answer, as a browser would see them."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urlopen(Request(url, body, named, method=method), timeout=20) as reply:
            return reply.status, {name.lower(): value for name, value in reply.headers.items()}
    except HTTPError as error:
        return error.code, {name.lower(): value for name, value in error.headers.items()}


def orders(up: Up) -> list[tuple[str, bytes | None]]:
    """What changes something: a flow at Prefect's, an experiment at MLflow's."""
    return [
        (f"{up.prefect}/flows/", b'{"name": "stranger"}'),
        (f"{up.mlflow}/api/2.0/mlflow/experiments/create", b'{"name": "stranger"}'),
    ]


def test_page_of_another_origin_is_obeyed_by_neither_server(up: Up) -> None:
    for url, body in orders(up):
        for kind in ("application/json", "text/plain"):
            assert answer(url, body, Content_Type=kind, Origin=FOREIGN)[0] in (401, 403), url
        asked = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "content-type"}
        _, headers = answer(url, method="OPTIONS", Origin=FOREIGN, **asked)
        assert "access-control-allow-origin" not in headers, url
    stranger = answer(f"{up.prefect}/flows/name/stranger", Authorization=basic(up.pair))[0]
    assert stranger == 404


def test_page_of_another_origin_may_read_no_answer_even_with_the_password(up: Up) -> None:
    for url in (f"{up.prefect}/admin/version", f"{up.mlflow}/api/2.0/mlflow/experiments/search?max_results=1"):
        status, headers = answer(url, Authorization=basic(up.pair), Origin=FOREIGN)
        assert status == 200
        assert "access-control-allow-origin" not in headers


def test_request_that_names_another_host_is_refused_even_with_the_password(up: Up) -> None:
    for url, body in orders(up):
        status, _ = answer(url, body, Content_Type="application/json", Authorization=basic(up.pair), Host="evil.example")
        assert status in (400, 403), url


@pytest.mark.parametrize("authorization", [None, basic("wordmill:guess"), basic(":")])
def test_wrong_password_opens_neither_server(up: Up, authorization: str | None) -> None:
    said = {} if authorization is None else {"Authorization": authorization}
    for url in (f"{up.prefect}/admin/version", f"{up.mlflow}/api/2.0/mlflow/experiments/search?max_results=1"):
        assert answer(url, **said)[0] == 401, url


def test_servers_listen_on_the_loopback_device_alone(up: Up) -> None:
    ports = {int(url.split(":")[2].split("/")[0]) for url in (up.prefect, up.mlflow)}
    found = {
        (entry.laddr.ip, entry.laddr.port)
        for entry in psutil.net_connections("tcp")
        if entry.status == psutil.CONN_LISTEN and entry.laddr.port in ports
    }
    assert found == {("127.0.0.1", port) for port in ports}


def test_password_and_workspace_are_their_owners_alone(up: Up) -> None:
    modes = {
        path.name: oct(path.stat().st_mode & 0o777)
        for path in (up.workspace, up.workspace / "services" / "auth", up.folder / "prefect.toml")
    }
    assert modes == {"workspace": "0o700", "auth": "0o600", "prefect.toml": "0o600"}
    assert "services/auth" in up.out
    assert up.pair.partition(":")[2] not in up.out


def test_commands_typed_in_the_folder_have_the_password_and_the_worker_runs_what_they_ask_for(up: Up, recipe: Path) -> None:
    assert "finetune/nightly" in up.call("prefect", "deployment", "ls")
    set_to = [f"recipe={recipe}", f'overrides=["workspace={up.workspace}", "finetune=[]", "examples=[]"]']
    said = up.call("prefect", "deployment", "run", "pretrain/demo", "--watch", *(part for value in set_to for part in ("--param", value)))
    assert "Completed" in said
    client = MlflowClient(f"sqlite:///{up.workspace}/mlflow.db")
    assert int(client.get_model_version_by_alias("tiny", "champion").version) == 1


def test_doctor_says_which_server_answers_and_which_wants_a_password(up: Up, tmp_path: Path) -> None:
    named = {"MLFLOW_TRACKING_URI": up.mlflow, "PREFECT_API_URL": up.prefect, "PREFECT_API_KEY": "of another server"}
    servers = (up.mlflow, up.prefect)

    def said(folder: Path, workspace: Path) -> str:
        return subprocess.run(
            [sys.executable, "-m", "flows.cli", "doctor", "--workspace", str(workspace)],
            cwd=folder,
            text=True,
            env={**up.environment, **named, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=False,
        ).stdout

    known, unknown = said(up.folder, up.workspace), said(tmp_path, tmp_path / "other")
    for url in servers:
        assert f"{url} answers" in known
        assert f"{url} refuses " in unknown


def test_up_again_keeps_the_password_and_says_when_servers_have_another(up: Up) -> None:
    again = ("flows.cli", "up", "--workspace", str(up.workspace), *up.ports)
    path, before = up.workspace / "services" / "auth", up.pair
    up.call(*again)
    assert up.pair == before
    path.unlink()
    try:
        done = subprocess.run(
            [sys.executable, "-m", *again], cwd=up.folder, env=up.environment, capture_output=True, text=True, check=False
        )
    finally:
        path.write_text(before + "\n")
    assert done.returncode == 2
    assert f"prefect runs without the password in {path}. Fix: wordmill down, then up." in done.stderr


def test_down_leaves_the_settings_of_servers_that_another_workspace_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Path("prefect.toml")
    for name, port in (("mine", 4210), ("other", 4220)):
        (tmp_path / name / "services").mkdir(parents=True)
        noted = {"pid": 2**22 + 1, "started": 0.0, "page": f"http://127.0.0.1:{port}"}  # no process has this number
        (tmp_path / name / "services" / "prefect.json").write_text(json.dumps(noted))
    settings.write_text(f'{services.WRITTEN}[api]\nurl = "http://127.0.0.1:4210/api"\nauth_string = "wordmill:x"\n')
    assert services.down(tmp_path / "other") == []
    assert services.down(tmp_path / "nowhere") == []
    assert settings.exists()
    assert services.down(tmp_path / "mine") == []
    assert not settings.exists()


def test_up_replaces_no_settings_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prefect.toml").write_text('[api]\nurl = "https://prefect.example/api"\n')
    with pytest.raises(UserError, match=r"prefect.toml: found settings that `make up` did not write.*Fix: move the file away"):
        services.up(tmp_path / "workspace", 1, 2, 3)
    assert "prefect.example" in Path("prefect.toml").read_text()
    assert not (tmp_path / "workspace").exists()


def test_temporary_server_of_a_run_takes_orders_from_that_run_alone(
    clean_environment: dict[str, str], recipe: Path, workspace: Path, wait_until: Callable[..., None]
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "run", str(recipe), "--workspace", str(workspace), "--set", "pretrain.steps=400"],
        cwd=ROOT,
        env=clean_environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )

    def server() -> str | None:
        for child in psutil.Process(process.pid).children():
            line = child.cmdline()
            if "uvicorn" in line and "--port" in line:
                return f"http://127.0.0.1:{line[line.index('--port') + 1]}/api"
        return None

    def is_up() -> bool:
        url = server()
        return url is not None and silent(f"{url}/health") is None

    try:
        wait_until(is_up, "the temporary server")
        statuses = [
            answer(f"{server()}/flows/", b'{"name": "stranger"}', Content_Type=kind, Origin=FOREIGN)[0]
            for kind in ("application/json", "text/plain")
        ]
        assert statuses == [401, 401]
    finally:
        process.terminate()
        process.communicate(timeout=60)
