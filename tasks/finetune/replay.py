"""Replay: rows that a model learned before, examples and text, mixed among the new ones so that it does not forget them.

Source: Robins, "Catastrophic forgetting, rehearsal and pseudorehearsal" (Connection Science 7, 1995).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from model.config.model_config import ModelConfig
from model.config.training_config import MixturePhase
from model.data.mixture import Mixture
from tasks.examples.kinds.kind import LabelledExamples, id_lists
from tasks.examples.rows import encode_examples, read_examples
from tasks.memory import Memory
from tasks.tokenizer.encoding import TextIds, encode_documents

if TYPE_CHECKING:
    import tokenizers

    from model.data.batches import Batches

NEW, EXAMPLES, TEXT = "new", "examples", "text"
THOUSAND = 1_000


def replayed_rows(
    folder: Path,
    examples: LabelledExamples,
    memory: Memory | None,
    tokenizer: "tokenizers.Tokenizer",
    shape: ModelConfig,
    special: TextIds,
    start: int | None,
) -> dict[str, pa.Table]:
    """Encoded rows of what a set of examples has to be replayed, and of general text, where the model is one that writes on."""
    found = dict[str, pa.Table]()
    if (folder / "replay.parquet").is_file() and (before := read_examples(folder, "replay")).table.num_rows:
        found[EXAMPLES] = encode_examples(before, tokenizer, shape, start).table
    if examples.kind.writes and shape.family != "seq2seq" and memory is not None and memory.text is not None:
        texts = pq.read_table(memory.text, columns=["text"])["text"].to_pylist()
        rows = [row for ids in encode_documents(tokenizer, texts) for row in text_windows(ids, special, shape.context)]
        if rows:
            found[TEXT] = pa.table({"ids": id_lists(rows), "targets": id_lists(rows)})
    return found


def text_windows(text: Sequence[int], special: TextIds, context: int) -> list[list[int]]:
    """<|bos|> text <|eos|> in rows of context + 1 at most; each token but the first is a target once, as in pretraining."""
    whole = [special.bos, *text, special.eos]
    return [whole[start : start + context + 1] for start in range(0, len(whole) - 1, context)] if text else []


def replay_ratios(share: float, replayed: Mapping[str, int], new: int) -> dict[str, float]:
    """Replayed rows of each part for one of `new` rows: `share` of all rows, in equal parts, as far as there are rows.

    No replayed row is seen more often than a new one, or the model would learn a handful by heart.
    """
    return {name: min(share / len(replayed) / (1 - share), rows / new) for name, rows in replayed.items()}


def replay_weights(ratios: Mapping[str, float]) -> dict[str, int]:
    """Turns of new rows and of each part, in thousandths; those of the parts are rounded down."""
    total = 1 + sum(ratios.values())
    parts = {name: int(round(THOUSAND * ratio / total, 6)) for name, ratio in ratios.items()}
    return {NEW: THOUSAND - sum(parts.values()), **parts}


def with_replay(new: "Batches", replayed: "Mapping[str, Batches]", ratios: Mapping[str, float]) -> "Batches":
    """Batches of new and of replayed rows in turns; the new ones alone where nothing is to be replayed."""
    from model.data.task_batches import TaskBatches

    return TaskBatches({NEW: new, **replayed}, replay_weights(ratios)) if replayed else new


def replay_turns(ratios: Mapping[str, float], steps: int) -> dict[str, int]:
    """How many of a set's steps each part has."""
    weights = replay_weights(ratios)
    return dict(zip(weights, Mixture(tuple(weights), [MixturePhase(0, dict(weights))], 1).counts(steps).tolist(), strict=True))
