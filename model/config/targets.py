"""Targets: kinds of labelled examples, the columns that hold their answers, and the value that is not scored. No torch."""

from typing import Literal

IGNORED = -100  # the target of a position that is not scored
ExampleKind = Literal["instruction", "classification", "multi_label", "regression", "token_labels", "multiple_choice"]
TARGET_COLUMNS: dict[ExampleKind, str] = {
    "instruction": "targets", "token_labels": "targets", "classification": "label", "multiple_choice": "label",
    "multi_label": "flags", "regression": "value",
}  # fmt: skip
