"""`wordmill doctor`: what this machine has and lacks for a run, one line a check."""

import importlib.util
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil

from tasks.artifacts import LIBRARIES, Workspace
from tasks.errors import UserError
from tasks.tracking.address import mlflow_problem, tracking_address

MEMORY_BYTES = 4 * 2**30  # what the demo is held to
DISK_BYTES = 2 * 2**30
VARIABLES = {  # that name a server, and its password
    "prefect": ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING"),
    "mlflow": ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
}


@dataclass(frozen=True)
class Check:
    """One finding; `fix` says what to do where `fine` is false."""

    name: str
    fine: bool
    found: str
    fix: str = ""


def examine(workspace: Path) -> list[Check]:
    """Every check, the cheap ones first."""
    return [
        python(),
        *libraries(),
        processor(),
        memory(),
        disk(workspace),
        workspace_opens(workspace),
        gpu(),
        *servers(workspace),
    ]


def python() -> Check:
    """Python's version."""
    fine = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Check("python", fine, f"{platform.python_version()} at {sys.executable}", "use Python 3.11, 3.12 or 3.13")


def libraries() -> list[Check]:
    """What is installed of what we stand on."""
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    found = ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES if name not in missing)
    return [Check("libraries", not missing, found, f"install {', '.join(missing)}: make demo sets up a whole environment")]


def processor() -> Check:
    """Cores, and which matrix products are fast."""
    import torch

    from model.distributed.device import choose_precision

    fast = choose_precision("auto", torch.device("cpu")) == torch.bfloat16
    told = "bfloat16 is fast" if fast else "bfloat16 is no faster than float32, which is used"
    return Check("processor", True, f"{os.cpu_count()} cores; {told}")


def memory() -> Check:
    """Free memory against what the demo takes."""
    free = psutil.virtual_memory().available
    return Check("memory", free >= MEMORY_BYTES, f"{free / 2**30:.1f} GiB available", "the demo takes up to 4 GiB: close something")


def disk(workspace: Path) -> Check:
    """Free space where the workspace is."""
    there = next(folder for folder in (workspace.absolute(), *workspace.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    return Check("disk", free >= DISK_BYTES, f"{free / 2**30:.1f} GiB free at {there}", "free 2 GiB, or use --workspace DIR")


def workspace_opens(workspace: Path) -> Check:
    """Whether the workspace is ours and writable; none yet is fine."""
    if not workspace.exists():
        return Check("workspace", True, f"{workspace} does not exist yet")
    try:
        Workspace(workspace).open()
    except UserError as error:
        return Check("workspace", False, str(error), "use --workspace DIR")
    return Check("workspace", True, str(workspace.absolute()))


def gpu() -> Check:
    """GPUs that torch sees."""
    import torch

    if not torch.cuda.is_available():
        return Check("gpu", True, "none; training runs on the processor")
    names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    return Check("gpu", True, names)


def servers(workspace: Path) -> list[Check]:
    """Whether the servers that a run would use answer it, password and all; none named is fine."""
    from flows.deployed import prefect_problem

    mlflow = tracking_address(None, Workspace(workspace))
    named = {
        "prefect": prefect_problem(),
        "mlflow": (mlflow, mlflow_problem(mlflow)) if mlflow.startswith("http") else None,
    }
    checks: list[Check] = []
    for name, (variable, password) in VARIABLES.items():
        found = named[name]
        if found is None:
            checks.append(Check(name, True, f"no server named ({variable} is not set); one is not needed"))
            continue
        url, problem = found
        fix = f"start it (make up), set {password} if it asks for a password, or unset {variable}"
        checks.append(Check(name, problem is None, f"{url} {problem or 'answers'}", fix))
    return checks
