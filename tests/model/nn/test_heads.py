import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from model.config.heads import IGNORED, HeadSpec
from model.config.model_config import ModelConfig
from model.data.batches import Batch, starts_of
from model.data.packed_documents import find_documents
from model.nn.models import LanguageModel, MaskedLanguageModel, MultipleChoice, MultiTask, Seq2SeqModel, SequenceClassifier, TokenClassifier

VOCAB = 61
DECODING = [
    ModelConfig("gpt2", layers=2, width=32, heads=4, context=32),
    ModelConfig("llama", layers=2, width=32, heads=4, context=32),
    ModelConfig("llama", layers=2, width=32, heads=4, kv_heads=2, context=32, window=5, global_every=2, qk_norm=True),
    ModelConfig("lstm", layers=2, width=32, context=32),
]
ENCODING = [
    ModelConfig("bert", layers=2, width=32, heads=4, context=32),
    ModelConfig("modernbert", layers=2, width=32, heads=4, context=32, window=6, global_every=2),
]


def name_of(config: ModelConfig) -> str:
    return f"{config.family}{config.window or ''}"


def random_ids(rows: int, tokens: int) -> torch.Tensor:
    return torch.randint(3, VOCAB, (rows, tokens), generator=torch.Generator().manual_seed(rows + tokens))


@pytest.mark.parametrize("config", [*DECODING, *ENCODING], ids=name_of)
def test_packed_documents_give_the_hidden_states_of_each_alone(config: ModelConfig):
    torch.manual_seed(1)
    trunk = (LanguageModel if config.is_causal else MaskedLanguageModel)(config, VOCAB).eval().trunk
    ids = random_ids(2, 30)
    ids[0, [4, 17]] = 1
    ids[1, 9] = 1
    packed = trunk(ids, find_documents(starts_of(ids.numpy(), 1)))
    for row, ends in ((0, (5, 18, 30)), (1, (10, 30))):
        start = 0
        for end in ends:
            alone = trunk(ids[row : row + 1, start:end])
            torch.testing.assert_close(packed[row : row + 1, start:end], alone, atol=1e-5, rtol=1e-5)
            start = end


@pytest.mark.parametrize("config", ENCODING, ids=name_of)
def test_padding_changes_nothing_in_an_encoder(config: ModelConfig):
    model = MaskedLanguageModel(config, VOCAB).eval()
    ids, lengths = random_ids(2, 20), torch.tensor([20, 11])
    torch.testing.assert_close(model(ids, lengths)[1:, :11], model(ids[1:, :11]), atol=1e-5, rtol=1e-5)


def test_padding_of_the_source_changes_nothing_in_a_seq2seq_model():
    model = Seq2SeqModel(ModelConfig("seq2seq", layers=2, width=32, heads=4, context=32), VOCAB).eval()
    ids, lengths, target = random_ids(2, 20), torch.tensor([20, 11]), random_ids(2, 7)
    torch.testing.assert_close(model(ids, lengths, target)[1:], model(ids[1:, :11], lengths[1:], target[1:]), atol=1e-5, rtol=1e-5)


def test_later_targets_do_not_change_earlier_logits_of_a_seq2seq_model():
    model = Seq2SeqModel(ModelConfig("seq2seq", layers=2, width=32, heads=4, context=32), VOCAB).eval()
    ids, lengths, target = random_ids(1, 20), torch.tensor([20]), random_ids(1, 9)
    changed = target.clone()
    changed[:, 5:] = 3
    torch.testing.assert_close(model(ids, lengths, target)[:, :5], model(ids, lengths, changed)[:, :5])


def test_capped_logits_stay_below_the_cap_and_give_the_loss_of_the_formula():
    torch.manual_seed(1)
    config = dataclasses.replace(DECODING[1], logit_cap=2.0, initial_std=1.0)
    model = LanguageModel(config, VOCAB)
    ids, targets = random_ids(2, 12), random_ids(2, 13)[:, 1:]
    logits = model(ids)
    assert logits.abs().max() <= 2.0
    expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
    expected_gradient = torch.autograd.grad(expected, model.trunk.embedding.weight)[0]
    found = model.loss(Batch(ids, targets, torch.tensor([12, 12]))).nats
    torch.testing.assert_close(found, expected)
    gradient = torch.autograd.grad(found, model.trunk.embedding.weight)[0]
    torch.testing.assert_close(gradient, expected_gradient, atol=1e-4, rtol=1e-4)


def test_masked_loss_counts_the_masked_tokens_alone():
    model = MaskedLanguageModel(ENCODING[0], VOCAB).eval()
    ids, lengths = random_ids(2, 10), torch.tensor([10, 10])
    targets = torch.full_like(ids, IGNORED)
    targets[0, 3], targets[1, 7] = 5, 6
    loss = model.loss(Batch(ids, targets, lengths))
    assert int(loss.count) == 2
    expected = F.cross_entropy(model(ids, lengths).flatten(0, 1), targets.flatten(), reduction="sum")
    torch.testing.assert_close(loss.nats, expected)


def test_each_label_is_scored_by_itself_and_figures_by_their_squares():
    ids, lengths = random_ids(3, 8), torch.tensor([8, 5, 2])
    labels = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    several = SequenceClassifier(DECODING[0], VOCAB, 2, "multi").eval()
    loss = several.loss(Batch(ids, labels, lengths))
    expected = F.binary_cross_entropy_with_logits(several(ids, lengths), labels)
    torch.testing.assert_close(loss.nats / loss.count, expected)
    figure = SequenceClassifier(ENCODING[0], VOCAB, 1, "regression").eval()
    loss = figure.loss(Batch(ids, torch.tensor([0.5, -100.0, 2.0]), lengths))
    assert int(loss.count) == 3
    expected = F.mse_loss(figure(ids, lengths)[:, 0], torch.tensor([0.5, -100.0, 2.0]))
    torch.testing.assert_close(loss.nats / loss.count, expected)


def test_a_choice_is_scored_as_it_would_be_alone():
    model = MultipleChoice(ENCODING[0], VOCAB).eval()
    ids, lengths = random_ids(6, 9).view(2, 3, 9), torch.tensor([[9, 4, 7], [3, 9, 9]])
    scores = model(ids, lengths)
    alone = model(ids[:1, 1:2, :4], lengths[:1, 1:2])
    torch.testing.assert_close(scores[0, 1], alone[0, 0], atol=1e-5, rtol=1e-5)


def test_heads_of_several_tasks_train_one_trunk():
    torch.manual_seed(1)
    specs = {"topic": HeadSpec("sequence", 4), "names": HeadSpec("tokens", 3), "text": HeadSpec("language")}
    model = MultiTask(DECODING[0], VOCAB, specs)
    ids, lengths = random_ids(4, 8), torch.tensor([8, 8, 5, 3])
    batches = [
        Batch(ids, torch.tensor([0, 1, 2, 3]), lengths, task="topic"),
        Batch(ids, ids % 3, lengths, task="names"),
        Batch(ids, ids.roll(-1, 1), lengths, task="text"),
    ]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(150):
        for batch in batches:
            loss = model.loss(batch)
            (loss.nats / loss.count).backward()
            optimizer.step()
            optimizer.zero_grad()
    with torch.no_grad():
        losses = [model.loss(batch) for batch in batches]
    assert all(float(loss.nats / loss.count) < 0.1 for loss in losses)


def test_a_task_without_a_head_is_refused():
    model = MultiTask(DECODING[0], VOCAB, {"topic": HeadSpec("sequence", 4)})
    with pytest.raises(ValueError, match="task 'names': the model's heads are topic"):
        model.loss(Batch(random_ids(1, 4), torch.tensor([0]), torch.tensor([4]), task="names"))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LanguageModel(ENCODING[0], VOCAB), "family bert sees what comes next"),
        (lambda: MaskedLanguageModel(DECODING[0], VOCAB), "family gpt2 sees only what came before"),
        (lambda: Seq2SeqModel(DECODING[0], VOCAB), "family gpt2 has no encoder and decoder"),
        (lambda: TokenClassifier(ModelConfig("seq2seq", width=32), VOCAB, 2), "family seq2seq is no single"),
        (lambda: SequenceClassifier(DECODING[0], VOCAB, 3, "regression"), "one output, not 3"),
        (lambda: MultiTask(DECODING[0], VOCAB, {"m": HeadSpec("masked")}), "a masked head does not fit family gpt2"),
    ],
)
def test_pairs_that_make_no_sense_are_refused_by_name(build, message: str):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("config", [*DECODING, *ENCODING], ids=name_of)
def test_bfloat16_products_change_the_loss_little(config: ModelConfig):
    from model.nn.models import set_compute_dtype

    torch.manual_seed(1)
    model = (LanguageModel if config.is_causal else MaskedLanguageModel)(config, VOCAB).eval()
    ids = random_ids(4, 16)
    batch = Batch(ids, ids.roll(-1, 1), torch.full((4,), 16))
    exact = model.loss(batch)
    set_compute_dtype(model, torch.bfloat16)
    assert float(model.loss(batch).nats.detach()) == pytest.approx(float(exact.nats.detach()), rel=2e-3)


def test_untrained_masked_loss_is_that_of_guessing():
    model = MaskedLanguageModel(ModelConfig("bert", layers=4, width=64, heads=4, context=32), 2048).eval()
    ids = torch.from_numpy(np.random.default_rng(1).integers(0, 2048, (8, 32)))
    loss = model.loss(Batch(ids, ids, torch.full((8,), 32)))
    assert float(loss.nats.detach() / loss.count) == pytest.approx(math.log(2048), abs=0.1)
