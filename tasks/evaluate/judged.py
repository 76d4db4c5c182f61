"""Judged items of a task: who is asked, what each item is, and what it adds to the figures that become scores.

N items, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tasks.bootstrap import estimate
from tasks.documents import example_text
from tasks.evaluate.suite import EvaluateConfig, HeldoutText
from tasks.examples.kinds.kind import LabelledExamples
from tasks.inference.task_file import ModelTask, read_task
from tasks.items import SHOWN_CHARACTERS, Floats, Item, ItemFigures, Statistic
from tasks.scores import ScoreRow

if TYPE_CHECKING:
    import tokenizers

    from model.nn.models import Model

PART = ":"  # in the name of a figure that is a part of another one, and no score


@dataclass(frozen=True)
class Subject:
    """What is judged."""

    model: "Model"
    tokenizer: "tokenizers.Tokenizer"
    start: int | None = None  # of an encoder-decoder: the token that its targets begin with
    task: ModelTask | None = None  # what it was tuned for, where its folder says so

    @property
    def is_chat(self) -> bool:
        """Whether it answers prompts in text."""
        return self.task is not None and self.task.is_chat


@dataclass(frozen=True)
class Judged:
    """What one task of a suite finds: its items, and each figure of the model and of its baselines."""

    items: tuple[Item, ...]
    figures: tuple[ItemFigures, ...]


def open_subject(folder: Path) -> Subject:
    """The model of a Hugging Face folder, on the best device. UserError for what cannot be read."""
    from model.distributed.device import choose_device
    from model.nn.models import Seq2SeqModel
    from tasks.inference.generation import target_start
    from tasks.inference.saved_models import load

    model, tokenizer = load(folder)
    start = target_start(folder, tokenizer) if isinstance(model, Seq2SeqModel) else None
    return Subject(model.to(choose_device()), tokenizer, start, read_task(folder))


def cut_shown(text: str) -> str:
    """As much of a text as is shown."""
    return text[:SHOWN_CHARACTERS]


def example_items(held: LabelledExamples, expected: Sequence[str]) -> tuple[Item, ...]:
    """An item an example; of what is to be answered in text, the answer is what is judged."""
    rows: list[dict[str, object]] = held.table.to_pylist()
    items: list[Item] = []
    for row, wanted in zip(rows, expected, strict=True):
        shown = str(row["prompt"]) if held.kind.writes else example_text(row)
        size = len((wanted if held.kind.writes else shown).encode())
        items.append(Item(held.kind.name, str(row["id"]), str(row["group"]), "", "und", size, cut_shown(shown), cut_shown(wanted)))
    return tuple(items)


def text_items(task: str, texts: Sequence[HeldoutText]) -> tuple[Item, ...]:
    """An item a document, of which the text itself is judged."""
    return tuple(
        Item(task, text.id, text.cluster, text.source, text.language, len(text.text.encode()), cut_shown(text.text), "") for text in texts
    )


def ratio_columns(numerators: Floats, denominators: Floats | None = None) -> Floats:
    """[N, 2]; each denominator is 1 where none are given."""
    return np.stack([numerators, np.ones_like(numerators) if denominators is None else denominators], axis=1)


def figures_of(
    model: str, metric: str, statistic: Statistic, items: Sequence[Item], columns: Floats, answers: Sequence[str] | None = None
) -> ItemFigures:
    """One figure over `items`, which are of one task; without `answers` there is none to show."""
    shown = ("",) * len(items) if answers is None else tuple(map(cut_shown, answers))
    return ItemFigures(model, items[0].task, metric, statistic, tuple(item.item for item in items), columns, shown)


def part_of(figures: ItemFigures, metric: str, chosen: NDArray[np.bool_]) -> ItemFigures:
    """The same figure over the chosen items alone, under the name of its own."""
    numbers = np.flatnonzero(chosen).tolist()
    return replace(
        figures,
        metric=metric,
        items=tuple(figures.items[number] for number in numbers),
        columns=figures.columns[numbers],
        answers=tuple(figures.answers[number] for number in numbers),
    )


def score_rows(config: EvaluateConfig, figures: Sequence[ItemFigures]) -> list[ScoreRow]:
    """A score for each figure that is no part of another."""
    rows: list[ScoreRow] = []
    for one in figures:
        if PART not in one.metric:
            found = estimate(one.statistic, one.columns, config.resamples, config.seed)
            rows.append(ScoreRow(one.model, config.suite, one.task, one.metric, found.value, found.low, found.high, found.n, config.seed))
    return rows
