"""Waiting registrations, carried out: what MLflow did not take is registered by the next run of its workspace, or by hand."""

import logging
from collections.abc import Callable
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from flows.judging import decide_again
from flows.stages import Contending, Given, candidate_of, challenger_of
from tasks.artifacts import (
    Artifact,
    Examples,
    FinetunedModel,
    GateDecision,
    ModelMemory,
    PretrainedModel,
    Report,
    Scores,
    Workspace,
    as_artifact,
    read_manifest,
)
from tasks.errors import UserError
from tasks.ledger import StageOutcome
from tasks.promotion.champion import Registry
from tasks.promotion.register import register_model
from tasks.promotion.waiting import Waiting, forget_waiting, read_waiting
from tasks.tracking.address import registry_name
from tasks.tracking.patience import RegistryAway

logger = logging.getLogger("wordmill")

FOLDER = "registrations"  # in a workspace: what was written when waiting models were registered
KINDS: dict[str, type[Artifact]] = {  # what a registration may read, by stage
    "pretrain": PretrainedModel,
    "champion": PretrainedModel,
    "base": PretrainedModel,
    "finetune": FinetunedModel,
    "head": FinetunedModel,
    "evaluate": Scores,
    "examples": Examples,
    "gather": Examples,
    "memory": ModelMemory,
    "gate": GateDecision,
    "report": Report,
}
CarryOut = Callable[[str, Given, Path, Registry], StageOutcome]  # config as JSON; what is read; a folder to write to


def carry_out(config: str, given: Given, out: Path, registry: Registry) -> StageOutcome:
    """Register, as the stage would have, deciding anew where there is no decision or it was made against another champion."""
    told = TypeAdapter(Contending).validate_json(config)
    seconds = told.registration.wait_seconds
    return register_model(
        told.registration,
        candidate_of(given),
        out,
        registry,
        lambda folder: decide_again(told.contest, challenger_of(given), folder, registry, seconds),
    )


def register_waiting(workspace: Workspace, address: str, registry: Callable[[], Registry], carry: CarryOut = carry_out) -> None:
    """Register what waits in the workspace for the registry at `address`. What cannot be registered now is told, and waits on."""
    for waiting in read_waiting(workspace):
        if registry_name(waiting.address) != registry_name(address):
            continue
        try:
            notes = register_one(workspace, waiting, registry(), carry)
        except (UserError, RegistryAway) as error:
            logger.warning("%s of model %s waits on: %s", waiting.label, waiting.fingerprint, error)
        else:
            logger.info("register: %s had waited since %s: version %s, %s", notes["name"], waiting.since, notes["version"], notes["why"])


def register_one(workspace: Workspace, waiting: Waiting, registry: Registry, carry: CarryOut = carry_out) -> dict[str, str]:
    """Register it, against the champion of now; it waits no longer then. Returns the notes of its registration."""
    given = given_of(waiting)
    out = workspace.root / FOLDER / f"{waiting.fingerprint}-{waiting.stage}"
    out.mkdir(parents=True, exist_ok=True)
    try:
        done = carry(waiting.config, given, out, registry)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise UserError(
            f"register: model {waiting.fingerprint}: the settings of its registration are not whole ({'.'.join(map(str, fault['loc']))}: "
            f"{fault['msg']}). Fix: run again the recipe that made it; nothing is trained twice."
        ) from error
    forget_waiting(workspace, waiting)
    return dict(done.notes)


def given_of(waiting: Waiting) -> Given:
    """What the registration reads. UserError for an artifact that is gone."""
    inputs: dict[str, Artifact | None] = {"memory": None, "examples": None, "decision": None, "report": None, "base": None}
    for name, folder in waiting.inputs.items():
        manifest = read_manifest(Path(folder))
        if manifest is None:
            raise UserError(f"{folder}: gone, or not whole. Fix: put it back, or run again the recipe that made it.")
        inputs[name] = as_artifact(KINDS.get(manifest.stage, Artifact), Path(folder), manifest)
    return Given(inputs)
