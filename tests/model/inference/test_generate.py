"""Generation against the uncached forward pass and against transformers' `generate`."""

import threading
from collections.abc import Sequence

import pytest
import torch
import transformers
from transformers import generation

from model.config.model_config import ModelConfig
from model.inference.generate import Generation, Token, complete, generate
from model.inference.sampling import Sampling, narrow, penalize, pick
from model.nn.models import LanguageModel

VOCAB = 61
GPT2 = ModelConfig(family="gpt2", layers=2, width=32, heads=4, context=16, initial_std=0.3)
LLAMA = ModelConfig(layers=2, width=32, heads=4, kv_heads=2, context=16, initial_std=0.3)
WINDOW = ModelConfig(layers=3, width=32, heads=4, kv_heads=2, context=16, window=4, global_every=2, qk_norm=True, initial_std=0.3)
LSTM = ModelConfig(family="lstm", layers=2, width=32, context=16, initial_std=0.3)
GREEDY = Sampling(max_tokens=9, temperature=0)


@pytest.fixture(params=[GPT2, LLAMA, WINDOW, LSTM], ids=["gpt2", "llama", "window", "lstm"])
def model(request: pytest.FixtureRequest) -> LanguageModel:
    torch.manual_seed(5)
    return LanguageModel(request.param, VOCAB).eval()


@pytest.fixture
def gpt2() -> LanguageModel:
    torch.manual_seed(5)
    return LanguageModel(GPT2, VOCAB).eval()


def greedy_without_cache(model: LanguageModel, prompt: Sequence[int], count: int) -> list[int]:
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt) :]


def texts_of(steps: Generation) -> list[list[int]]:
    columns = zip(*list(steps), strict=True)
    return [[token.id for token in column if token is not None] for column in columns]


def test_cached_generation_of_unequal_prompts_equals_uncached(model: LanguageModel) -> None:
    prompts = [[1], [2, 3, 4, 5, 6], [7, 8], [2, 3, 4, 5, 6]]
    assert texts_of(generate(model, prompts, GREEDY)) == [greedy_without_cache(model, prompt, 9) for prompt in prompts]


def test_text_ends_where_the_context_is_full(gpt2: LanguageModel) -> None:
    prompts = [[1] * 15, [2] * 3, [3] * 8]
    texts = texts_of(generate(gpt2, prompts, Sampling(max_tokens=100, temperature=0)))
    assert [len(text) for text in texts] == [1, 13, 8]
    assert texts == [greedy_without_cache(gpt2, prompt, n) for prompt, n in zip(prompts, (1, 13, 8), strict=True)]


def test_recurrent_text_goes_on_past_the_context() -> None:
    torch.manual_seed(5)
    lstm = LanguageModel(LSTM, VOCAB).eval()
    (text,) = complete(lstm, [1] * 20, 1, Sampling(max_tokens=30, temperature=0))
    assert text == greedy_without_cache(lstm, [1] * 20, 30)


def test_text_ends_at_a_stop_id(gpt2: LanguageModel) -> None:
    whole = greedy_without_cache(gpt2, [1, 2], 10)
    stop = whole[4]
    sampling = Sampling(max_tokens=10, temperature=0, stop_ids=frozenset({stop}))
    assert complete(gpt2, [1, 2], 1, sampling) == [whole[: whole.index(stop) + 1]]


def test_row_that_is_ended_gets_no_token_and_the_others_go_on(model: LanguageModel) -> None:
    prompts = [[1], [2, 3], [4, 5, 6], [7]]
    steps = generate(model, prompts, GREEDY)
    texts: list[list[int]] = [[] for _ in prompts]
    for step, tokens in enumerate(steps):
        for text, token in zip(texts, tokens, strict=True):
            if token is not None:
                text.append(token.id)
        if step == 2:
            for row in (0, 2, 3):
                steps.end(row)
    assert [len(text) for text in texts] == [3, 9, 3, 3]
    assert texts[1] == greedy_without_cache(model, [2, 3], 9)


def test_log_probabilities_are_the_models_own(model: LanguageModel) -> None:
    sampling = Sampling(max_tokens=5, temperature=2.0, top_k=9, repetition_penalty=1.3, seed=3)
    tokens: list[Token] = [step[0] for step in generate(model, [[1, 2, 3]], sampling, 4) if step[0] is not None]
    ids = [1, 2, 3, *(token.id for token in tokens)]
    expected = model(torch.tensor([ids]))[0, 2:-1].log_softmax(dim=-1)
    for token, row in zip(tokens, expected, strict=True):
        assert token.log_probability == pytest.approx(row[token.id].item(), abs=1e-4)
        values, likeliest = row.topk(4)
        assert [number for number, _ in token.alternatives] == likeliest.tolist()
        assert [value for _, value in token.alternatives] == pytest.approx(values.tolist(), abs=1e-4)


def test_draws_do_not_depend_on_the_other_prompts_nor_on_global_state(model: LanguageModel) -> None:
    sampling = Sampling(max_tokens=8, seed=4)
    alone = complete(model, [1, 2, 3], 1, sampling)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    together = texts_of(generate(model, [[1, 2, 3], [9], [8, 7]], sampling))
    assert together[0] == alone[0]
    assert torch.equal(torch.get_rng_state(), state)


def test_seeds_and_numbers_give_other_texts(gpt2: LanguageModel) -> None:
    texts = [text for seed in (1, 2) for text in complete(gpt2, [1, 2], 4, Sampling(max_tokens=10, seed=seed))]
    assert len({tuple(text) for text in texts}) == 8


def test_threads_do_not_disturb_each_other(gpt2: LanguageModel) -> None:
    expected = [complete(gpt2, [1, 2], 2, Sampling(max_tokens=8, seed=seed)) for seed in range(4)]
    found: dict[int, list[list[int]]] = {}

    def work(seed: int) -> None:
        found[seed] = complete(gpt2, [1, 2], 2, Sampling(max_tokens=8, seed=seed))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[seed] for seed in range(4)] == expected


def test_training_mode_is_put_back(model: LanguageModel) -> None:
    model.train()
    complete(model, [1], 1, Sampling(max_tokens=3))
    assert model.training


def test_model_can_be_trained_after_it_has_written(model: LanguageModel) -> None:
    complete(model, [1], 1, Sampling(max_tokens=3))
    model(torch.tensor([[1, 2, 3]])).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_draws_follow_the_probabilities() -> None:
    probabilities = torch.tensor([0.1, 0.6, 0.05, 0.25])
    draws = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    chosen = pick(probabilities.log().expand(1000, 4), draws, Sampling())
    assert chosen.bincount(minlength=4).tolist() == pytest.approx([100, 600, 50, 250], abs=1)


@pytest.mark.parametrize("draw", [0.0, 1 - 2**-53])
def test_extreme_draws_choose_what_the_cuts_have_left(draw: float) -> None:
    logits = torch.tensor([[-torch.inf, 0.3, 0.1, 0.2, -torch.inf]])
    assert int(pick(logits, torch.tensor([draw], dtype=torch.float64), Sampling())) in (1, 3)


CUTS = [
    (Sampling(top_k=7), [generation.TopKLogitsWarper(7)]),
    (Sampling(top_p=0.6), [generation.TopPLogitsWarper(0.6)]),
    (Sampling(min_p=0.1), [generation.MinPLogitsWarper(0.1)]),
    (
        Sampling(top_k=30, top_p=0.8, min_p=0.02),
        [generation.TopKLogitsWarper(30), generation.TopPLogitsWarper(0.8), generation.MinPLogitsWarper(0.02)],
    ),
    (Sampling(top_k=1000, top_p=0.001), [generation.TopKLogitsWarper(1000), generation.TopPLogitsWarper(0.001)]),
]


@pytest.mark.parametrize(("sampling", "warpers"), CUTS)
def test_cuts_are_those_of_transformers(sampling: Sampling, warpers: list[generation.LogitsProcessor]) -> None:
    logits = 3 * torch.randn(64, VOCAB, generator=torch.Generator().manual_seed(2))
    expected = logits
    for warper in warpers:
        expected = warper(torch.zeros(64, 1, dtype=torch.int64), expected)
    assert torch.equal(narrow(logits, sampling), expected)


def test_repetition_penalty_is_that_of_transformers() -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(8, VOCAB, generator=generator)
    ids = torch.randint(0, VOCAB, (8, 12), generator=generator)
    seen = torch.zeros(8, VOCAB, dtype=torch.bool).scatter_(1, ids, True)
    expected = generation.RepetitionPenaltyLogitsProcessor(1.3)(ids, logits)
    assert torch.equal(penalize(logits, seen, 1.3), expected)


def hugging_face_pair(family: str) -> tuple[LanguageModel, transformers.PreTrainedModel]:
    """The same random weights on both sides; weights are copied by name, not read from a folder."""
    torch.manual_seed(3)
    shape = {"vocab_size": VOCAB, "initializer_range": 0.4, "bos_token_id": 0, "eos_token_id": None, "pad_token_id": 0}
    if family == "gpt2":
        config = transformers.GPT2Config(n_layer=2, n_embd=32, n_head=4, n_positions=64, **shape)
        theirs: transformers.PreTrainedModel = transformers.GPT2LMHeadModel(config).eval()
        ours = LanguageModel(ModelConfig("gpt2", layers=2, width=32, heads=4, context=64), VOCAB).eval()
        ours.load_state_dict(gpt2_tensors(theirs.state_dict()), strict=True)
        return ours, theirs
    window = {"sliding_window": 5} if family == "mistral" else {}
    kind = transformers.MistralConfig if window else transformers.LlamaConfig
    config = kind(
        num_hidden_layers=2, hidden_size=32, num_attention_heads=4, num_key_value_heads=2, intermediate_size=96,
        max_position_embeddings=64, rms_norm_eps=1e-5, tie_word_embeddings=True, head_dim=8, **window, **shape,
    )  # fmt: skip
    theirs = transformers.AutoModelForCausalLM.from_config(config).eval()
    ours = LanguageModel(
        ModelConfig(layers=2, width=32, heads=4, kv_heads=2, mlp_width=96, context=64, window=5 if window else None),
        VOCAB,
    ).eval()
    ours.load_state_dict(llama_tensors(theirs.state_dict()), strict=True)
    return ours, theirs


def gpt2_tensors(theirs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    names = {
        "wte": "trunk.embedding", "wpe": "trunk.stack.positions", "h": "trunk.stack.blocks", "ln_f": "trunk.stack.norm",
        "ln_1": "attention_norm", "ln_2": "mlp_norm", "attn": "attention", "c_attn": "qkv", "c_fc": "up", "c_proj": "output",
    }  # fmt: skip
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in theirs.items():
        if name.startswith("transformer."):
            renamed = ".".join(names.get(part, part) for part in name.split(".")[1:])
            tensors[renamed] = tensor.T if ".c_" in name and name.endswith("weight") else tensor
    return tensors


def llama_tensors(theirs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    tensors = {
        "trunk.embedding.weight": theirs["model.embed_tokens.weight"],
        "trunk.stack.norm.weight": theirs["model.norm.weight"],
    }
    for layer in range(2):
        old, new = f"model.layers.{layer}", f"trunk.stack.blocks.{layer}"
        parts = [theirs[f"{old}.self_attn.{name}_proj.weight"] for name in "qkv"]
        tensors[f"{new}.attention.qkv.weight"] = torch.cat(parts)
        tensors[f"{new}.attention.output.weight"] = theirs[f"{old}.self_attn.o_proj.weight"]
        tensors[f"{new}.attention_norm.weight"] = theirs[f"{old}.input_layernorm.weight"]
        tensors[f"{new}.mlp_norm.weight"] = theirs[f"{old}.post_attention_layernorm.weight"]
        gates = [theirs[f"{old}.mlp.{name}_proj.weight"] for name in ("gate", "up")]
        tensors[f"{new}.mlp.gate_up.weight"] = torch.cat(gates)
        tensors[f"{new}.mlp.output.weight"] = theirs[f"{old}.mlp.down_proj.weight"]
    return tensors


@pytest.mark.parametrize("penalty", [1.0, 1.4])
@pytest.mark.parametrize("family", ["gpt2", "llama", "mistral"])
def test_greedy_tokens_are_those_of_transformers_with_left_padding(family: str, penalty: float) -> None:
    ours, theirs = hugging_face_pair(family)
    prompts = [[5, 6, 7, 8, 9, 10, 11], [12], [13, 14, 15]]
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    expected = theirs.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=20,
        do_sample=False,
        repetition_penalty=penalty,
        pad_token_id=0,
    )[:, width:]
    if penalty != 1:  # their penalty falls on the padding too: each prompt alone has none
        expected = torch.cat([
            theirs.generate(
                input_ids=torch.tensor([prompt]), max_new_tokens=20, do_sample=False, repetition_penalty=penalty,
                pad_token_id=0,
            )[:, len(prompt) :]
            for prompt in prompts
        ])  # fmt: skip
    sampling = Sampling(max_tokens=20, temperature=0, repetition_penalty=penalty)
    assert texts_of(generate(ours, prompts, sampling)) == expected.tolist()


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([[1] * 16], "prompt 0 has 16 tokens, but a context of 16 leaves room for 15"),
        ([[1], []], "prompt 1 is empty"),
        ([[61]], "token ids outside of 0 to 60"),
        ([[-1]], "token ids outside of 0 to 60"),
        ([], "no prompts"),
    ],
)
def test_prompt_that_cannot_be_continued_is_refused_at_once(gpt2: LanguageModel, prompts: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(gpt2, prompts, GREEDY)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -1.0), ("temperature", float("nan")), ("temperature", float("inf")), ("top_k", -1), ("top_p", 0.0),
        ("top_p", 1.5), ("top_p", float("nan")), ("min_p", -0.1), ("min_p", 1.1), ("min_p", float("nan")),
        ("repetition_penalty", 0.0), ("repetition_penalty", float("nan")), ("max_tokens", 0),
    ],
)  # fmt: skip
def test_sampling_out_of_bounds_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name} .*expected"):
        Sampling(**{name: value})
