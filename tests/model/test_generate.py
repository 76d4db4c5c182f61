import threading

import pytest
import torch

from model.generate import complete, generate, pick
from model.heads import LanguageModel
from model.model_config import ModelConfig

VOCAB = 61
GPT2 = ModelConfig(family="gpt2", layers=2, width=32, heads=4, context=16, initial_std=0.3)
LLAMA = ModelConfig(layers=2, width=32, heads=4, kv_heads=2, context=16, initial_std=0.3)


@pytest.fixture(params=[GPT2, LLAMA], ids=["gpt2", "llama"])
def model(request: pytest.FixtureRequest) -> LanguageModel:
    torch.manual_seed(5)
    return LanguageModel(request.param, VOCAB).eval()


def greedy_without_cache(model: LanguageModel, prompt: list[int], count: int) -> list[int]:
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt) :]


def columns(steps: list[list[int | None]]) -> list[list[int]]:
    return [[token for token in column if token is not None] for column in zip(*steps, strict=True)]


def test_cached_generation_of_unequal_prompts_equals_uncached(model: LanguageModel):
    prompts = [[1], [2, 3, 4, 5, 6], [7, 8]]
    texts = columns(list(generate(model, prompts, 9, temperature=0)))
    assert texts == [greedy_without_cache(model, prompt, 9) for prompt in prompts]


def test_text_ends_where_the_context_is_full(model: LanguageModel):
    prompts = [[1] * 15, [2] * 3]
    texts = columns(list(generate(model, prompts, 100, temperature=0)))
    assert [len(text) for text in texts] == [1, 13]
    assert texts == [greedy_without_cache(model, prompt, n) for prompt, n in zip(prompts, (1, 13), strict=True)]


def test_text_ends_at_a_stop_id(model: LanguageModel):
    whole = greedy_without_cache(model, [1, 2], 10)
    stop = whole[4]
    assert complete(model, [1, 2], 1, 10, temperature=0, stop_ids=frozenset({stop})) == [whole[: whole.index(stop) + 1]]


def test_draws_do_not_depend_on_the_other_prompts_nor_on_global_state(model: LanguageModel):
    alone = complete(model, [1, 2, 3], 1, 8, seed=4)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    together = columns(list(generate(model, [[1, 2, 3], [9], [8, 7]], 8, seed=4)))
    assert together[0] == alone[0]
    assert torch.equal(torch.get_rng_state(), state)


def test_seeds_and_places_give_other_texts(model: LanguageModel):
    texts = complete(model, [1, 2], 4, 10, seed=1) + complete(model, [1, 2], 4, 10, seed=2)
    assert len({tuple(text) for text in texts}) == 8


def test_threads_do_not_disturb_each_other(model: LanguageModel):
    expected = [complete(model, [1, 2], 2, 8, seed=seed) for seed in range(4)]
    found: dict[int, list[list[int]]] = {}

    def work(seed: int) -> None:
        found[seed] = complete(model, [1, 2], 2, 8, seed=seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[seed] for seed in range(4)] == expected


def test_training_mode_is_put_back(model: LanguageModel):
    model.train()
    complete(model, [1], 1, 3)
    assert model.training


def test_draws_follow_the_probabilities():
    probabilities = torch.tensor([0.1, 0.6, 0.05, 0.25])
    draws = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    chosen = pick(probabilities.log().expand(1000, 4), draws, temperature=1.0, top_k=0, top_p=1.0)
    assert chosen.bincount(minlength=4).tolist() == pytest.approx([100, 600, 50, 250], abs=1)


@pytest.mark.parametrize(("top_k", "top_p", "kept"), [(1, 1.0, {1}), (2, 1.0, {1, 3}), (0, 0.5, {1}), (0, 0.7, {1, 3})])
def test_sampling_keeps_the_likeliest(top_k: int, top_p: float, kept: set[int]):
    logits = torch.tensor([0.1, 0.6, 0.05, 0.25]).log().expand(100, 4)
    draws = torch.arange(100, dtype=torch.float64) / 100
    assert set(pick(logits, draws, 1.0, top_k, top_p).tolist()) == kept


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([[1] * 16], "prompt 0 has 16 tokens, but a context of 16 leaves room for 15"),
        ([[1], []], "prompt 1 is empty"),
        ([[61]], "token ids outside of 0 to 60"),
        ([], "no prompts"),
    ],
)
def test_prompt_that_cannot_be_continued_is_refused_at_once(
    model: LanguageModel, prompts: list[list[int]], message: str
):
    with pytest.raises(ValueError, match=message):
        generate(model, prompts, 5)


@pytest.mark.parametrize("settings", [{"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"max_tokens": 0}])
def test_sampling_out_of_bounds_is_refused(model: LanguageModel, settings: dict[str, float]):
    with pytest.raises(ValueError, match="expected"):
        generate(model, [[1]], **{"max_tokens": 5, **settings})
