"""Tracking address: which MLflow a run talks to, and whether a server answers."""

import base64
import json
import os
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from urllib.request import Request, urlopen

from tasks.artifacts import Workspace
from tasks.errors import UserError

PASSWORD = Path("services") / "auth"  # in a workspace, mode 0600: "user:password" of the servers of `make up`
ANSWER_SECONDS = 5.0  # that a service may take to say that it is there
START_SECONDS = 20.0  # the same at the start of a run: a busy machine is no reason to give it up
NO_ANSWER = "does not answer"
SERVER = Path("services") / "mlflow.json"  # in a workspace, while they run


def tracking_address(uri: str | None, workspace: Workspace) -> str:
    """The recipe's, else the environment's, else a SQLite file in the workspace.

    Where it is the server that `make up` started in this workspace, its password is put into the environment unless another
    is there: that is where MLflow's client looks for it.
    """
    address = without_password(uri or os.environ.get("MLFLOW_TRACKING_URI") or database_url(workspace.root / "mlflow.db"))
    if address.startswith("http") and "MLFLOW_TRACKING_USERNAME" not in os.environ and is_own(address, workspace):
        user, _, password = (workspace.root / PASSWORD).read_text().strip().partition(":")
        os.environ |= {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password}
    return address


def without_password(address: str) -> str:
    """The address of a server without `user:password@`, which goes to the environment where no other stands there, and nowhere else."""
    parts = urlsplit(address)
    if not parts.scheme.startswith("http") or "@" not in parts.netloc:
        return address
    pair, _, host = parts.netloc.rpartition("@")
    user, _, password = pair.partition(":")
    if "MLFLOW_TRACKING_USERNAME" not in os.environ:
        os.environ |= {"MLFLOW_TRACKING_USERNAME": unquote(user), "MLFLOW_TRACKING_PASSWORD": unquote(password)}
    return urlunsplit(parts._replace(netloc=host))


def database_url(path: Path, driver: str = "pysqlite") -> str:
    """SQLAlchemy's address of an SQLite file. A path with signs that mean something in addresses is written as a file: URI.

    The driver is named then: MLflow makes folders of what follows `sqlite:///`.
    """
    if not set("?#%") & set(str(path)):
        return f"sqlite{'' if driver == 'pysqlite' else f'+{driver}'}:///{path}"
    return f"sqlite+{driver}:///file:{quote(str(path))}?uri=true"


def database_path(url: str) -> Path | None:
    """The file behind such an address; None for another."""
    start, _, path = url.partition(":///")
    if not start.startswith("sqlite"):
        return None
    return Path(unquote(path.removeprefix("file:").removesuffix("?uri=true"))) if path.startswith("file:") else Path(path)


def is_absent(address: str) -> bool:
    """Whether it is that of a database which is not there: MLflow would make one, folders and all."""
    path = database_path(address)
    return path is not None and not path.is_file()


def is_own(address: str, workspace: Workspace) -> bool:
    """Whether the address is that of the MLflow server that `make up` started in this workspace, whose password is there."""
    if not (workspace.root / PASSWORD).exists():
        return False
    try:
        started = json.loads((workspace.root / SERVER).read_text())
    except FileNotFoundError:
        return False
    return address.rstrip("/").replace("//localhost:", "//127.0.0.1:") == started.get("page")


def registry_name(address: str) -> str:
    """Which registry a version belongs to: a server's address, or the database in the workspace."""
    return "workspace" if address.startswith("sqlite") else address.rstrip("/")


def require_answer(address: str) -> None:
    """UserError when a server's address is silent, or refuses the password; a database needs no answer."""
    if not address.startswith("http"):
        return
    problem = mlflow_problem(address, START_SECONDS)
    if problem is not None:
        raise UserError(
            f"MLflow at {address} {problem}. Start it (make up), set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD "
            "if it asks for a password, or leave out tracking.uri and MLFLOW_TRACKING_URI to keep figures in the workspace."
        )


def mlflow_problem(address: str, seconds: float = ANSWER_SECONDS) -> str | None:
    """Why the MLflow server does not answer us in time, saying who we are as its client would, or None when it does."""
    token, user = os.environ.get("MLFLOW_TRACKING_TOKEN"), os.environ.get("MLFLOW_TRACKING_USERNAME")
    authorization = None if token is None else f"Bearer {token}"
    if user is not None:
        authorization = basic(f"{user}:{os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}")
    return silent(f"{address.rstrip('/')}/api/2.0/mlflow/experiments/search?max_results=1", authorization, seconds)


def may_pass(problem: str) -> bool:
    """Whether such a problem passes by itself: a server that refuses us goes on refusing."""
    return problem.startswith(NO_ANSWER)


def basic(pair: str) -> str:
    """The Authorization header of "user:password"."""
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def silent(url: str, authorization: str | None = None, seconds: float = ANSWER_SECONDS) -> str | None:
    """Why `url` does not answer, or None when it does; a page that is not there is an answer."""
    try:
        urlopen(Request(url, headers={} if authorization is None else {"Authorization": authorization}), timeout=seconds).close()
    except HTTPError as error:
        if error.code == 403 and b"host" in error.read(500).lower():
            return f"does not take requests for the host {urlsplit(url).hostname} (403; its option --allowed-hosts says which it takes)"
        if error.code in (401, 403):
            return f"refuses {'us without a password' if authorization is None else 'this password'} ({error.code} {error.reason})"
        return None if error.code < 500 else f"{NO_ANSWER} ({error.code} {error.reason})"
    except (URLError, TimeoutError, ConnectionError, ValueError) as error:
        return f"{NO_ANSWER} ({getattr(error, 'reason', error)})"
    return None
