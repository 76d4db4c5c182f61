"""Hold-out of a model: by which share and seed its recipe kept modules of Python from it, so that a suite judges on those alone."""

import logging
from collections.abc import Collection, Sequence

from tasks.artifacts import read_manifest
from tasks.evaluate.suite import PYTHON_WINDOW, EvaluateConfig
from tasks.lineage.artifact_graph import Node
from tasks.reading.stdlib import python_digest, python_texts
from tasks.sampling import HeldOut, is_heldout
from tasks.settings import Json

OWN_KEYS = frozenset({"heldout_share", "heldout_seed"})  # of a suite

logger = logging.getLogger("wordmill")


def judged_apart(config: EvaluateConfig, model: str, lineage: Sequence[Node]) -> EvaluateConfig:
    """The suite, with the hold-out of the model's recipe unless it names its own; what may have been learned from is told.

    `lineage`: the artifacts that the model was made of, itself among them; those of a model from elsewhere are not known.
    """
    if config.documents != "python":
        return config
    if not any(node.stage == "ingest" for node in lineage):
        logger.warning("evaluate: what %s was trained on is not known here: the modules it is judged on may be among it", model)
    parted = python_holdouts(lineage)
    if len(parted) == 1 and not OWN_KEYS & config.model_fields_set:
        (own,) = parted
        config = config.model_copy(update={"heldout_share": own.share, "heldout_seed": own.seed})
        logger.info("evaluate: judged on the modules that the model's recipe held out (share %s, seed %s)", own.share, own.seed)
    held, learned = _learned_from(config, parted)
    if learned:
        told = " and ".join(f"share {one.share}, seed {one.seed}" for one in sorted(parted, key=str))
        logger.warning(
            "evaluate: %d of the %d modules judged on are among those that %s learned from, whose recipe held out by %s. "
            "Fix: leave heldout_share and heldout_seed out of the suite",
            *(learned, held, model, told),
        )
    if any(_reads_python(node) and not _is_this_python(node) for node in lineage):
        logger.warning("evaluate: %s learned from the modules of another Python than this one: parts of them may be judged on", model)
    return config


def python_holdouts(lineage: Sequence[Node]) -> frozenset[HeldOut]:
    """Each share and seed by which text of Python's library was parted for the model."""
    found = set[HeldOut]()
    has_documents = any(_reads_python(node) for node in lineage if node.stage == "ingest")
    for node in lineage:
        if (node.stage == "decontaminate" and has_documents) or (node.stage == "examples" and _reads_python(node)):
            told = {
                "share": node.config.get("heldout_share"),
                "seed": node.config.get("seed" if node.stage == "examples" else "heldout_seed"),
            }
            found.add(HeldOut.model_validate({name: value for name, value in told.items() if value is not None}))  # early ones had none
    return frozenset(found)


def _learned_from(config: EvaluateConfig, parted: Collection[HeldOut]) -> tuple[int, int]:
    """Modules that the suite judges on, and those of them that one of the model's hold-outs left in."""
    groups = {text.group for text in python_texts(PYTHON_WINDOW) if text.group} if parted else set[str]()
    held = [group for group in groups if is_heldout(group, config.heldout_share, config.heldout_seed)]
    return len(held), sum(not all(is_heldout(group, one.share, one.seed) for one in parted) for group in held)


def _reads_python(node: Node) -> bool:
    sources = node.config.get("sources", [node.config.get("source")])
    return isinstance(sources, list) and any(_kind(source).startswith("python") for source in sources)


def _kind(source: Json) -> str:
    return str(source.get("kind")) if isinstance(source, dict) else ""


def _is_this_python(node: Node) -> bool:
    manifest = read_manifest(node.folder)
    return manifest is not None and python_digest() in manifest.inputs.values()
