"""Example sets as a training takes them: encoded, a part kept for the curve, and whose turn it is at each step."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from model.config.heads import Targets
from model.config.model_config import ModelConfig
from model.config.training_config import MixturePhase
from model.data.mixture import Mixture
from tasks.errors import UserError
from tasks.examples.kinds.kind import LabelledExamples
from tasks.examples.rows import encode_examples
from tasks.finetune.replay import replay_ratios
from tasks.sampling import hash_keys

if TYPE_CHECKING:
    import tokenizers

    from model.data.batches import Batches

VALIDATION_SHARE = 0.1  # of the groups of the training examples: for the curve, never for a score


@dataclass(frozen=True)
class ExampleSet:
    """One set of examples, as a model is given it."""

    kind: str
    targets: Targets
    learned: pa.Table
    validation: pa.Table
    cut: int  # examples longer than the context
    lost_labels: int  # of words that have no token
    replayed: Mapping[str, pa.Table] = field(default_factory=dict[str, pa.Table])  # encoded as `learned` is: examples, text
    ratios: Mapping[str, float] = field(default_factory=dict[str, float])  # replayed rows of each part for one new row

    def replaying(self, share: float, replayed: Mapping[str, pa.Table]) -> "ExampleSet":
        """The set with what is to be replayed beside it."""
        rows = {name: table.num_rows for name, table in replayed.items()}
        return replace(self, replayed=replayed, ratios=replay_ratios(share, rows, self.learned.num_rows))

    @property
    def pass_rows(self) -> float:
        """Rows that a pass over the new ones takes, with the replayed ones among them."""
        return self.learned.num_rows * (1 + sum(self.ratios.values()))


def validation_mask(groups: list[str], seed: int) -> NDArray[np.bool_]:
    """True for the examples whose group is kept for the curve: about a tenth, at least one group where there are two."""
    if not groups:
        return np.zeros(0, dtype=np.bool_)
    keys = hash_keys(groups, seed)
    distinct = np.unique(keys)
    border = min(max(distinct[0], np.uint64(VALIDATION_SHARE * 2**64)), distinct[-1] - np.uint64(1))
    return keys <= border


def encode_set(
    examples: LabelledExamples, tokenizer: "tokenizers.Tokenizer", shape: ModelConfig, start: int | None, seed: int, place: str
) -> ExampleSet:
    """What is learned from and what is for the curve; `start`: see `encode_examples`. UserError where nothing is left to learn from."""
    encoded = encode_examples(examples, tokenizer, shape, start)
    held = validation_mask(examples.table["group"].to_pylist(), seed)
    learned = encoded.table.filter(pa.array(~held))
    if learned.num_rows == 0:
        raise UserError(f"{place} has no training rows. Fix: add examples.")
    return ExampleSet(
        examples.kind.name, examples.head.targets, learned, encoded.table.filter(pa.array(held)), encoded.cut, encoded.lost_labels
    )


def turn_weights(given: Mapping[str, int] | None, examples: Mapping[str, float]) -> dict[str, int]:
    """Turns of each set, in the order of the sets: those given, else in proportion to the sets' numbers of examples, in thousandths."""
    if given is not None:
        return {name: given[name] for name in examples}
    total = sum(examples.values())
    return {name: max(1, round(1000 * count / total)) for name, count in examples.items()}


def count_turns(weights: Mapping[str, int], steps: int, place: str) -> dict[str, int]:
    """How many of the steps each set has. UserError for one that would have none."""
    turns = Mixture(tuple(weights), [MixturePhase(0, dict(weights))], 1).counts(steps).tolist()
    idle = [name for name, count in zip(weights, turns, strict=True) if not count]
    if idle:
        shares = ", ".join(f"{name} {weight}" for name, weight in weights.items())
        raise UserError(
            f"{place}: of {steps} steps none is for {idle[0]!r}, so its head would not learn. Fix: raise steps, or its share by "
            f"weights (now {shares})."
        )
    return dict(zip(weights, turns, strict=True))


def take_turns(batches: "Mapping[str, Batches]", weights: Mapping[str, int]) -> "Batches":
    """The batches of the one set that there is; where several have `weights`, those of each in its turn."""
    from model.data.task_batches import TaskBatches

    if len(weights) == 1:
        return next(iter(batches.values()))
    return TaskBatches(batches, {name: weights[name] for name in batches})
