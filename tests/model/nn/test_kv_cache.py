"""The cache of keys and values against forward passes without one."""

import pytest
import torch

from model.config.model_config import ModelConfig
from model.config.rope_scaling import RopeScaling
from model.nn.kv_cache import SPARE_POSITIONS
from model.nn.transformer import Transformer

VOCAB, LONG = 61, 200  # longer than a cache is made at first
SHAPES = {
    "gpt2": ModelConfig("gpt2", layers=2, width=32, heads=4, context=LONG),
    "grouped": ModelConfig(layers=2, width=32, heads=4, kv_heads=2, context=LONG),
    "scaled": ModelConfig(layers=2, width=32, heads=4, context=LONG, rope_scaling=RopeScaling("llama3", 8.0, 1.0, 4.0, 50)),
    "window": ModelConfig(layers=3, width=32, heads=4, kv_heads=1, context=LONG, window=7, global_every=2),
}


@pytest.fixture(params=SHAPES)
def trunk(request: pytest.FixtureRequest) -> Transformer:
    torch.manual_seed(2)
    return Transformer(SHAPES[request.param], VOCAB).eval()


def random_ids(rows: int, tokens: int) -> torch.Tensor:
    return torch.randint(0, VOCAB, (rows, tokens), generator=torch.Generator().manual_seed(rows))


@pytest.mark.parametrize("sizes", [[1] * LONG, [90, 1, 1, 5, 100, 1, 2], [3, 60, 137]])
def test_chunks_give_the_hidden_states_of_the_whole_while_the_cache_grows(trunk: Transformer, sizes: list[int]) -> None:
    assert sum(sizes) == LONG > SPARE_POSITIONS
    ids, cache = random_ids(2, LONG), trunk.new_cache(2)
    with torch.no_grad():
        found = torch.cat([trunk(chunk, cache=cache) for chunk in ids.split(sizes, dim=1)], dim=1)
        torch.testing.assert_close(found, trunk(ids), atol=1e-5, rtol=1e-5)


def test_rows_of_unequal_length_grow_as_each_would_alone(trunk: Transformer) -> None:
    ids, lengths = random_ids(3, 30), torch.tensor([30, 4, 17])
    more = random_ids(4, 60)[:3]
    cache = trunk.new_cache(3)
    with torch.no_grad():
        trunk.prefill(ids, lengths, cache)
        found = torch.stack([trunk.extend(more[:, at : at + 1], cache) for at in range(60)], dim=1)
        for row, length in enumerate(lengths.tolist()):
            alone = trunk(torch.cat((ids[row, :length], more[row]))[None])[0, length:]
            torch.testing.assert_close(found[row], alone, atol=1e-5, rtol=1e-5)


def test_reordered_rows_go_on_as_those_that_they_were(trunk: Transformer) -> None:
    ids, lengths = random_ids(3, 9), torch.tensor([9, 4, 6])
    more = random_ids(4, 5)
    cache = trunk.new_cache(3)
    rows = torch.tensor([2, 1, 1, 2])
    with torch.no_grad():
        trunk.prefill(ids, lengths, cache)
        cache.reorder(rows)
        assert (cache.shortest, cache.longest) == (4, 6)
        found = torch.stack([trunk.extend(more[:, at : at + 1], cache) for at in range(5)], dim=1)
        for at, row in enumerate(rows.tolist()):
            alone = trunk(torch.cat((ids[row, : lengths[row]], more[at]))[None])[0, lengths[row] :]
            torch.testing.assert_close(found[at], alone, atol=1e-5, rtol=1e-5)


def test_equal_rows_need_no_mask_and_a_window_keeps_its_keys_alone() -> None:
    trunk = Transformer(SHAPES["window"], VOCAB).eval()
    cache = trunk.new_cache(2)
    with torch.no_grad():
        trunk.prefill(random_ids(2, 20), torch.tensor([20, 20]), cache)
        new = torch.zeros(2, 1, 1, 8)
        keys, values, mask = cache.store(1, new, new, window=7)
    assert mask is None
    assert keys.shape[2] == values.shape[2] == 7


def test_sequence_past_the_context_is_refused(trunk: Transformer) -> None:
    cache = trunk.new_cache(1)
    with torch.no_grad():
        trunk(random_ids(1, LONG), cache=cache)
        with pytest.raises(ValueError, match="a sequence of 201 tokens does not fit the model's context of 200"):
            trunk.extend(torch.tensor([[1]]), cache)
