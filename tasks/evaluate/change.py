"""Change of a continued pretraining: the base before and the model after, on the same held-out text, own and general.

Own text is what was learned now, held out of the corpus; general text what the base should not have forgotten: the held-out documents
of the general sources, or those in the base's memory. Bits per byte, which no tokenizer bears on; of a model that fills in, its loss.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.artifacts import Corpus, PretrainedModel
from tasks.errors import UserError
from tasks.evaluate.judged import PART, open_subject
from tasks.evaluate.judging import judge_documents
from tasks.evaluate.suite import EvaluateConfig
from tasks.items import Item, ItemFigures
from tasks.ledger import Ledger, StageOutcome
from tasks.memory import memory_of
from tasks.paired import compare
from tasks.scores import OWN

FILE = "change.json"
LEVEL = 0.025  # of each side of the interval: 95 %
COLUMNS = ["id", "source", "language", "text"]

Kind = Literal["own", "general"]


@dataclass(frozen=True)
class Changing:
    """What is judged, and how."""

    evaluate: EvaluateConfig
    general: tuple[str, ...]  # sources of general text; none: what the base remembers
    revision: int = 1


@dataclass(frozen=True)
class Change:
    """One figure before and after, over the same documents."""

    text: Kind
    metric: str  # bits_per_byte; with several languages bits_per_byte_zh and so on as well
    documents: int
    bytes: int
    before: float
    after: float
    low: float  # of after - before, 95 % interval
    high: float

    @property
    def difference(self) -> float:
        """Below 0 where the model has got better: less is better."""
        return self.after - self.before


def measure_change(config: Changing, before: PretrainedModel, after: PretrainedModel, corpus: Corpus, out: Path) -> StageOutcome:
    """Write change.json. UserError where there is no held-out text of the corpus' own."""
    import torch

    if config.evaluate.threads:
        torch.set_num_threads(config.evaluate.threads)
    texts = _write_texts(config, before, corpus, out)
    figures = [_figures_on(config.evaluate, one, texts) for one in (before, after)]
    for path in texts.values():
        path.unlink()
    found = [change for text in texts for change in _changes(config.evaluate, text, figures[0][text], figures[1][text])]
    write_changes(found, out)
    told = {f"{one.metric}.{one.text}.{when}": value for one in found for when, value in (("before", one.before), ("after", one.after))}
    notes = {} if found else {"change": "not compared: new tokens, by which a loss is counted, make it another figure"}
    if "general" not in texts:
        notes["general"] = "not judged: the recipe names no general sources, and the base brings no held-out text"
    return StageOutcome(Ledger(rows_out=len(found)), (), told, notes)


def write_changes(changes: Collection[Change], folder: Path) -> None:
    """change.json."""
    (folder / FILE).write_text(json.dumps([asdict(one) for one in changes], indent=1) + "\n", encoding="utf-8")


def read_changes(folder: Path) -> tuple[Change, ...]:
    """What `write_changes` wrote."""
    return tuple(Change(**one) for one in json.loads((folder / FILE).read_text(encoding="utf-8")))


def _write_texts(config: Changing, before: PretrainedModel, corpus: Corpus, out: Path) -> dict[Kind, Path]:
    """Own and, where there is some, general held-out text, a table each."""
    held = pq.read_table(corpus.path / "validation.parquet", columns=COLUMNS)
    is_general = np.array([source in config.general for source in held["source"].to_pylist()], np.bool_)
    memory = memory_of(before.path)
    general = held.filter(pa.array(is_general))
    if not config.general and memory is not None and memory.validation is not None:
        general = pq.read_table(memory.validation, columns=COLUMNS)
    own = held.filter(pa.array(~is_general))
    if not own.num_rows:
        raise UserError(
            "change: no own document is held out, so nothing says what was learned. Fix: raise decontaminate.validation_share, or add text."
        )
    tables: dict[Kind, pa.Table] = {"own": own, "general": general}
    paths: dict[Kind, Path] = {}
    for text, table in tables.items():
        if table.num_rows:
            paths[text] = out / f"{text}.parquet"
            pq.write_table(table, paths[text])
    return paths


@dataclass(frozen=True)
class _Found:
    """What one model makes of one set of texts."""

    items: Mapping[str, Item]
    figures: tuple[ItemFigures, ...]


def _figures_on(config: EvaluateConfig, model: PretrainedModel, texts: Mapping[Kind, Path]) -> dict[Kind, _Found]:
    folder = model.path / "model"
    subject = open_subject(folder)
    found: dict[Kind, _Found] = {}
    for text, path in texts.items():
        judged = judge_documents(config, folder, subject, path)[-1]  # the last is by what it was trained for
        figures = tuple(one for one in judged.figures if one.model == OWN and PART not in one.metric)
        found[text] = _Found({item.item: item for item in judged.items}, figures)
    return found


def _changes(config: EvaluateConfig, text: Kind, before: _Found, after: _Found) -> list[Change]:
    """A change for each figure of both that counts the same things."""
    known = {one.metric: one for one in before.figures}
    return [_change(config, text, after.items, known[one.metric], one) for one in after.figures if _is_alike(one, known.get(one.metric))]


def _is_alike(one: ItemFigures, other: ItemFigures | None) -> bool:
    return other is not None and one.items == other.items and bool((one.columns[:, 1] == other.columns[:, 1]).all())


def _change(config: EvaluateConfig, text: Kind, items: Mapping[str, Item], before: ItemFigures, after: ItemFigures) -> Change:
    found = compare(
        after,
        before,
        [items[item].cluster or item for item in after.items],
        lower_is_better=True,
        margin=0.0,
        level=LEVEL,
        resamples=config.resamples,
        seed=config.seed,
    )
    size = sum(items[item].bytes for item in after.items)
    return Change(text, after.metric, found.items, size, found.rival, found.challenger, -found.high, -found.low)
