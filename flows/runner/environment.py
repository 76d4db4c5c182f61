"""Environment: settings of libraries that must be in place before they are imported. Nothing phones home."""

import os
from pathlib import Path

from tasks.tracking.address import database_url

SILENT = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "wordmill",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",  # a new database on a busy machine
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # stdout is the command's own: one JSON document with --json
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false",  # the journal carries them
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",  # seconds of silence, also after a file was sent; MLflow's own 120, tried 8 times, are 16 minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # of each request: a registration asks again itself (tasks/tracking/patience.py)
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "GIT_PYTHON_REFRESH": "quiet",
    "TOKENIZERS_PARALLELISM": "false",
}


def settle(workspace: Path | None = None) -> None:
    """Set what the user has not set. With a workspace, Prefect's temporary server keeps its database there."""
    for name, value in SILENT.items():
        os.environ.setdefault(name, value)
    if workspace is not None:
        workspace.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("PREFECT_API_DATABASE_CONNECTION_URL", database_url(workspace.absolute() / "prefect.db", "aiosqlite"))
        os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")  # what fails is told once, by the command
        os.environ.setdefault("PREFECT_INTERNAL_LOGGING_LEVEL", "CRITICAL")
        os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "CRITICAL")
        os.environ.setdefault("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")
