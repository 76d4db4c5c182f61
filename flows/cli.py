"""Command line: the `wordmill` command. Each subcommand imports what it needs, so that `wordmill --help` answers at once."""

import json
import logging
import shlex
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from tasks.errors import UserError, machine_fault

if TYPE_CHECKING:
    from flows.dags import Loaded


def _folder(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    from tasks.artifacts import check_workspace

    return None if value is None else check_workspace(value)


WORKSPACE = click.option(
    "--workspace",
    default=None,
    metavar="DIR",
    callback=_folder,
    help="Where artifacts live; default: the recipe's, else ./workspace.",
)
SET = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a recipe key, such as model.layers=4. Repeatable."
)
JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, everything else on stderr.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="wordmill")
def cli() -> None:
    """Raw text in, a language model out: trained, fine-tuned, scored, registered and explained."""


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 our fault, 2 the user's input, 130 interrupted."""
    # SIGINT is inherited ignored by a script's background jobs; SIGTERM ends a run as Ctrl-C does, its temporary server too
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.exceptions.Abort, InterruptedError) as error:  # click makes an Abort of Ctrl-C
        from flows.runner.interruption import leave

        if isinstance(error, InterruptedError):  # a training was stopped by itself
            click.echo(f"{error}", err=True)
        leave()
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except ConnectionError as error:  # of a service, after all tries
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except Exception as error:  # noqa: BLE001 - the last resort: told with its traceback, exit code 1
        told = lost_workers(error) or machine_fault(error)
        if told is not None:
            click.echo(f"error: {told}", err=True)
            sys.exit(2)
        traceback.print_exc()
        click.echo("This is our fault, not yours. Please report it with the lines above.", err=True)
        sys.exit(1)


def lost_workers(error: Exception) -> str | None:
    """What is to be told of workers that were lost at every try; None for any other error."""
    from tasks.cluster import LostWorkers

    return str(error) if isinstance(error, LostWorkers) else None


@cli.command()
@click.argument("recipe")
@SET
@WORKSPACE
@JSON
def run(recipe: str, overrides: tuple[str, ...], workspace: str | None, as_json: bool) -> None:
    """Run RECIPE here and now; what was computed before is not computed again."""
    loaded, changes = _load(recipe, overrides, workspace)
    _speak()
    _run_and_tell(loaded, recipe, changes, as_json, {})


def _run_and_tell(loaded: "Loaded", recipe: str, changes: list[str], as_json: bool, found: dict[str, object]) -> None:
    """Runs a recipe that was read, and prints what became of it, `found` before."""
    from flows.beginning import start_notes
    from flows.recipe import check_sources, notes_of
    from flows.runner.environment import settle
    from flows.runner.room import require_room
    from tasks.artifacts import Workspace
    from tasks.machine import this_machine
    from tasks.tracking.address import require_answer, tracking_address

    chosen = Workspace(loaded.recipe.workspace).open()
    check_sources(loaded.recipe)  # a path that is wrong is told before a server is started
    notes = [*notes_of(loaded.recipe), *start_notes(loaded.recipe)]
    for note in notes:
        logging.getLogger("wordmill").warning("%s", note)
    require_answer(tracking_address(loaded.recipe.tracking.uri, chosen))  # before a server is started
    require_room(loaded.recipe, loaded.dag, this_machine())
    settle(chosen.root)
    from flows.deployed import FLOWS, guarded, require_server

    require_server()
    with guarded():
        summary = FLOWS[loaded.flow](recipe=recipe, overrides=changes)
    told = summary["notes"]
    assert isinstance(told, list)
    summary["notes"] = [*notes, *told]
    if as_json:
        click.echo(json.dumps({**found, **summary}, ensure_ascii=False, indent=1))
    else:
        from flows.commands.tables import run_table

        click.echo(run_table(summary))


@cli.command()
@WORKSPACE
@JSON
def runs(workspace: str | None, as_json: bool) -> None:
    """List all trainings: how far each came, its best figure, the checkpoints that it keeps, and whether it can be resumed."""
    from flows.commands.runs import list_trainings, listing_json, listing_view
    from tasks.artifacts import Workspace

    found = list_trainings(Workspace(workspace or "workspace"))
    click.echo(json.dumps(listing_json(found), ensure_ascii=False, indent=1) if as_json else listing_view(found))


@cli.command()
@click.argument("artifact")
@WORKSPACE
@JSON
def resume(artifact: str, workspace: str | None, as_json: bool) -> None:
    """Go on with ARTIFACT, a training that was stopped or killed: its fingerprint, or its folder.

    Says what it found, then runs the recipe that made it, as it was then: the training goes on from its newest whole checkpoint.
    """
    from flows.commands import resume as resuming
    from flows.runner.environment import settle
    from tasks.artifacts import Workspace
    from tasks.lineage.run_reference import own_workspace

    settle()
    _speak()
    chosen = Workspace(workspace or own_workspace(artifact) or "workspace")
    found = resuming.look(artifact, chosen)
    if found.record.finished is not None:
        told = resuming.finished_text(found)
        click.echo(json.dumps({"resumed": None, "told": told}, ensure_ascii=False, indent=1) if as_json else told)
        return
    ready = resuming.prepare(found, chosen)
    for line in resuming.found_lines(ready):
        logging.getLogger("wordmill").info("%s", line)
    _run_and_tell(ready.loaded, str(ready.noted.recipe), list(ready.changes), as_json, {"resumed": resuming.found_json(ready)})


@cli.command()
@click.argument("recipe")
@SET
@click.option("--probe", "probes", is_flag=True, help="Run some steps of each training here first, where no run tells how fast it is.")
@click.option("--ladder", is_flag=True, help="Train a few small models of the recipe's own data first, and predict the whole run's loss.")
@WORKSPACE
@JSON
def plan(recipe: str, overrides: tuple[str, ...], probes: bool, ladder: bool, workspace: str | None, as_json: bool) -> None:
    """Tell what a run of RECIPE would do, before anything is spent: stages, why they run, seconds, memory, cost, and what does not fit."""
    from flows.beginning import start_notes
    from flows.commands.ladder_view import ladder_json, ladder_view
    from flows.commands.plan_page import plan_json, plan_view
    from flows.recipe import notes_of
    from flows.runner.forecast import forecast
    from flows.runner.plan import Plan
    from flows.tonight import night_notes
    from tasks.artifacts import Workspace
    from tasks.machine import this_machine
    from tasks.tracking.address import tracking_address

    loaded, changes = _load(recipe, overrides, workspace)
    climbed = None
    if ladder:
        from flows.commands.ladder import climb_ladder

        _speak()
        climbed = climb_ladder(loaded, recipe, changes)
    chosen = Workspace(loaded.recipe.workspace)
    planned = Plan(chosen, tracking_address(loaded.recipe.tracking.uri, chosen))
    loaded.dag(planned)
    notes = [*notes_of(loaded.recipe), *start_notes(loaded.recipe), *night_notes(loaded.recipe), *planned.notes]
    if probes:
        from flows.runner.probing import probe_trainings

        _speak()
        notes += probe_trainings(planned, loaded.recipe, this_machine())
    found = forecast(planned, loaded.recipe, this_machine())
    if as_json:
        document = plan_json(planned.rows, loaded.recipe, found, notes) | ({} if climbed is None else {"ladder": ladder_json(climbed)})
        click.echo(json.dumps(document, ensure_ascii=False, indent=1))
    else:
        click.echo(plan_view(planned.rows, loaded.recipe, found, notes))
        if climbed is not None:
            click.echo(f"\n{ladder_view(climbed)}")


@cli.command()
@click.argument("recipe")
@click.option(
    "--over",
    multiple=True,
    required=True,
    metavar="FIELD=SPACE",
    help="Search a field: 2,4,6 (one of these), 0.0..0.3 (between), 1e-4..1e-2:log (each power of ten as likely). Repeatable.",
)
@click.option("--trials", default=12, show_default=True, type=click.IntRange(2), help="How many, with the recipe as it stands.")
@click.option("--minutes", default=10.0, show_default=True, type=click.FloatRange(0, min_open=True), help="For all trials; then they stop.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="Of the values that are drawn.")
@click.option("--write", default=None, metavar="FILE", help="The best as a recipe; default: RECIPE-tuned.yaml beside it.")
@SET
@WORKSPACE
@JSON
def tune(
    recipe: str,
    over: tuple[str, ...],
    trials: int,
    minutes: float,
    seed: int,
    write: str | None,
    overrides: tuple[str, ...],
    workspace: str | None,
    as_json: bool,
) -> None:
    """Search fields of RECIPE by short trainings, and write the best as a recipe.

    Trials train side by side on the recipe's own data; those that fall behind are ended early. The first is the recipe as it stands.
    A search that was stopped goes on with the same command.
    """
    from flows.commands.tune_asked import Asked, check_asked
    from flows.runner.environment import settle
    from tasks.artifacts import Workspace

    loaded, changes = _load(recipe, overrides, workspace)
    asked = Asked(recipe, over, tuple(changes), trials, minutes, seed, write)
    check_asked(asked)
    settle(Workspace(loaded.recipe.workspace).root)
    _speak()
    from flows.commands.tune import tune as search
    from flows.commands.tune_view import tuned_json, tuned_view

    tuned = search(asked)
    click.echo(json.dumps(tuned_json(asked, tuned), ensure_ascii=False, indent=1) if as_json else tuned_view(asked, tuned))


def _load(recipe: str, overrides: tuple[str, ...], workspace: str | None) -> "tuple[Loaded, list[str]]":
    """The recipe, and all that was changed in it."""
    from flows.dags import load

    changes = [*overrides, *([f"workspace={workspace}"] if workspace is not None else [])]
    return load(recipe, changes), changes


def _speak() -> None:
    """Our own lines on stderr, plain."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("wordmill").addHandler(handler)
    logging.getLogger("wordmill").setLevel(logging.INFO)
    logging.getLogger("wordmill").propagate = False


@cli.command()
@click.argument("model")
@click.argument("prompt")
@click.option("--count", default=1, show_default=True, help="How many texts; of a masked one, how many fillings.")
@click.option("--max-tokens", default=100, show_default=True, help="Length of a text, at most.")
@click.option("--temperature", default=0.7, show_default=True, help="0 takes the likeliest token each time.")
@click.option("--top-k", default=0, show_default=True, help="Choose among the k likeliest tokens; 0: all.")
@click.option("--top-p", default=1.0, show_default=True, help="Choose among the likeliest tokens that hold this share.")
@click.option("--min-p", default=0.0, show_default=True, help="Leave out tokens below this share of the likeliest's.")
@click.option("--repetition-penalty", default=1.0, show_default=True, help="Above 1: tokens seen are made less likely.")
@click.option("--seed", default=1, show_default=True)
@click.option("--stop", multiple=True, metavar="TEXT", help="End before this text. Repeatable.")
@click.option("--beams", default=1, show_default=True, help="Search with so many beams (encoder-decoders).")
@click.option("--log-probs", is_flag=True, help="Show each token's log-probability, in nats, and likelier ones.")
@click.option("--stream/--no-stream", default=None, help="Show a text as it comes; default: on a terminal.")
@click.option(
    "--dtype",
    default="float32",
    show_default=True,
    type=click.Choice(["float32", "bfloat16"]),
    help="bfloat16 is faster where the processor has it, and may choose other tokens.",
)
@WORKSPACE
@click.pass_context
def generate(
    context: click.Context,
    model: str,
    prompt: str,
    count: int,
    max_tokens: int,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    repetition_penalty: float,
    seed: int,
    stop: tuple[str, ...],
    beams: int,
    log_probs: bool,
    stream: bool | None,
    dtype: Literal["float32", "bfloat16"],
    workspace: str | None,
) -> None:
    """Answer PROMPT with MODEL: a run id, a registry name (models:/wordmill@champion), an artifact or Hugging Face folder.

    A language model continues the prompt; an encoder-decoder reads it and writes what belongs to it; a masked language model
    fills in its masks, <|mask|> or [MASK]; a classifier labels it.
    """
    from flows.runner.environment import settle

    settle()
    from flows.commands.generate import Asked, answer
    from tasks.artifacts import Workspace
    from tasks.inference.saved_models import resolve_model
    from tasks.tracking.address import tracking_address

    spelled = click.core.ParameterSource.COMMANDLINE
    asked = Asked(
        prompt,
        count,
        max_tokens,
        temperature,
        top_k,
        top_p,
        min_p,
        repetition_penalty,
        seed,
        stop,
        log_probs,
        beams,
        stream,
        dtype,
        frozenset(name for name in context.params if context.get_parameter_source(name) == spelled),
    )
    chosen = Workspace(workspace or "workspace")
    answer(resolve_model(model, chosen, tracking_address(None, chosen)), asked)


@cli.command()
@click.argument("model")
@click.option("--suite", default="configs/suites/quick.yaml", show_default=True, metavar="FILE")
@SET
@WORKSPACE
@JSON
def evaluate(model: str, suite: str, overrides: tuple[str, ...], workspace: str | None, as_json: bool) -> None:
    """Score MODEL on a suite."""
    from flows.runner.environment import settle

    settle()
    _speak()
    from flows.commands.tables import score_table
    from flows.evaluate import score

    rows = [row.to_json() for row in score(model, suite, list(overrides), Path(workspace or "workspace"))]
    click.echo(json.dumps({"scores": rows}, ensure_ascii=False, indent=1) if as_json else score_table(rows))


@cli.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option(
    "--suite", default=None, metavar="FILE", help="What both are asked; default: held-out text and examples that travel with them."
)
@click.option("--page", default=None, metavar="FILE", help="Write the same, item by item, as one HTML page.")
@WORKSPACE
@JSON
def compare(first: str, second: str, suite: str | None, page: str | None, workspace: str | None, as_json: bool) -> None:
    """Hold model A against model B on the same items, as the gate does; nothing is moved.

    The two may have other tokenizers: text is compared by bytes.
    """
    from flows.runner.environment import settle

    settle()
    from flows.commands.compare import compare_models, compared_json, compared_view
    from tasks.artifacts import Workspace
    from tasks.report.compare_page import write_compare_page
    from tasks.settings import given_path
    from tasks.tracking.address import tracking_address

    chosen = Workspace(workspace or "workspace")
    found = compare_models(first, second, suite, chosen, tracking_address(None, chosen))
    if page is not None:
        write_compare_page(found, given_path(page))
    click.echo(compared_json(found) if as_json else compared_view(found) + (f"\nwrote {page}" if page is not None else ""))


@cli.command()
@click.argument("model")
@click.argument("folder", metavar="DIR")
@click.option("--dtype", default="float32", show_default=True, type=click.Choice(["float32", "bfloat16"]), help="Of the weights.")
@click.option("--allow-pickle", is_flag=True, help="Read pytorch_model.bin of a folder that you trust; of a pickle, tensors alone.")
@WORKSPACE
@JSON
def export(
    model: str, folder: str, dtype: Literal["float32", "bfloat16"], allow_pickle: bool, workspace: str | None, as_json: bool
) -> None:
    """Write MODEL to the new folder DIR in Hugging Face's form, once a round trip has shown that nothing is lost.

    The folder is loaded anew, by Wordmill and by transformers where it is installed: logits, written tokens and text must be
    what they were. Else nothing is left at DIR, and the exit code is 1.
    """
    from flows.runner.environment import settle

    settle()
    from flows.commands.export import certificate_table, exported_json, exported_view
    from tasks.artifacts import Workspace
    from tasks.export.export import UnequalError, export_model
    from tasks.inference.saved_models import resolve_model
    from tasks.settings import given_path
    from tasks.tracking.address import tracking_address

    chosen = Workspace(workspace or "workspace")
    source = resolve_model(model, chosen, tracking_address(None, chosen), allow_pickle)
    try:
        exported = export_model(source, given_path(folder), dtype, allow_pickle, chosen)
    except UnequalError as error:
        click.echo(certificate_table(error.checks), err=True)
        click.echo(f"error: what was written is not what {model} says: {error}. Nothing is left at {folder}.", err=True)
        sys.exit(1)
    click.echo(json.dumps(exported_json(exported), ensure_ascii=False, indent=1) if as_json else exported_view(exported))


@cli.command()
@click.argument("stage")
@click.option("--artifact", default=None, metavar="FINGERPRINT", help="Which one, by the start of it; default: the newest.")
@click.option("--reason", default=None, help="Samples of this reason alone.")
@click.option("--count", default=3, show_default=True, type=click.IntRange(1, 100), help="Samples of each reason.")
@click.option("--page", default=None, metavar="FILE", help="Write the same as one HTML page.")
@WORKSPACE
@JSON
def inspect(
    stage: str, artifact: str | None, reason: str | None, count: int, page: str | None, workspace: str | None, as_json: bool
) -> None:
    """Show what STAGE of a corpus dropped and why, beside what it kept."""
    from flows.commands.inspect import check_reason, document, find_artifact, view, write_page
    from tasks.artifacts import Workspace
    from tasks.corpus.samples.collect import samples_of

    chosen = Workspace(workspace or "workspace")
    manifest = find_artifact(chosen, stage, artifact)
    groups = samples_of(chosen, manifest, count, only=reason)
    if reason is not None:
        check_reason(manifest, reason, groups)
    if page is not None:
        write_page(Path(page), manifest, groups)
    if as_json:
        click.echo(json.dumps(document(manifest, groups), ensure_ascii=False, indent=1))
    else:
        click.echo(f"wrote {page}" if page is not None else view(manifest, groups))


@cli.command()
@click.argument("run", required=False)
@click.option("--step", default=None, type=int, help="List what optimizer step N of RUN saw, counted from 1.")
@click.option("--data-step", default=None, type=int, help="List the batch of data step N, counted from 0, left out of RUN or not.")
@click.option("--document", default=None, metavar="ID", help="Tell where a document went; the start of its id is enough.")
@click.option("--text", default=None, help="Find documents that hold this text, letter for letter, and where they went.")
@click.option("--page", default=None, metavar="FILE", help="With --step: write the same as one HTML page.")
@WORKSPACE
@JSON
def trace(
    run: str | None,
    step: int | None,
    data_step: int | None,
    document: str | None,
    text: str | None,
    page: str | None,
    workspace: str | None,
    as_json: bool,
) -> None:
    """Tell which documents a training step saw, or in which steps, shards, artifacts and models a document took part.

    RUN is an MLflow run id, a fingerprint, an artifact's folder (of a training that goes on too), or models:/NAME@ALIAS. With
    --document and --text it is optional and leaves out all that the run has nothing to do with. Nothing was logged for this:
    it follows from the artifacts.
    """
    from flows.commands import trace as view
    from flows.runner.environment import settle
    from tasks.artifacts import Workspace
    from tasks.lineage.run_reference import find_run, own_workspace
    from tasks.lineage.step_trace import documents_of
    from tasks.tracking.address import tracking_address

    view.check_asked(run, step, data_step, document, text, page)
    settle()
    chosen = Workspace(workspace or (own_workspace(run) if run else None) or "workspace")
    found = None if run is None else find_run(run, chosen, tracking_address(None, chosen))
    if found is not None and (step is not None or data_step is not None):
        batch = view.asked_batch(found.run, step, data_step)
        found = view.who_read(found, batch)
        documents = documents_of(found.run, batch)
        if page is not None:
            view.write_page(Path(page), found, batch, documents)
        told = view.step_document(found, batch, documents) if as_json else None
        shown = f"wrote {page}" if page is not None else view.step_view(found, batch, documents)
    elif document is not None:
        one, went = view.trace_document(chosen, document, found)
        told = view.document_json(chosen, one, went) if as_json else None
        shown = "" if as_json else view.document_view(chosen, one, went)
    else:
        hits, ways = view.trace_text(chosen, text or "", found)
        told = view.text_json(hits, ways) if as_json else None
        shown = "" if as_json else view.text_view(chosen, hits, ways)
    click.echo(shown if told is None else json.dumps(told, ensure_ascii=False, indent=1))


@cli.command()
@click.argument("document", required=False, metavar="ID")
@click.option("--reason", default="", help="Why, for the record.")
@click.option("--list", "lists", is_flag=True, help="Show what is to be forgotten.")
@WORKSPACE
@JSON
def forget(document: str | None, reason: str, lists: bool, workspace: str | None, as_json: bool) -> None:
    """Have the document ID forgotten, and name everything that holds it or learned from it.

    Every later run leaves the document out where it is read and makes again what it touched. What was made before stays until
    you delete it. An id is a place: source, file and record, or the row's own name with id_field; should records move, the
    same text is left out of that file too. To undo, delete the document's line in WORKSPACE/forgotten.jsonl.
    """
    from flows.commands import forget as forgetting
    from tasks.artifacts import Workspace
    from tasks.corpus.forgotten import read_forgotten

    forgetting.check_asked(document, reason, lists)
    chosen = Workspace(workspace or "workspace")
    if document is None:
        told = forgetting.list_json(read_forgotten(chosen.root)) if as_json else None
        shown = forgetting.list_view(chosen)
    else:
        forgotten = forgetting.forget(chosen, document, reason)
        told = forgetting.forgotten_json(chosen, forgotten) if as_json else None
        shown = forgetting.forgotten_view(chosen, forgotten)
    click.echo(shown if told is None else json.dumps(told, ensure_ascii=False, indent=1))


@cli.command()
@click.argument("name")
@click.option("--rollback", is_flag=True, help="Make the version champion that was it before.")
@click.option("--set", "version", default=None, metavar="VERSION", help="Make this version champion; needs --why.")
@click.option("--why", default="", help="Why it is moved, for the history.")
@WORKSPACE
@JSON
def champion(name: str, rollback: bool, version: str | None, why: str, workspace: str | None, as_json: bool) -> None:
    """Show who was champion of NAME when and why, or move it; a move leaves an entry like any promotion."""
    from flows.commands import champion as reigns
    from flows.runner.environment import settle
    from tasks.artifacts import Workspace
    from tasks.tracking.address import tracking_address

    reigns.check_asked(rollback, version, why)
    settle()
    address = tracking_address(None, Workspace(workspace or "workspace"))
    if rollback:
        reign = reigns.roll_back(name, address, why)
    elif version is not None:
        reign = reigns.set_champion(name, address, version, why)
    else:
        reign = reigns.reign_of(name, address)
    view = reigns.moved_view if rollback or version is not None else reigns.reign_view
    click.echo(json.dumps(reigns.reign_json(reign), ensure_ascii=False, indent=1) if as_json else view(reign))


@cli.command()
@click.argument("artifact")
@WORKSPACE
@JSON
def register(artifact: str, workspace: str | None, as_json: bool) -> None:
    """Register ARTIFACT, a model of the workspace that waits because MLflow did not answer: its fingerprint, or its folder.

    One that was decided on and never registered, because its run was stopped in between, is registered too.
    """
    from flows.commands.register import register_artifact, registered_view
    from flows.runner.environment import settle
    from tasks.artifacts import Workspace
    from tasks.lineage.run_reference import own_workspace
    from tasks.tracking.address import tracking_address

    settle()
    _speak()
    chosen = Workspace(workspace or own_workspace(artifact) or "workspace")
    done = register_artifact(artifact, chosen, tracking_address(None, chosen))
    click.echo(json.dumps({"registered": done}, ensure_ascii=False, indent=1) if as_json else registered_view(done))


@cli.command()
@WORKSPACE
@JSON
def doctor(workspace: str | None, as_json: bool) -> None:
    """Check this machine and its workspace."""
    from dataclasses import asdict

    from flows.commands.doctor import examine

    checks = examine(Path(workspace or "workspace"))
    if as_json:
        click.echo(json.dumps({"checks": [asdict(check) for check in checks]}, indent=1))
    for check in [] if as_json else checks:
        verdict = click.style("ok  ", fg="green") if check.fine else click.style("FAIL", fg="red")
        click.echo(f"{verdict} {check.name:<10} {check.found}" + ("" if check.fine else f"\n     {'':<10} fix: {check.fix}"))
    if not all(check.fine for check in checks):
        sys.exit(2)


@cli.command()
@WORKSPACE
@JSON
def verify(workspace: str | None, as_json: bool) -> None:
    """Hash every file of every artifact and compare it with its manifest."""
    from tasks.artifacts import Workspace, inspect_all

    found = inspect_all(Workspace(workspace or "workspace"))
    faults = [entry for entry in found if entry.problem is not None]
    if as_json:
        click.echo(json.dumps({"artifacts": len(found), "faults": [entry.problem for entry in faults]}, indent=1))
    else:
        for entry in faults:
            click.echo(f"FAIL {entry.problem}")
        click.echo(f"{len(found)} artifacts, {len(faults)} with faults" + ("; the next run builds those again" if faults else ""))
    if faults:
        sys.exit(2)


@cli.command()
@click.option("--prefect-port", default=4200, show_default=True)
@click.option("--mlflow-port", default=5000, show_default=True)
@click.option("--worker-port", default=8480, show_default=True)
@WORKSPACE
def up(prefect_port: int, mlflow_port: int, worker_port: int, workspace: str | None) -> None:
    """Start a Prefect server, an MLflow server and a worker in the background; deploy the flows."""
    from flows.commands.services import up as start
    from flows.runner.environment import settle
    from tasks.tracking.address import PASSWORD

    settle()
    for service in start(Path(workspace or "workspace"), prefect_port, mlflow_port, worker_port):
        click.echo(f"{service.name:<8} {service.page}")
    stop = "make down" if workspace is None else shlex.join(["wordmill", "down", "--workspace", workspace])
    click.echo(f"Deployed: pretrain/demo, pretrain/full, finetune/nightly, evaluate/champion. Stop all with: {stop}")
    click.echo(
        f"Both pages ask who you are: {Path(workspace or 'workspace') / PASSWORD} holds user:password. The worker and the "
        "commands typed here have it."
    )


@cli.command()
@WORKSPACE
def down(workspace: str | None) -> None:
    """Stop what `wordmill up` started."""
    from flows.commands.services import down as stop

    stopped = stop(Path(workspace or "workspace"))
    click.echo(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")


if __name__ == "__main__":
    main()
