"""Which MLflow a run talks to."""

import os
from urllib.error import URLError
from urllib.request import urlopen

from tasks.artifacts import Workspace
from tasks.errors import UserError


def tracking_address(uri: str | None, workspace: Workspace) -> str:
    """The recipe's, else the environment's, else a SQLite file in the workspace."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{workspace.root / 'mlflow.db'}"


def registry_mark(address: str) -> str:
    """Which registry a version belongs to: a server's address, or the database in the workspace."""
    return "workspace" if address.startswith("sqlite") else address.rstrip("/")


def require_answer(address: str) -> None:
    """UserError when a server's address is silent; a database needs no answer."""
    if not address.startswith("http"):
        return
    try:
        urlopen(address.rstrip("/") + "/health", timeout=5).close()
    except (URLError, TimeoutError, ConnectionError, ValueError) as error:
        raise UserError(
            f"MLflow at {address} does not answer ({getattr(error, 'reason', error)}). Start it (make up), or leave out "
            "tracking.uri and MLFLOW_TRACKING_URI to keep figures in the workspace."
        ) from error
