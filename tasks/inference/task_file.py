"""Task file: what a fine-tuned model was made for, in task.json beside its weights; of several heads on one trunk, in tasks.json."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from tasks.examples.kinds.table import kind_named
from tasks.examples.text_words import WordRule
from tasks.settings import Json

FILE, HEADS_FILE = "task.json", "tasks.json"


@dataclass(frozen=True)
class ModelTask:
    """What a model was tuned for."""

    name: str
    kind: str  # of the examples that it learned from
    labels: tuple[str, ...]  # what its outputs are called
    examples: str = field(default="", compare=False)  # fingerprint
    words: WordRule | None = None  # how a text falls into the words that it labels, where it labels words

    @property
    def is_chat(self) -> bool:
        """Whether it answers prompts in text, as it learned from instructions."""
        return kind_named(self.kind, FILE).writes

    @classmethod
    def from_json(cls, values: Mapping[str, Json], place: str) -> "ModelTask":
        """From a file's values. UserError, naming `place`, for a kind that is not known."""
        labels = values["labels"]
        assert isinstance(labels, list)
        kind = kind_named(str(values["kind"]), place).name
        told = values.get("words")
        words = None if told is None else TypeAdapter(WordRule).validate_python(told)
        return cls(str(values["name"]), kind, tuple(map(str, labels)), str(values.get("examples", "")), words)


def write_task(task: ModelTask, folder: Path) -> None:
    """task.json."""
    _write(asdict(task), folder / FILE)


def read_task(folder: Path) -> ModelTask | None:
    """The task of a fine-tuned model's folder; None for a model that was only pretrained, or comes from elsewhere."""
    path = folder / FILE
    return ModelTask.from_json(json.loads(path.read_text(encoding="utf-8")), str(path)) if path.is_file() else None


def write_head_tasks(tasks: Mapping[str, ModelTask], folder: Path) -> None:
    """tasks.json: by the name of a head, the task of the model that it makes with the trunk."""
    _write({name: asdict(task) for name, task in tasks.items()}, folder / HEADS_FILE)


def read_head_tasks(folder: Path) -> dict[str, ModelTask]:
    """What `write_head_tasks` wrote."""
    path = folder / HEADS_FILE
    return {name: ModelTask.from_json(values, str(path)) for name, values in json.loads(path.read_text(encoding="utf-8")).items()}


def _write(values: Mapping[str, object], path: Path) -> None:
    path.write_text(json.dumps(values, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
