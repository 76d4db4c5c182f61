"""Contests that the tests of the gate judge: artifacts of models that nobody opens, and a judge who knows what each would say."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.artifacts import Examples, FinetunedModel, ModelMemory, PretrainedModel, Scores, Workspace, as_artifact, describe
from tasks.errors import UserError
from tasks.examples.kinds.kind import Example
from tasks.examples.rows import read_examples
from tasks.inference.task_file import ModelTask, write_task
from tasks.items import Asked, Floats, Item, ItemFigures, write_items
from tasks.ledger import StageOutcome
from tasks.memory import memory_of
from tasks.promotion.champion import Rival
from tasks.promotion.decision import Decision
from tasks.promotion.gate import Contest, gate
from tasks.promotion.gate_config import GateConfig
from tasks.promotion.history import Entry

LABELS = ("bad", "good")
SHAPE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 32}
Labelled = tuple[str, str]  # text, label


@dataclass(frozen=True)
class Mind:
    """What a model makes of what it is asked."""

    right: float = 0.8  # share of labelled examples: the first ones
    bits: float = 2.0  # per byte of text
    answer_bits: float = 2.0  # per byte of responses
    suite: dict[str, float] = field(default_factory=lambda: {"perplexity": 8.0, "rouge_l": 0.5})
    other: float | None = None  # the same share, of a task by the name other
    refuses: str = ""  # why it cannot be asked


@dataclass
class Room:
    """Where a contest is held; who was asked what is noted."""

    folder: Path
    minds: dict[str, Mind] = field(default_factory=dict[str, Mind])  # by the name of the model's artifact
    asked: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    certified: bool = True

    def judge(self, model: Path, asked: Asked, out: Path) -> None:
        """Scores a model's folder."""
        name = model.parent.name
        mind = self.minds[name]
        self.asked.append((name, asked.label))
        if mind.refuses:
            raise UserError(mind.refuses)
        if asked.examples is not None and "response" in pq.read_schema(asked.examples / "heldout.parquet").names:
            write_items(*of_answers(asked.examples, mind, asked.max_items), out)
        elif asked.examples is not None:
            share = mind.other if asked.label == "other" and mind.other is not None else mind.right
            write_items(*of_examples(asked.examples, replace(mind, right=share), asked.max_items), out)
        elif asked.documents is not None:
            write_items(*of_documents(asked.documents, mind, asked.max_items), out)
        else:
            write_items(*of_suite(mind), out)

    def certify(self, model: Path) -> tuple[bool, str]:
        """Whether its round trip holds."""
        return self.certified, "6 of 6 checks" if self.certified else "logits differ by 0.5"

    def model(self, name: str, mind: Mind, architecture: str = "LlamaForCausalLM", task: ModelTask | None = None) -> PretrainedModel:
        """An artifact whose config says what its head is."""
        self.minds[name] = mind
        workspace = Workspace(self.folder / "workspace").open()
        built = workspace.begin("pretrain" if task is None else "finetune", name, keep=False)
        (built / "model").mkdir()
        kind = "llama" if architecture.startswith("Llama") else "bert"
        config = {"architectures": [architecture], "model_type": kind, "vocab_size": 300, **SHAPE}
        (built / "model" / "config.json").write_text(json.dumps(config))
        if task is not None:
            write_task(task, built / "model")
        manifest = describe("pretrain" if task is None else "finetune", name, {}, {}, built, StageOutcome(), 1.0)
        return as_artifact(PretrainedModel if task is None else FinetunedModel, workspace.publish(manifest), manifest)  # type: ignore[return-value]

    def examples(self, name: str, train: Sequence[Labelled], heldout: Sequence[Labelled]) -> Examples:
        """Labelled texts, as the recipe's entry `name`."""
        workspace = Workspace(self.folder / "workspace").open()
        built = workspace.begin("examples", name, keep=False)
        write_examples(built, train, heldout)
        manifest = describe("examples", name, {"name": name}, {}, built, StageOutcome(), 1.0)
        return as_artifact(Examples, workspace.publish(manifest), manifest)

    def memory(self, name: str, documents: Sequence[str] = (), base: Mind | None = None, **tasks: Sequence[Labelled]) -> ModelMemory:
        """What travels with a model: general text, what its base scored on it, held-out examples of its tasks."""
        artifact = self.folder / f"memory-{name}"
        folder = artifact / "memory"
        folder.mkdir(parents=True)
        if documents:
            write_documents(folder / "validation.parquet", documents)
        if base is not None:
            (folder / "anchor").mkdir()
            write_items(*of_documents(folder / "validation.parquet", base, 500), folder / "anchor")
        for task, heldout in tasks.items():
            write_examples(folder / "examples" / task, texts("learned before", 40), heldout)
        return ModelMemory(str(artifact), f"m-{name}")

    def scores(self, name: str, examples: Examples | None = None, inputs: dict[str, str] | None = None) -> Scores:
        """The evaluation of a model: on its examples, or on text."""
        workspace = Workspace(self.folder / "workspace").open()
        built = workspace.begin("evaluate", name, keep=False)
        mind = self.minds[name]
        if examples is None:
            write_documents(built / "text.parquet", texts_alone(60))
            items, figures = of_documents(built / "text.parquet", mind, 500)
            figures = [*figures, replace(of_documents(built / "text.parquet", Mind(bits=4.0), 500)[1][0], model="unigram")]
        else:
            items, figures = of_examples(examples.path, mind, 500)
            figures = [*figures, replace(of_examples(examples.path, Mind(right=0.5), 500)[1][0], model="majority")]
        write_items(items, figures, built)
        manifest = describe("evaluate", name, {}, {"model": name} if inputs is None else inputs, built, StageOutcome(), 1.0)
        return as_artifact(Scores, workspace.publish(manifest), manifest)

    def rival(self, mind: Mind, memory: ModelMemory | None = None, problem: str = "", version: str = "3") -> Rival:
        """The champion."""
        folder = self.folder / f"champion-{version}"
        self.minds[folder.name] = mind
        return Rival(version, f"of-{version}", folder / "model", None if memory is None else memory_of(memory.path), problem)


def texts(of: str, count: int) -> list[Labelled]:
    """Labelled texts that differ."""
    return [(f"{of} number {number}: the mill turns {number * 7} times a day", LABELS[number % 2]) for number in range(count)]


def texts_alone(count: int, of: str = "general") -> list[str]:
    """Documents that differ."""
    return [f"{of} document {number}, of the river and the mill" for number in range(count)]


def write_examples(folder: Path, train: Sequence[Labelled], heldout: Sequence[Labelled]) -> None:
    """As an Examples artifact of classification has them."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in (("train", train), ("heldout", heldout)):
        made = [Example("", {"text": text, "label": label}, "") for text, label in rows]
        table = [{"id": one.id, "group": one.id, "text": one.values["text"], "label": one.values["label"]} for one in made]
        schema = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("id", "group", "text", "label")])
        pq.write_table(pa.Table.from_pylist(table, schema), folder / f"{split}.parquet")
    (folder / "labels.json").write_text(json.dumps(LABELS))


def write_answers(folder: Path, count: int) -> None:
    """As an Examples artifact of instructions has them."""
    folder.mkdir(parents=True)
    rows = [
        {"id": f"a{number}", "group": f"a{number}", "prompt": f"Tell of mill {number}", "response": f"It turns {number} times."}
        for number in range(count)
    ]
    schema = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("id", "group", "prompt", "response")])
    for split in ("train", "heldout"):
        pq.write_table(pa.Table.from_pylist(rows, schema), folder / f"{split}.parquet")


def write_documents(path: Path, documents: Sequence[str]) -> None:
    """Held-out text of two sources."""
    rows = [
        {"id": text[:30], "source": f"s{number % 2}", "language": "en", "bytes": len(text.encode()), "text": text}
        for number, text in enumerate(documents)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)


def of_examples(folder: Path, mind: Mind, most: int) -> tuple[list[Item], list[ItemFigures]]:
    """Right on the first `mind.right` of the held-out examples."""
    rows = read_examples(folder, "heldout").table.to_pylist()[:most]
    items = [Item("classification", row["id"], row["group"], "", "und", len(row["text"]), row["text"], row["label"]) for row in rows]
    right = (np.arange(len(rows)) < round(mind.right * len(rows))).astype(np.float64)
    answers = [row["label"] if is_right else "?" for row, is_right in zip(rows, right, strict=True)]
    return items, [_figures("classification", "accuracy", items, np.stack([right, np.ones(len(rows))], axis=1), answers)]


def of_documents(path: Path, mind: Mind, most: int) -> tuple[list[Item], list[ItemFigures]]:
    """About `mind.bits` for each byte; models differ from text to text by a little."""
    rows = pq.read_table(path).to_pylist()[:most]
    items = [Item("bits_per_byte", row["id"], row["id"], row["source"], row["language"], row["bytes"], row["text"], "") for row in rows]
    sizes = np.array([row["bytes"] for row in rows], np.float64)
    noise = np.random.default_rng([int(1000 * mind.bits), len(rows)]).normal(0.0, 0.01, len(rows))
    digits = ItemFigures("model", "bits_per_byte", "bits_per_byte:digits", "ratio", (items[0].item,), np.array([[mind.bits, 1.0]]), ("",))
    return items, [_figures("bits_per_byte", "bits_per_byte", items, np.stack([(mind.bits + noise) * sizes, sizes], axis=1)), digits]


def of_answers(folder: Path, mind: Mind, most: int) -> tuple[list[Item], list[ItemFigures]]:
    """`mind.answer_bits` for each byte of each response."""
    rows = read_examples(folder, "heldout").table.to_pylist()[:most]
    items = [Item("instruction", row["id"], row["group"], "", "en", len(row["response"]), row["prompt"], row["response"]) for row in rows]
    sizes = np.array([len(row["response"]) for row in rows], np.float64)
    return items, [_figures("instruction", "bits_per_byte", items, np.stack([mind.answer_bits * sizes, sizes], axis=1))]


def of_suite(mind: Mind) -> tuple[list[Item], list[ItemFigures]]:
    """Forty items of each of its figures."""
    items = [Item("bias", f"{number:02}", f"{number:02}", "", "en", 1, "", "") for number in range(40)]
    return items, [
        _figures("bias", metric, items, np.stack([np.full(40, value), np.ones(40)], axis=1)) for metric, value in mind.suite.items()
    ]


def _figures(task: str, metric: str, items: Sequence[Item], columns: Floats, answers: Sequence[str] | None = None) -> ItemFigures:
    return ItemFigures("model", task, metric, "ratio", tuple(one.item for one in items), columns, tuple(answers or [""] * len(items)))


TONE = ModelTask("tone", "classification", LABELS)


@dataclass
class Tuned:
    """A contest of a model that labels: each part may be replaced before it is held."""

    room: Room
    mind: Mind
    examples: Examples
    scores: Scores
    model: PretrainedModel
    memory: ModelMemory
    rival: Rival | None
    contest: Contest
    entries: tuple[Entry, ...] = ()
    base: Path | None = None

    def held(self, **settings: object) -> Decision:
        """The decision; `settings` of the gate."""
        out = self.room.folder / "out"
        out.mkdir(exist_ok=True)
        contest = replace(self.contest, gate=GateConfig.model_validate({"resamples": 2_000, **settings}))
        return replace(self, contest=contest).decision(out)

    def decision(self, out: Path) -> Decision:
        """By the contest's own settings."""
        return gate(
            self.contest,
            self.model,
            self.scores,
            self.memory,
            self.examples,
            out,
            self.rival,
            self.entries,
            self.room.judge,
            self.room.certify,
            self.base,
        )


def tuned(folder: Path, challenger: Mind, champion: Mind | None, heldout: int = 100, task: ModelTask | None = TONE) -> Tuned:
    """A model that was tuned on labelled texts, and the champion of its name."""
    room = Room(folder)
    examples = room.examples("tone", texts("learned", 80), texts("asked", heldout))
    model = room.model("c0ffee", challenger, "LlamaForSequenceClassification" if task is TONE else "LlamaForCausalLM", task)
    memory = room.memory("mine")
    rival = None if champion is None else room.rival(champion, room.memory("theirs", tone=texts("asked", 10)))
    scores = room.scores("c0ffee", examples)
    return Tuned(room, challenger, examples, scores, model, memory, rival, Contest(GateConfig(), "better", "mill-tone", None))
