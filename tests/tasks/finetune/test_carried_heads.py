"""A model that is tuned again for what it does already starts where it was: its scores are carried over by the labels' names."""

from pathlib import Path

import pyarrow as pa
import pytest
import torch

from model.config.model_config import ModelConfig
from model.huggingface.huggingface import load_folder, save_folder
from model.nn.models import MultipleChoice, OneHead, SequenceClassifier, TokenClassifier
from tasks.examples.kinds.kind import LabelledExamples
from tasks.examples.kinds.table import KINDS
from tasks.finetune.tuned_model import Base, open_base, with_head
from tasks.inference.task_file import ModelTask, write_task
from tasks.tokenizer.encoding import load_tokenizer
from tests.tasks.foreign import write_bert

pytestmark = pytest.mark.usefixtures("one_thread")

FAMILIES: dict[str, dict[str, object]] = {"llama": {}, "bert": {"family": "bert"}, "modernbert": {"family": "modernbert"}}


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bert(tmp_path_factory.mktemp("bert") / "theirs")


def saved(folder: Path, tokens: Path, model: OneHead, kind: str, labels: tuple[str, ...]) -> Base:
    """A base that was tuned for these labels, as a fine-tuning opens it."""
    save_folder(folder, model, {})
    write_task(ModelTask("tuned", kind, labels), folder)
    return open_base(folder, load_tokenizer(tokens), "test")


def examples(kind: str, labels: tuple[str, ...]) -> LabelledExamples:
    return LabelledExamples(KINDS[kind], labels, pa.table({"id": pa.array([], pa.string())}))


def shape(family: str) -> ModelConfig:
    return ModelConfig(layers=1, width=32, heads=2, context=32, **FAMILIES[family])  # pyright: ignore[reportArgumentType]


def classifier(family: str, classes: int) -> SequenceClassifier:
    torch.manual_seed(7)
    return SequenceClassifier(shape(family), 300, classes).eval()


IDS, LENGTHS = torch.tensor([[4, 9, 6, 7]]), torch.tensor([4])


@pytest.mark.parametrize("family", FAMILIES)
def test_with_equal_labels_nothing_has_changed_before_the_first_step(family: str, tmp_path: Path, tokenizer_folder: Path) -> None:
    before = classifier(family, 3)
    base = saved(tmp_path / "base", tokenizer_folder, before, "classification", ("a", "b", "c"))
    again = with_head(base, examples("classification", ("a", "b", "c")), 300, 1, "test").eval()
    assert isinstance(again, SequenceClassifier)
    with torch.no_grad():
        assert torch.allclose(again(IDS, LENGTHS), before(IDS, LENGTHS), atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_labels_in_another_order_keep_their_scores_and_a_new_one_begins_anew(family: str, tmp_path: Path, tokenizer_folder: Path) -> None:
    before = classifier(family, 3)
    base = saved(tmp_path / "base", tokenizer_folder, before, "classification", ("a", "b", "c"))
    again = with_head(base, examples("classification", ("c", "new", "a")), 300, 1, "test").eval()
    assert isinstance(again, SequenceClassifier)
    with torch.no_grad():
        old, new = before(IDS, LENGTHS)[0], again(IDS, LENGTHS)[0]
    assert torch.allclose(new[[0, 2]], old[[2, 0]], atol=1e-6)
    assert not torch.isclose(new[1], old, atol=1e-6).any()


def test_other_kinds_keep_their_heads_too(tmp_path: Path, tokenizer_folder: Path) -> None:
    torch.manual_seed(7)
    heads: dict[str, tuple[OneHead, tuple[str, ...]]] = {
        "token_labels": (TokenClassifier(shape("llama"), 300, 2), ("O", "X")),
        "multi_label": (SequenceClassifier(shape("llama"), 300, 2, "multi"), ("x", "y")),
        "regression": (SequenceClassifier(shape("llama"), 300, 1, "regression"), ("value",)),
        "multiple_choice": (MultipleChoice(shape("llama"), 300), ()),
    }
    for kind, (before, labels) in heads.items():
        base = saved(tmp_path / kind, tokenizer_folder, before, kind, labels)
        again = with_head(base, examples(kind, () if kind == "regression" else labels), 300, 1, "test")
        for name, tensor in before.state_dict().items():
            assert torch.equal(again.state_dict()[name], tensor), f"{kind}: {name}"


@pytest.mark.parametrize(("kind", "labels"), [("multi_label", ("a", "b")), ("classification", ("x", "y"))])
def test_a_head_of_another_kind_or_of_other_labels_is_new(
    kind: str, labels: tuple[str, ...], tmp_path: Path, tokenizer_folder: Path
) -> None:
    before = classifier("llama", 2)
    base = saved(tmp_path / "base", tokenizer_folder, before, "classification", ("a", "b"))
    again = with_head(base, examples(kind, labels), 300, 1, "test")
    assert not torch.isclose(again.state_dict()["head.score.weight"], before.head.score.weight).any()


def test_a_base_that_does_not_say_its_labels_gives_its_trunk_alone(tmp_path: Path, tokenizer_folder: Path) -> None:
    before = classifier("llama", 2)
    save_folder(tmp_path / "base", before, {})
    base = open_base(tmp_path / "base", load_tokenizer(tokenizer_folder), "test")
    again = with_head(base, examples("classification", ("a", "b")), 300, 1, "test")
    assert not torch.equal(again.state_dict()["head.score.weight"], before.head.score.weight)
    assert isinstance(load_folder(tmp_path / "base"), SequenceClassifier)
