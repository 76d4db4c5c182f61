"""Deciding figure: by which figure models of one kind of examples compete, and which way it is better."""

from pathlib import Path

from tasks.examples.kinds.table import KINDS
from tasks.examples.rows import read_examples

LOWER_IS_BETTER = ("bits_per_byte", "loss", "masked_loss", "restore_loss", "spans_loss", "perplexity")


def deciding_metric(folder: Path) -> str:
    """That of an Examples artifact, as a person would choose it: see `deciding` of its kind."""
    train = read_examples(folder, "train")
    return train.kind.metric if train.kind.deciding is None else train.kind.deciding(train)


def lower_is_better(metric: str) -> bool:
    """Whether the smaller value of a metric, or of a part of it such as bits_per_byte_en, is the better one."""
    of_kinds = tuple(kind.metric for kind in KINDS.values() if kind.lower_is_better)
    return metric.startswith((*LOWER_IS_BETTER, *of_kinds)) or metric.endswith("_loss")
