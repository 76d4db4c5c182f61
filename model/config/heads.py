"""Heads and their targets: what a model predicts, in how many classes, and the form of what it learns from. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from model.config.checks import one_of

IGNORED = -100  # the target of a position that is not scored

HeadKind = Literal["language", "masked", "seq2seq", "sequence", "tokens", "choice"]
Head = HeadKind | Literal["multi_task"]  # of a model folder: one, or several on one trunk
Problem = Literal["single", "multi", "regression"]  # of a sequence head: one class, several labels, or a number
Targets = Literal["next_token", "token_class", "class", "choice", "labels", "value"]

TARGET_COLUMNS: Mapping[Targets, str] = {  # of a table of examples: see ExampleBatches in model/data/batches.py
    "next_token": "targets",
    "token_class": "targets",
    "class": "label",
    "choice": "label",
    "labels": "flags",
    "value": "value",
}


@dataclass(frozen=True)
class HeadSpec:
    """A head: what it predicts, and in how many classes."""

    kind: HeadKind
    classes: int = 1
    problem: Problem = "single"

    def __post_init__(self) -> None:
        """Raises ValueError for a kind or a problem that there is not."""
        one_of("kind", self.kind, get_args(HeadKind))
        one_of("problem", self.problem, get_args(Problem))

    @property
    def targets(self) -> Targets:
        """The form of what it learns from."""
        match self.kind:
            case "language" | "masked" | "seq2seq":
                return "next_token"
            case "tokens":
                return "token_class"
            case "choice":
                return "choice"
            case "sequence":
                forms: Mapping[Problem, Targets] = {"single": "class", "multi": "labels", "regression": "value"}
                return forms[self.problem]
