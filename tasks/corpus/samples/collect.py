"""Samples of what a corpus stage dropped, by reason, with kept text to hold them against.

They are chosen by the hash of their ids, so every look shows the same ones; ids and reasons are read first and then the
text of the chosen rows alone, so it is as quick on a large corpus as it can be.
"""

from tasks.artifacts import Manifest, Workspace
from tasks.corpus.samples.groups import Asked, Group
from tasks.corpus.samples.judged import decontaminate_groups, deduplicate_groups, select_groups
from tasks.corpus.samples.mended import annotate_groups, ingest_groups

STAGES = {
    "ingest": ingest_groups,
    "annotate": annotate_groups,
    "select": select_groups,
    "deduplicate": deduplicate_groups,
    "decontaminate": decontaminate_groups,
}


def samples_of(
    workspace: Workspace, manifest: Manifest, count: int = 3, chars: int = 400, only: str | None = None, alone: bool = False
) -> tuple[Group, ...]:
    """Groups of at most `count` samples, the reason with the most rows first; `only` leaves out the other reasons.

    `alone` gives dropped documents with nothing beside, which is quicker. Else the kinds of mending of `annotate` follow,
    with no rows of their own in the ledger. The artifact must be one of STAGES.
    """
    groups = STAGES[manifest.stage](Asked(workspace, manifest, count, chars, only, alone))
    return tuple(sorted(groups, key=lambda group: (-group.rows, group.reason)))
