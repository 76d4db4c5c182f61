import pytest
import torch

from model.config.model_config import ModelConfig
from model.data.batches import Batch
from model.nn.models import LanguageModel
from model.nn.recurrent import RecurrentState

VOCAB = 61


@pytest.fixture(params=["rnn", "lstm", "gru"])
def model(request: pytest.FixtureRequest) -> LanguageModel:
    torch.manual_seed(1)
    return LanguageModel(ModelConfig(request.param, layers=2, width=32, context=64), VOCAB).eval()


def random_ids(rows: int, tokens: int) -> torch.Tensor:
    return torch.randint(VOCAB, (rows, tokens), generator=torch.Generator().manual_seed(rows + tokens))


def test_carried_state_gives_the_hidden_states_of_the_whole(model: LanguageModel):
    ids, state = random_ids(2, 20), RecurrentState()
    chunks = [model.trunk(ids[:, start:stop], cache=state) for start, stop in ((0, 7), (7, 8), (8, 20))]
    torch.testing.assert_close(torch.cat(chunks, dim=1), model.trunk(ids))


def test_short_gradients_leave_the_loss_as_it_is():
    torch.manual_seed(1)
    whole = LanguageModel(ModelConfig("lstm", layers=1, width=16, context=32), VOCAB)
    short = LanguageModel(ModelConfig("lstm", layers=1, width=16, context=32, carry_tokens=4), VOCAB)
    short.load_state_dict(whole.state_dict())
    ids = random_ids(2, 32)
    batch = Batch(ids, ids.roll(-1, 1), torch.tensor([32, 32]))
    losses = [model.loss(batch).nats for model in (whole, short)]
    torch.testing.assert_close(losses[0], losses[1])
    gradients = [torch.autograd.grad(loss, model.trunk.cells.weight_hh_l0)[0] for loss, model in zip(losses, (whole, short), strict=True)]
    assert not torch.allclose(*gradients)


def test_gradients_stop_where_they_should():
    """After 4 carried tokens the first token has no gradient from the last one's loss."""
    torch.manual_seed(1)
    model = LanguageModel(ModelConfig("gru", layers=1, width=16, context=32, carry_tokens=4), VOCAB)
    hidden = model.trunk(torch.arange(10)[None])
    (gradient,) = torch.autograd.grad(hidden[0, -1].sum(), model.trunk.embedding.weight)
    reached = gradient.abs().sum(dim=1).nonzero().flatten().tolist()
    assert reached == [8, 9]  # chunks are tokens 0-3, 4-7, 8-9


def test_softmax_is_tied_to_the_embedding(model: LanguageModel):
    assert model.head_weight is model.trunk.embedding.weight
    assert [name for name in model.state_dict() if name.startswith("head")] == []


def test_prompts_of_unequal_length_are_read_to_their_own_ends(model: LanguageModel):
    ids, lengths = random_ids(2, 9), torch.tensor([9, 4])
    state = model.trunk.new_cache(2)
    last = model.trunk.prefill(ids, lengths, state)
    torch.testing.assert_close(last[1:], model.trunk(ids[1:, :4])[:, -1])
    following = model.trunk.extend(torch.tensor([[7], [7]]), state)
    alone = torch.cat((ids[1:, :4], torch.tensor([[7]])), dim=1)
    torch.testing.assert_close(following[1:], model.trunk(alone)[:, -1])
