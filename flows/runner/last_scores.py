"""Last scores: those of a recipe's last run, kept in the workspace for the next one to be compared with."""

import json
from collections.abc import Sequence
from pathlib import Path

from tasks.artifacts import Workspace
from tasks.scores import ScoreRow


def keep_scores(rows: Sequence[ScoreRow], workspace: Workspace, recipe: str) -> None:
    """WORKSPACE/runs/RECIPE.json."""
    path = _path(workspace, recipe)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps([row.to_json() for row in rows], indent=1) + "\n", encoding="utf-8")


def last_scores(workspace: Workspace, recipe: str) -> list[ScoreRow]:
    """What `keep_scores` kept; nothing where the recipe has not run yet."""
    path = _path(workspace, recipe)
    return [ScoreRow(**row) for row in json.loads(path.read_text(encoding="utf-8"))] if path.exists() else []


def _path(workspace: Workspace, recipe: str) -> Path:
    return workspace.root / "runs" / f"{recipe}.json"
