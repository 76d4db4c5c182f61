"""Token label scores: a model that labels the words of texts on one task of a suite, beside the commonest label for all."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.evaluate.entities import entity_columns
from tasks.evaluate.judged import Judged, Subject, example_items, figures_of
from tasks.evaluate.label_scores import label_figures, own_labels, wrong_head
from tasks.evaluate.suite import EvaluateConfig, heldout_examples
from tasks.examples.kinds.token_labels import WordRow, is_tagged, word_rows
from tasks.examples.rows import read_examples
from tasks.items import ItemFigures
from tasks.scores import OWN
from tasks.tokenizer.word_encoding import WordEncoder

UNSEEN = ""  # the label of a word of which the tokenizer leaves nothing


def score_token_labels(config: EvaluateConfig, subject: Subject, examples: Path) -> Judged:
    """Accuracy and macro F1 over the tokens of held-out examples, each by its first token; of tags also F1 over whole entities.

    A word of which the tokenizer leaves nothing has no prediction, which counts as a wrong one; one whose label is "" is not asked.
    """
    from model.nn.models import TokenClassifier
    from tasks.evaluate.metrics import commonest, predict_tokens

    held, train = heldout_examples(config, examples), read_examples(examples, "train")
    if not isinstance(subject.model, TokenClassifier):
        raise wrong_head(subject.model, held.kind)
    own = own_labels(subject, subject.model.spec.classes, held.labels)
    texts = word_rows(held.table["tokens"].to_pylist(), WordEncoder(subject.tokenizer), subject.model.trunk.config, "evaluate")
    classes = iter(predict_tokens(subject.model, [row.ids for rows in texts for row in rows]))
    found = [_word_classes([(row, next(classes)) for row in rows]) for rows in texts]
    labels: list[list[str]] = held.table["labels"].to_pylist()
    wanted = [[name for name in names if name] for names in labels]
    answers = [
        [own[one[word]] if word in one else UNSEEN for word, name in enumerate(names) if name]
        for one, names in zip(found, labels, strict=True)
    ]
    usual = commonest(name for names in train.table["labels"].to_pylist() for name in names if name)
    items = example_items(held, [" ".join(names) for names in wanted])
    figures: list[ItemFigures] = []
    for model, guesses in ((OWN, answers), ("majority", [[usual] * len(names) for names in wanted])):
        figures += label_figures(model, items, guesses, wanted, held.labels)
        if is_tagged(train):
            shown = [" ".join(names) for names in guesses]
            figures.append(figures_of(model, "entity_f1", "ratio", items, entity_columns(guesses, wanted), shown))
    return Judged(items, tuple(figures))


def _word_classes(rows: Sequence[tuple[WordRow, NDArray[np.int64]]]) -> dict[int, int]:
    """By the number of the word, from the rows of one text and the class of each of their tokens."""
    return {word: int(classes[first]) for row, classes in rows for word, first in row.firsts.items()}
