"""`wordmill register`: registers by hand a model that MLflow did not take, or that a run was too short-lived to register."""

import json
import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

from flows.runner.session import run_tags
from flows.runner.waiting import CarryOut, carry_out, register_one
from tasks.artifacts import Workspace
from tasks.errors import UserError
from tasks.inference.tracked_runs import MODEL_STAGES
from tasks.lineage.artifact_graph import Graph, Node, read_graph
from tasks.promotion.champion import Registry
from tasks.promotion.history import now
from tasks.promotion.waiting import Waiting, read_waiting
from tasks.settings import given_path
from tasks.tracking.address import require_answer, tracking_address
from tasks.tracking.patience import Patience

if TYPE_CHECKING:
    from mlflow import MlflowClient

SECONDS = 10.0  # that the command waits for MLflow to take its run
EXPERIMENT = "registrations"


def register_artifact(reference: str, workspace: Workspace, address: str, carry: CarryOut = carry_out) -> list[dict[str, str]]:
    """Register the model that waits under this fingerprint or folder, or was decided on and not registered.

    Returns the notes of each registration. UserError where there is no such model, where it is registered already, or saying what is
    missing. `address`: of the registry, for a model that waits for no other one.
    """
    graph = read_graph(workspace)
    model = find_model(reference, graph, workspace)
    waiting = [one for one in read_waiting(workspace) if one.fingerprint == model.fingerprint] or [decided_on(model, graph, address)]
    done: list[dict[str, str]] = []
    for one in waiting:
        with open_registry(tracking_address(one.address, workspace)) as registry:
            done.append(register_one(workspace, one, registry, carry))
    return done


def find_model(reference: str, graph: Graph, workspace: Workspace) -> Node:
    """The finished model with this fingerprint, or the start of it, or in this folder. UserError where there is none, or several."""
    models = [node for node in graph.of(*MODEL_STAGES) if node.finished is not None]
    folder = given_path(reference).absolute()
    if folder.is_dir():
        found = [node for node in models if node.folder in (folder, folder.parent)]
    else:
        found = [node for node in models if re.fullmatch(r"[0-9a-f]{4,16}", reference) and node.fingerprint.startswith(reference)]
    if len(found) == 1:
        return found[0]
    told = f"several models begin so: {', '.join(node.fingerprint for node in found)}" if found else "no finished model of that name"
    waits = ", ".join(f"{one.fingerprint} ({one.label})" for one in read_waiting(workspace)) or "nothing"
    raise UserError(
        f"register {reference!r}: {told} in {workspace.root}, where {waits} waits. Expected a model's fingerprint or its artifact's folder."
    )


def decided_on(model: Node, graph: Graph, address: str) -> Waiting:
    """What registering a model takes that does not wait: its decision leads to the rest. UserError where it has none, or is registered."""
    made_of_it = [node for node in graph.nodes.values() if node.inputs.get("model") == model.fingerprint]
    for node in made_of_it:
        if node.stage == "register":
            name, version = node.notes.get("name"), node.notes.get("version")
            raise UserError(
                f"register: {model.fingerprint} is registered already, as {name} version {version}. Nothing was done. "
                f"To make it champion: wordmill champion {name} --set {version} --why …"
            )
    decisions = [node for node in made_of_it if node.stage == "gate"]
    if not decisions:
        has = ", ".join(node.stage for node in made_of_it) or "nothing"
        raise UserError(
            f"register: {model.stage} {model.fingerprint} was never decided on (made of it: {has}), and no model is registered without a "
            "decision. Fix: run the recipe that made it, which goes on from here; nothing is trained twice."
        )
    last = decisions[-1]
    read = {name: graph.nodes[source].folder for name, source in last.inputs.items() if source in graph.nodes}
    inputs = {name: str(folder) for name, folder in {**read, "decision": last.folder}.items()}
    config = json.dumps(last.config)
    return Waiting(model.fingerprint, last.fingerprint, f"gate {last.fingerprint}", config, inputs, address, now(), "asked for by hand")


@contextmanager
def open_registry(address: str) -> Generator[Registry]:
    """The registry, with a run of its own that the model is logged to."""
    require_answer(address)
    import mlflow

    client = mlflow.MlflowClient(address, address)
    patience = Patience(address, SECONDS, "register")
    run = patience.ask(lambda: client.create_run(_experiment(client), tags=run_tags("register"), run_name=f"register {now()}"))
    status = "FAILED"
    try:
        yield Registry(address, run.info.run_id, run_tags("register"), Lock())
        status = "FINISHED"
    finally:
        patience.ask(lambda: client.set_terminated(run.info.run_id, status))


def _experiment(client: "MlflowClient") -> str:
    found = client.get_experiment_by_name(EXPERIMENT)
    return client.create_experiment(EXPERIMENT) if found is None else found.experiment_id


def registered_view(done: Sequence[dict[str, str]]) -> str:
    """A line for each."""
    return "\n".join(f"{one['name']}: version {one['version']}, {one['verdict']}: {one['why']} ({one['uri']})" for one in done)
