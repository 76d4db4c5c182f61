"""Local services: `make up` and `make down`, a Prefect server, an MLflow server and a worker in the background."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from tasks.artifacts import Workspace
from tasks.errors import UserError
from tasks.tracking.address import PASSWORD, basic, database_url, silent

HOST = "127.0.0.1"
POOL = "wordmill"
START_SECONDS = 120.0
STOP_SECONDS = 25.0
SETTINGS = Path("prefect.toml")  # so that the prefect command finds the server; removed by `down`
WRITTEN = "# Written by `make up`, removed by `make down`.\n"  # the first line of it
ACCOUNTS = "mlflow-accounts.ini"


@dataclass(frozen=True)
class Service:
    """A background process: how it is started, and the address that answers once it is ready."""

    name: str
    command: tuple[str, ...]
    port: int
    health: str
    page: str


def services(workspace: Path, prefect_port: int, mlflow_port: int, worker_port: int) -> list[Service]:
    """The three, in the order they start."""
    python = (sys.executable, "-m")
    database = database_url(workspace / "mlflow.db")
    return [
        Service(
            "prefect",
            (*python, "uvicorn", "--factory", "flows.commands.prefect_app:create_app", "--host", HOST, "--port", str(prefect_port),
             "--log-level", "warning"),
            prefect_port, f"http://{HOST}:{prefect_port}/api/health", f"http://{HOST}:{prefect_port}",
        ),
        Service(
            "mlflow",
            (*python, "mlflow", "server", "--host", HOST, "--port", str(mlflow_port), "--backend-store-uri", database,
             "--default-artifact-root", (workspace / "mlartifacts").as_uri(), "--no-serve-artifacts", "--workers", "1",
             "--app-name", "basic-auth", "--allowed-hosts", f"{HOST}:{mlflow_port},localhost:{mlflow_port}",
             "--cors-allowed-origins", f"http://{HOST}:{mlflow_port}"),
            mlflow_port, f"http://{HOST}:{mlflow_port}/health", f"http://{HOST}:{mlflow_port}",
        ),
        Service(
            "worker",
            (*python, "prefect", "worker", "start", "--pool", POOL, "--type", "process", "--with-healthcheck", "--name", "local"),
            worker_port, f"http://{HOST}:{worker_port}/health", f"http://{HOST}:{prefect_port}/work-pools/work-pool/{POOL}",
        ),
    ]  # fmt: skip


def up(workspace: Path, prefect_port: int, mlflow_port: int, worker_port: int) -> list[Service]:
    """Start what does not run yet, wait until each answers, deploy every flow.

    UserError when a port is taken, and for settings of the user's own where ours are to lie.

    Both servers answer this machine alone, and of that only who knows the password in `PASSWORD`; the worker and the commands
    in this folder are given it.
    """
    if SETTINGS.exists() and not SETTINGS.read_text().startswith(WRITTEN):
        raise UserError(
            f"{SETTINGS.absolute()}: found settings that `make up` did not write; it would replace them by those of its servers. "
            "Fix: move the file away, or start from another folder."
        )
    workspace = Workspace(workspace).open().root
    workspace.chmod(0o700)  # also one from before workspaces were made so: databases and the password lie in it
    folder = workspace / "services"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = services(workspace, prefect_port, mlflow_port, worker_port)
    running = {service.name for service in wanted if alive(folder / f"{service.name}.json") is not None}
    for service in wanted:
        if service.name not in running and taken(service.port):
            raise UserError(
                f"port {service.port}, for {service.name}, is taken by another program. "
                f"Free it, or choose another: wordmill up --{service.name}-port {service.port + 10}"
            )
    pair = password(workspace / PASSWORD)
    user, _, word = pair.partition(":")
    if "mlflow" not in running:
        accounts(folder, user)
    environment = {
        **os.environ,
        "PREFECT_API_URL": f"http://{HOST}:{prefect_port}/api",
        "PREFECT_API_AUTH_STRING": pair,
        "PREFECT_SERVER_API_AUTH_STRING": pair,
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://{HOST}:{prefect_port},http://localhost:{prefect_port}",
        "PREFECT__SERVER_FINAL": "1",
        "PREFECT_API_DATABASE_CONNECTION_URL": database_url(workspace / "prefect.db", "aiosqlite"),
        "PREFECT_WORKER_WEBSERVER_PORT": str(worker_port),
        "PREFECT_WORKER_WEBSERVER_HOST": HOST,
        "PREFECT_WORKER_QUERY_SECONDS": "3",
        "PREFECT_LOGGING_LEVEL": "INFO",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        "MLFLOW_TRACKING_URI": f"http://{HOST}:{mlflow_port}",
        "MLFLOW_TRACKING_USERNAME": user,
        "MLFLOW_TRACKING_PASSWORD": word,
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / ACCOUNTS),
        "MLFLOW_AUTH_ADMIN_PASSWORD": word,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_urlsafe(),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes that nothing here uses
        "PWD": str(Path.cwd()),
    }
    for service in wanted[:2]:
        ensure(service, folder, environment, service.name in running)
    for service in wanted[:2]:
        await_answer(service, folder)
    for name, url in (
        ("prefect", f"http://{HOST}:{prefect_port}/api/admin/version"),
        ("mlflow", f"http://{HOST}:{mlflow_port}/"),
    ):
        if silent(url) is None or silent(url, basic(pair)) is not None:
            raise UserError(f"{name} runs without the password in {workspace / PASSWORD}. Fix: wordmill down, then up.")
    write_private(SETTINGS, f'{WRITTEN}[api]\nurl = "{wanted[0].page}/api"\nauth_string = "{pair}"\n')
    prefect(("work-pool", "create", POOL, "--type", "process", "--overwrite"), folder, environment)
    prefect(("--no-prompt", "deploy", "--all"), folder, environment)
    ensure(wanted[2], folder, environment, "worker" in running)
    await_answer(wanted[2], folder)
    return wanted


def down(workspace: Path) -> list[str]:
    """Stop what `up` started, the runs of the worker first; returns the names of what was stopped.

    The settings go with the server that they name: another workspace's may run on.
    """
    folder = Workspace(workspace).root / "services"
    stopped: list[str] = []
    for name in ("worker", "mlflow", "prefect"):
        record = folder / f"{name}.json"
        process = alive(record)
        if process is not None:
            stop_tree(process)
            stopped.append(name)
        if name == "prefect" and record.exists() and SETTINGS.exists():
            page = json.loads(record.read_text())["page"]
            if SETTINGS.read_text().startswith(f'{WRITTEN}[api]\nurl = "{page}/api"\n'):
                SETTINGS.unlink()
        record.unlink(missing_ok=True)
    return stopped


def password(path: Path) -> str:
    """The "user:password" of this workspace's servers; made where there is none."""
    if not path.exists():
        write_private(path, f"wordmill:{secrets.token_urlsafe(24)}\n")
    path.chmod(0o600)
    return path.read_text().strip()


def accounts(folder: Path, user: str) -> None:
    """The settings of MLflow's accounts: one user, who is told anew at each start; passwords are hashed once an hour."""
    database = folder / "mlflow-accounts.db"
    database.unlink(missing_ok=True)  # it would keep the password of an earlier start
    uri = database_url(database).replace("%", "%%")
    write_private(
        folder / ACCOUNTS,
        f"[mlflow]\ndefault_permission = NO_PERMISSIONS\ndatabase_uri = {uri}\nadmin_username = {user}\nauth_cache_ttl_seconds = 3600\n",
    )


def write_private(path: Path, text: str) -> None:
    """A file that its owner alone may read, from its first byte on; it replaces what is there."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(text)


def ensure(service: Service, folder: Path, environment: Mapping[str, str], runs: bool) -> None:
    """Start a service unless it runs; remember its process."""
    if runs:
        return
    with (folder / f"{service.name}.log").open("ab") as log:
        process = subprocess.Popen(
            service.command,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env=dict(environment),
        )
    started = psutil.Process(process.pid).create_time()
    noted = {"pid": process.pid, "started": started, "page": service.page}
    (folder / f"{service.name}.json").write_text(json.dumps(noted))


def alive(record: Path) -> psutil.Process | None:
    """The recorded process if it still runs; a process number taken over by another program is not it."""
    try:
        noted = json.loads(record.read_text())
        process = psutil.Process(noted["pid"])
        same = abs(process.create_time() - noted["started"]) < 1.0
    except (FileNotFoundError, psutil.NoSuchProcess):
        return None
    return process if same and process.status() != psutil.STATUS_ZOMBIE else None


def taken(port: int) -> bool:
    """Whether something listens on the port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def await_answer(service: Service, folder: Path) -> None:
    """Wait until the service answers. UserError with the end of its log when it ended or never does."""
    log = folder / f"{service.name}.log"
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if silent(service.health) is None:
            return
        if alive(folder / f"{service.name}.json") is None:
            raise UserError(f"{service.name} ended before it answered; the end of {log}:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.3)
    raise UserError(f"{service.name} did not answer at {service.health} within {START_SECONDS:.0f} s; see {log}")


def prefect(arguments: tuple[str, ...], folder: Path, environment: Mapping[str, str]) -> None:
    """Run one command of Prefect's; RuntimeError with what it printed when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "prefect", *arguments],
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
    )
    with (folder / "deploy.log").open("a") as log:
        log.write(done.stdout + done.stderr)
    if done.returncode != 0:
        raise RuntimeError(f"prefect {' '.join(arguments)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def stop_tree(process: psutil.Process) -> None:
    """Interrupt a service and its descendants, innermost first; kill what is left of its session after a while.

    A service leads a session of its own (`ensure`), so what a dying member started meanwhile is found by it.
    """
    session = os.getsid(process.pid)
    family = [*process.children(recursive=True), process]
    for member in reversed(family):
        _signal(member, signal.SIGINT)
    psutil.wait_procs(family, timeout=STOP_SECONDS)
    left = [member for member in family if member.is_running()] + session_members(session)
    for member in left:
        _signal(member, signal.SIGKILL)
    psutil.wait_procs(left, timeout=5)


def session_members(session: int) -> list[psutil.Process]:
    """The processes of a session."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session:
                found.append(process)
        except ProcessLookupError:
            continue  # it ended while we looked
    return found


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
