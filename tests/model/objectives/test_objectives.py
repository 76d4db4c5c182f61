"""Which model learns which objective, and that each pair does learn."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.config.heads import IGNORED
from model.config.model_config import ModelConfig
from model.config.objective_config import LEGAL_FAMILIES, ObjectiveConfig, check_context, check_pair, longest_text, needed_context
from model.config.training_config import OptimizerConfig, TrainingConfig
from model.data.batches import Batch, Batches
from model.nn.models import LanguageModel, MaskedLanguageModel, Seq2SeqModel
from model.objectives.corruption import Symbols
from model.objectives.noise import row_keys
from model.objectives.objectives import CorruptedBatches, Corruption, new_model
from model.training.curve import CurvePoint
from model.training.record import Watch, ignore_event
from model.training.training import train

VOCAB, TOKENS = 24, 12
BOS, EOS, PAD, MASK, SEP = range(5)
SYMBOLS = Symbols(BOS, EOS, PAD, np.arange(VOCAB) < 10, MASK, SEP, (5, 6, 7, 8, 9))
FAMILIES = ("gpt2", "llama", "bert", "modernbert", "seq2seq", "rnn", "lstm", "gru")
PAIRS = [(kind, family) for kind in LEGAL_FAMILIES for family in FAMILIES]
LEGAL = [(kind, family) for kind, family in PAIRS if family in LEGAL_FAMILIES[kind]]
ILLEGAL = [pair for pair in PAIRS if pair not in LEGAL]


class FixedRows:
    """The same rows at every step: one document each, of unequal lengths."""

    def __init__(self, batch_rows: int = 4) -> None:
        self.batch_rows = batch_rows
        random = np.random.default_rng(5)
        self.ids = np.full((batch_rows, TOKENS), PAD)
        for row, length in zip(self.ids, random.integers(4, TOKENS + 1, batch_rows), strict=True):
            row[:length] = [BOS, *random.integers(10, VOCAB, length - 2), EOS]

    def rows_at(self, step: int) -> NDArray[np.int64]:
        return np.arange(self.batch_rows)

    def batch(self, step: int, start: int, stop: int) -> Batch:
        ids = self.ids[start:stop]
        targets = np.full_like(ids, IGNORED)
        targets[:, :-1] = np.where((ids[:, 1:] != PAD) & (np.arange(TOKENS - 1) > 0), ids[:, 1:], IGNORED)
        lengths = torch.from_numpy((ids != PAD).sum(axis=1))
        return Batch(torch.from_numpy(ids), torch.from_numpy(targets), lengths)

    def evaluation(self, batches: int) -> Iterator[Batch]:
        yield self.batch(0, 0, self.batch_rows)


def shape(family: str) -> ModelConfig:
    return ModelConfig(family, layers=1, width=32, heads=2, context=40)  # type: ignore[arg-type]


def batches_of(kind: str, config: ModelConfig) -> Batches:
    """With a fixed noise: that of the first step."""
    if kind == "causal":
        return FixedRows()
    return CorruptedBatches(FixedRows(), Corruption(ObjectiveConfig(kind), config, SYMBOLS), 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "family"), LEGAL)
def test_legal_pair_learns_one_batch_by_heart(kind: str, family: str):
    torch.manual_seed(1)
    config = shape(family)
    model = new_model(config, VOCAB, ObjectiveConfig(kind))  # type: ignore[arg-type]
    batch = batches_of(kind, config).batch(0, 0, 4)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    loss = torch.tensor(torch.inf)
    for _ in range(300):
        found = model.loss(batch)
        loss = found.nats / found.count
        if loss < 0.1:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1


@pytest.mark.parametrize(("kind", "family"), LEGAL)
def test_head_is_the_objectives(kind: str, family: str):
    head = {"bert": MaskedLanguageModel, "modernbert": MaskedLanguageModel, "seq2seq": Seq2SeqModel}
    objective = ObjectiveConfig(kind)  # type: ignore[arg-type]
    assert type(new_model(shape(family), VOCAB, objective)) is head.get(family, LanguageModel)


@pytest.mark.parametrize(("kind", "family"), ILLEGAL)
def test_illegal_pair_is_refused_by_name_with_what_would_do(kind: str, family: str):
    objective = ObjectiveConfig(kind)  # type: ignore[arg-type]
    others = [name for name, families in LEGAL_FAMILIES.items() if family in families]
    said = f"objective {kind} does not go with family {family}.*{LEGAL_FAMILIES[objective.kind][-1]}.*kind to .*{others[-1]}"
    with pytest.raises(ValueError, match=said):
        check_pair(shape(family), objective)
    with pytest.raises(ValueError, match=f"objective {kind} does not go with family {family}"):
        new_model(shape(family), VOCAB, objective)
    with pytest.raises(ValueError, match=f"objective {kind} does not go with family {family}"):
        Corruption(objective, shape(family), SYMBOLS)


def test_portions_of_a_batch_with_unequal_counts_of_masks_change_nothing(tmp_path: Path):
    config = ModelConfig("bert", layers=1, width=32, heads=2, context=TOKENS)
    objective = ObjectiveConfig("masked", rate=0.4)
    batches = CorruptedBatches(FixedRows(8), Corruption(objective, config, SYMBOLS), 1)
    counts = (batches.batch(0, 0, 8).targets != IGNORED).sum(dim=1)
    assert counts.min() < counts.max()
    found = list[tuple[list[float], torch.Tensor]]()
    for micro_rows in (8, 2, 1):
        torch.manual_seed(1)
        model = new_model(config, VOCAB, objective)
        losses = list[float]()

        def report(figures: CurvePoint, losses: list[float] = losses) -> None:
            losses.append(figures.loss)
            assert figures.validation_loss is not None
            losses.append(figures.validation_loss)

        training = TrainingConfig(steps=5, batch_rows=8, micro_rows=micro_rows, log_every=1, evaluate_every=1, precision="float32")
        out = tmp_path / str(micro_rows)
        train(model, batches, batches, training, OptimizerConfig(warmup_steps=1), out, "data", Watch(report, ignore_event))
        found.append((losses, torch.cat([weight.flatten() for weight in model.parameters()]).detach()))
    for losses, weights in found[1:]:
        assert losses == pytest.approx(found[0][0], rel=1e-5)
        assert torch.allclose(weights, found[0][1], atol=1e-4)


def test_row_that_outgrows_the_context_is_refused_with_both_fixes():
    config, objective = ModelConfig(context=100), ObjectiveConfig("restore")
    check_context(config, objective, 50)
    with pytest.raises(ValueError, match=r"set model\.context to 102, or shards\.context to 50 or less"):
        check_context(config, objective, 51)


@pytest.mark.parametrize("family", ["llama", "seq2seq"])
@pytest.mark.parametrize(("rate", "span_length"), [(0.15, 3.0), (0.5, 1.0), (0.9, 2.0)])
def test_longest_text_of_spans_fits_whatever_is_hidden(family: str, rate: float, span_length: float):
    config = ModelConfig(family, context=64)  # type: ignore[arg-type]
    objective = ObjectiveConfig("spans", rate=rate, span_length=span_length)
    tokens = longest_text(config, objective)
    symbols = Symbols(BOS, EOS, PAD, np.arange(200) < 100, MASK, SEP, tuple(range(5, 5 + objective.most_spans(tokens))))
    ids = torch.randint(100, 200, (200, tokens))
    ids[:, 0], ids[:, -1] = BOS, EOS
    made = Corruption(objective, ModelConfig(family, context=4096), symbols)  # type: ignore[arg-type]
    batch = made.apply(Batch(ids, ids, torch.full((200,), tokens)), np.arange(200).astype(np.uint64))
    assert needed_context(config, objective, tokens) <= 64 < needed_context(config, objective, tokens + 1)
    assert int(batch.lengths.max()) <= 64
    assert int((batch.targets != IGNORED).sum(dim=1).max()) <= 64


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kind": "mlm"}, "kind 'mlm': expected one of causal, masked, restore, spans"),
        ({"kind": "masked", "rate": 0.0}, "rate 0.0: expected a number above 0 and below 1"),
        ({"kind": "masked", "mask_share": 0.95}, "add up to more than 1"),
        ({"kind": "masked", "span_length": 3.0}, "span_length: objective masked has no such option.*restore or spans"),
        ({"kind": "spans", "random_share": 0.0}, "random_share: objective spans has no such option.*masked"),
        ({"kind": "causal", "rate": 0.1}, "rate: objective causal has no such option"),
        ({"kind": "masked", "unit": "sentence"}, "objective masked goes by token or word"),
        ({"kind": "masked", "words": "jieba"}, "words 'jieba' tells where Chinese words end, so it goes with unit word"),
        ({"kind": "restore", "span_length": 0.5}, "span_length 0.5: expected a number at least 1"),
    ],
)
def test_setting_that_would_be_ignored_or_cannot_be_is_refused(settings: dict[str, object], said: str):
    with pytest.raises(ValueError, match=said):
        ObjectiveConfig(**settings)  # type: ignore[arg-type]


def test_objective_without_its_special_tokens_or_words_is_refused():
    bare = Symbols(BOS, EOS, PAD, np.arange(VOCAB) < 10)
    for kind, family in (("masked", "bert"), ("restore", "llama"), ("spans", "seq2seq")):
        with pytest.raises(ValueError, match=f"objective {kind}: its special tokens are not among the symbols"):
            Corruption(ObjectiveConfig(kind), shape(family), bare)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unit word: needs a table of where words begin"):
        Corruption(ObjectiveConfig("masked", unit="word"), shape("bert"), SYMBOLS)


@pytest.mark.parametrize("kind", ["restore", "spans"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "lstm"])
def test_text_with_its_answer_costs_the_same_alone_as_in_a_row_of_several(kind: str, family: str):
    torch.manual_seed(2)
    model = new_model(shape(family), VOCAB, ObjectiveConfig(kind)).eval()  # type: ignore[arg-type]
    plain = torch.tensor([[BOS, 11, 12, 13, 14, 15, EOS, BOS, 16, 17, 18, EOS, BOS, 19, 20, EOS]])
    corruption = Corruption(ObjectiveConfig(kind, rate=0.5), shape(family), SYMBOLS, masks_documents=True)  # type: ignore[arg-type]
    packed = corruption.apply(Batch(plain, plain, torch.tensor([16])), row_keys(np.array([0]), 1))
    assert packed.documents is not None
    starts = [*torch.nonzero(packed.documents.positions[0] == 0).flatten().tolist(), packed.ids.shape[1]]
    alone = torch.tensor(0.0)
    for first, last in pairwise(starts):
        part = slice(first, last)
        alone += model.loss(Batch(packed.ids[:, part], packed.targets[:, part], torch.tensor([last - first]))).nats
    assert len(starts) >= 4
    assert model.loss(packed).nats.item() == pytest.approx(alone.item(), rel=1e-5)
