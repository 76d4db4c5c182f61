"""Classification of a text: labels or choices with probabilities, or a figure. B rows, T tokens, K classes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import UserError
from tasks.examples.kinds.multiple_choice import choice_row
from tasks.examples.kinds.token_labels import token_label_row
from tasks.examples.text_rows import text_row
from tasks.inference.task_file import ModelTask
from tasks.tokenizer.encoding import encode_documents, text_ids

if TYPE_CHECKING:
    import tokenizers

    from model.nn.models import MultipleChoice, SequenceClassifier, TokenClassifier

LIKELY = 0.5  # from here on one label of several holds


@dataclass(frozen=True)
class Label:
    """A label and its probability; of a regression, the figure and no probability."""

    name: str
    probability: float | None


@dataclass(frozen=True)
class LabelledWord:
    """A word of a text, and its likeliest label."""

    word: str
    label: Label


def labels_of(folder: Path, task: ModelTask | None, classes: int) -> tuple[str, ...]:
    """Names of the classes: the task's, else those in config.json, else LABEL_0 and so on, as transformers has it.

    UserError when a task has more or fewer.
    """
    if task is not None and task.labels:
        names = task.labels
    else:
        told = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("id2label") or {}
        names = tuple(str(told.get(str(number), f"LABEL_{number}")) for number in range(classes))
    if len(names) != classes:
        raise UserError(f"MODEL {folder}: {len(names)} labels for {classes} classes. Fix: tune the model again.")
    return names


def label_text(model: "SequenceClassifier", tokenizer: "tokenizers.Tokenizer", labels: Sequence[str], text: str) -> list[Label]:
    """All labels, likeliest first; of a regression its one figure. The end of a text that does not fit goes."""
    import torch

    row = text_row(encode_documents(tokenizer, [text])[0], text_ids(tokenizer, "MODEL"), model.trunk.config.context)
    device = model.trunk.embedding.weight.device
    with torch.no_grad():
        scores = model(torch.tensor([row], device=device), torch.tensor([len(row)], device=device))[0].float()  # (K)
    if model.head.problem == "regression":
        return [Label(f"{scores.item():.6g}", None)]
    shares = scores.sigmoid() if model.head.problem == "multi" else scores.softmax(dim=-1)
    found = [Label(name, share) for name, share in zip(labels, shares.tolist(), strict=True)]
    return sorted(found, key=lambda label: -(label.probability or 0.0))


def label_words(model: "TokenClassifier", tokenizer: "tokenizers.Tokenizer", labels: Sequence[str], text: str) -> list[LabelledWord]:
    """The words of a text, as white space parts them; those that do not fit are left out."""
    import torch

    words = text.split()
    tokens = encode_documents(tokenizer, words)
    row, first = token_label_row(tokens, [0] * len(tokens), text_ids(tokenizer, "MODEL"), model.trunk.config)
    with torch.no_grad():
        logits = model(torch.tensor([row], device=model.trunk.embedding.weight.device))[0].float()
    shares, best = logits.softmax(dim=-1).max(dim=-1)
    named = [
        Label(labels[int(number)], share)
        for number, share, target in zip(best.tolist(), shares.tolist(), first, strict=True)
        if target == 0
    ]
    return [LabelledWord(word, label) for word, label in zip(words, named, strict=False)]


def choose_text(model: "MultipleChoice", tokenizer: "tokenizers.Tokenizer", text: str) -> list[Label]:
    """The choices, likeliest first. UserError unless the text is a question and two or more choices, a line each."""
    import torch

    question, *choices = [line for line in text.splitlines() if line.strip()] or [""]
    if len(choices) < 2:
        raise UserError(
            f"MODEL chooses between answers, but the prompt has {len(choices)} below its first line. Fix: give the question and "
            "two or more choices, a line each."
        )
    special, context = text_ids(tokenizer, "MODEL"), model.trunk.config.context
    asked, *texts = encode_documents(tokenizer, [question, *choices])
    device = model.trunk.embedding.weight.device
    rows = [torch.tensor(choice_row(asked, text, special, context), device=device) for text in texts]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=special.pad)
    with torch.no_grad():
        shares = model(ids[None], torch.tensor([[len(row) for row in rows]], device=device))[0].float().softmax(dim=-1)
    found = [Label(name, share) for name, share in zip(choices, shares.tolist(), strict=True)]
    return sorted(found, key=lambda label: -(label.probability or 0.0))


def classify_text(
    model: "SequenceClassifier | TokenClassifier", tokenizer: "tokenizers.Tokenizer", labels: tuple[str, ...], text: str
) -> str:
    """The label of a text, or the labels that hold, separated by commas; from a token classifier those of its words, by spaces."""
    from model.nn.models import SequenceClassifier

    if not isinstance(model, SequenceClassifier):
        return " ".join(word.label.name for word in label_words(model, tokenizer, labels, text))
    found = label_text(model, tokenizer, labels, text)
    if model.head.problem != "multi":
        return found[0].name
    return ", ".join(label.name for label in found if label.probability is not None and label.probability >= LIKELY)
