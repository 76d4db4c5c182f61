"""Classification of a text: labels or choices with probabilities, or a figure. B rows, T tokens, K classes."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import UserError
from tasks.examples.kinds.multiple_choice import choice_row
from tasks.examples.kinds.token_labels import WordRow, word_rows
from tasks.examples.text_rows import text_row
from tasks.examples.text_words import WordRule
from tasks.inference.task_file import ModelTask
from tasks.tokenizer.encoding import encode_documents, text_ids
from tasks.tokenizer.word_encoding import WordEncoder

if TYPE_CHECKING:
    import tokenizers

    from model.nn.models import Model, MultipleChoice, SequenceClassifier, TokenClassifier

NO_LABEL = "_"  # for a word without one, as CoNLL-U has it
LIKELY = 0.5  # from here on one label of several holds

logger = logging.getLogger("wordmill")


@dataclass(frozen=True)
class Label:
    """A label and its probability; of a regression, the figure and no probability."""

    name: str
    probability: float | None


@dataclass(frozen=True)
class LabelledWord:
    """A word of a text, and its likeliest label."""

    word: str
    label: Label | None  # None: the tokenizer leaves nothing of it


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


class WordLabeller:
    """A token classifier and its rule for words, ready for texts."""

    def __init__(self, model: "TokenClassifier", tokenizer: "tokenizers.Tokenizer", labels: Sequence[str], rule: WordRule | None) -> None:
        """Without a `rule`, as of a model from elsewhere, white space parts words."""
        self._model, self._labels, self._rule = model, labels, rule or WordRule()
        self._encoder = WordEncoder(tokenizer)

    def label(self, text: str) -> list[LabelledWord]:
        """The words of a text of any length; it is logged how many have no label."""
        words = self._rule.words(text)
        (rows,) = word_rows([words], self._encoder, self._model.trunk.config, "MODEL")
        labels = {word: label for row in rows for word, label in self._labels_of(row).items()}
        if len(labels) < len(words):
            logger.warning("%d of %d words have no label: the tokenizer leaves nothing of them", len(words) - len(labels), len(words))
        return [LabelledWord(word.strip(), labels.get(number)) for number, word in enumerate(words)]

    def _labels_of(self, row: WordRow) -> dict[int, Label]:
        """By the number of the word."""
        import torch

        device = self._model.trunk.embedding.weight.device
        with torch.no_grad():
            logits = self._model(torch.tensor([row.ids], device=device), torch.tensor([len(row.ids)], device=device))[0].float()
        shares, best = logits.softmax(dim=-1).max(dim=-1)
        return {word: Label(self._labels[int(best[first])], shares[first].item()) for word, first in row.firsts.items()}

    def label_names(self, text: str) -> str:
        """The labels of a text's words, set apart by spaces."""
        return " ".join(NO_LABEL if word.label is None else word.label.name for word in self.label(text))


def word_labeller(model: "Model", tokenizer: "tokenizers.Tokenizer", folder: Path, task: ModelTask | None) -> WordLabeller | None:
    """Of the token classifier in `folder`; None for another model."""
    from model.nn.models import TokenClassifier

    if not isinstance(model, TokenClassifier):
        return None
    labels = labels_of(folder, task, model.head.score.out_features)
    return WordLabeller(model, tokenizer, labels, None if task is None else task.words)


def question_and_choices(text: str) -> tuple[str, list[str]]:
    """A question and two or more choices, a line each; a question of several lines ends at the last blank line.

    UserError where there are fewer choices.
    """
    question, _, rest = text.rpartition("\n\n")
    choices = [line.removesuffix("\r") for line in rest.split("\n") if line.strip()]
    if not question.strip() or len(choices) < 2:
        question, *choices = [line.removesuffix("\r") for line in text.split("\n") if line.strip()] or [""]
    if len(choices) < 2:
        raise UserError(
            f"MODEL chooses between answers, but the prompt has {len(choices)} below its first line. Fix: give the question and "
            "two or more choices, a line each; behind a question of several lines, a blank line."
        )
    return question, choices


def choose_text(model: "MultipleChoice", tokenizer: "tokenizers.Tokenizer", text: str) -> list[Label]:
    """The choices, likeliest first. UserError unless the text is a question and choices, see `question_and_choices`."""
    import torch

    question, choices = question_and_choices(text)
    special, context = text_ids(tokenizer, "MODEL"), model.trunk.config.context
    asked, *texts = encode_documents(tokenizer, [question, *choices])
    device = model.trunk.embedding.weight.device
    rows = [torch.tensor(choice_row(asked, text, special, context), device=device) for text in texts]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=special.pad)
    with torch.no_grad():
        shares = model(ids[None], torch.tensor([[len(row) for row in rows]], device=device))[0].float().softmax(dim=-1)
    found = [Label(name, share) for name, share in zip(choices, shares.tolist(), strict=True)]
    return sorted(found, key=lambda label: -(label.probability or 0.0))


def classify_text(model: "SequenceClassifier", tokenizer: "tokenizers.Tokenizer", labels: tuple[str, ...], text: str) -> str:
    """The label of a text, or the labels that hold, separated by commas."""
    found = label_text(model, tokenizer, labels, text)
    if model.head.problem != "multi":
        return found[0].name
    return ", ".join(label.name for label in found if label.probability is not None and label.probability >= LIKELY)
