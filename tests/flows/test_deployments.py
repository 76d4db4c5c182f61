"""The deployments of prefect.yaml on a real server, and one of them run by a worker."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import psutil
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule

if TYPE_CHECKING:
    from tests.flows.conftest import Mill

ROOT = Path(__file__).parents[2]
POOL = "wordmill"


@pytest.fixture(scope="module")
def prefect(mill: "Mill") -> Callable[..., str]:
    """The `prefect` command, from the project's folder."""

    def call(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "prefect", *arguments],
            cwd=ROOT,
            env=mill.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return call


@pytest.fixture(scope="module")
def client(prefect_api: str) -> Iterator[SyncPrefectClient]:
    with SyncPrefectClient(prefect_api) as found:
        yield found


@pytest.fixture(scope="module")
def deployments(prefect: Callable[..., str], client: SyncPrefectClient) -> dict[str, DeploymentResponse]:
    """As `make up` makes them, by "flow/deployment"."""
    prefect("work-pool", "create", POOL, "--type", "process", "--overwrite")
    prefect("--no-prompt", "deploy", "--all")
    names = ["pretrain/demo", "pretrain/full", "finetune/nightly", "evaluate/champion"]
    return {name: client.read_deployment_by_name(name) for name in names}


@pytest.fixture
def worker(mill: "Mill", tmp_path: Path, deployments: dict[str, DeploymentResponse]) -> Iterator[Path]:
    """A worker of the pool; yields its log."""
    log = tmp_path / "worker.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process"],
            cwd=ROOT,
            env={**mill.environment, "PREFECT_WORKER_QUERY_SECONDS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    yield log
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for member in family:
        member.kill()
    psutil.wait_procs(family, timeout=10)


def test_every_deployment_names_files_that_exist_and_parameters_its_flow_takes(deployments: dict[str, DeploymentResponse]) -> None:
    for name, deployment in deployments.items():
        known = deployment.parameter_openapi_schema["properties"]
        assert set(deployment.parameters) <= set(known), name
        for key in ("recipe", "suite"):
            if key in deployment.parameters:
                assert (ROOT / deployment.parameters[key]).is_file(), f"{name}: {deployment.parameters[key]}"


def test_nightly_finetuning_has_a_schedule_in_its_time_zone_and_runs_once_at_a_time(deployments: dict[str, DeploymentResponse]) -> None:
    nightly = deployments["finetune/nightly"]
    (schedule,) = nightly.schedules
    assert schedule.active
    assert (schedule.schedule.cron, schedule.schedule.timezone) == ("0 3 * * *", "Europe/Berlin")
    assert nightly.global_concurrency_limit is not None
    assert nightly.global_concurrency_limit.limit == 1


def test_only_the_nightly_deployment_is_scheduled(deployments: dict[str, DeploymentResponse]) -> None:
    assert [name for name, deployment in deployments.items() if deployment.schedules] == ["finetune/nightly"]


def test_worker_runs_a_deployment_and_leaves_ledgers_summary_and_report(
    deployments: dict[str, DeploymentResponse],
    worker: Path,
    client: SyncPrefectClient,
    recipe: Path,
    workspace: Path,
    wait_until: Callable[..., None],
) -> None:
    overrides = [f"workspace={workspace}", "register.promote=better"]
    parameters = {"recipe": os.fspath(recipe), "overrides": overrides}
    started = client.create_flow_run_from_deployment(deployments["pretrain/demo"].id, parameters=parameters)

    def ended() -> bool:
        state = client.read_flow_run(started.id).state
        return state is not None and state.is_final()

    wait_until(ended, "the end of the flow run")
    flow_run = client.read_flow_run(started.id)
    assert flow_run.state is not None
    assert flow_run.state.is_completed(), worker.read_text()[-4000:]
    found = client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[started.id])))
    kinds = {artifact.key: artifact.type for artifact in found if artifact.key}
    assert kinds == {
        "report": "markdown",
        "summary": "markdown",
        "ledger-gate-base": "table",
        "ledger-gate-topics": "table",
        "ledger-gate-answers": "table",
        "ledger-report": "table",
        "ledger-register-base": "table",
        "ledger-register-topics": "table",
        "ledger-register-answers": "table",
    }


def runs_of(client: SyncPrefectClient, deployment: DeploymentResponse) -> list[FlowRun]:
    """The scheduler's runs of a deployment, whatever became of them."""
    only = DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id]))
    return [run for run in client.read_flow_runs(deployment_filter=only) if run.auto_scheduled]


def test_nightly_runs_are_scheduled_ahead(
    deployments: dict[str, DeploymentResponse], client: SyncPrefectClient, wait_until: Callable[..., None]
) -> None:
    nightly = deployments["finetune/nightly"]
    wait_until(lambda: len(runs_of(client, nightly)) > 1, "runs of finetune/nightly")
    times = [run.expected_start_time for run in runs_of(client, nightly)]
    assert {found.astimezone(ZoneInfo("Europe/Berlin")).strftime("%H:%M") for found in times if found} == {"03:00"}


def test_scheduled_run_starts_when_it_is_due_and_completes(
    deployments: dict[str, DeploymentResponse],
    worker: Path,
    client: SyncPrefectClient,
    recipe: Path,
    workspace: Path,
    wait_until: Callable[..., None],
) -> None:
    demo = deployments["pretrain/demo"]
    every_minute = CronSchedule(cron="* * * * *")
    parameters = {"recipe": os.fspath(recipe), "overrides": [f"workspace={workspace}"]}
    (schedule,) = client.create_deployment_schedules(demo.id, [(every_minute, True)], parameters=parameters)

    def ended() -> bool:
        return any(run.state is not None and run.state.is_final() for run in runs_of(client, demo))

    wait_until(ended, "a scheduled run that has ended")
    client.delete_deployment_schedule(demo.id, schedule.id)
    run = next(run for run in runs_of(client, demo) if run.state is not None and run.state.is_final())
    assert run.state is not None
    assert run.state.is_completed(), worker.read_text()[-4000:]
