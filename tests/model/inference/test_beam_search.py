"""Encoder-decoder generation against transformers' Marian with the same random weights."""

import pytest
import torch
import transformers

from model.config.model_config import ModelConfig
from model.inference.beam_search import Beams, search
from model.inference.generate import translate
from model.inference.sampling import Sampling
from model.nn.models import Seq2SeqModel

VOCAB, START, END = 41, 0, 3
SHAPE = ModelConfig("seq2seq", layers=2, width=32, heads=4, context=40)
SOURCES = [[5, 6, 7, 8, 9, END], [12, 30, END], [13, 14, 15, 16, END], [20, END]]


ONE_END, MANY_ENDS = frozenset({END}), frozenset({END, 10, 16, 21, 24, 29, 34})  # random models seldom end by one token


def marian(seed: int) -> transformers.MarianMTModel:
    torch.manual_seed(seed)
    config = transformers.MarianConfig(
        vocab_size=VOCAB, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=128, decoder_ffn_dim=128, max_position_embeddings=40,
        activation_function="relu", scale_embedding=True, dropout=0.0, init_std=0.3, pad_token_id=START,
        eos_token_id=END, decoder_start_token_id=START, forced_eos_token_id=None,
    )  # fmt: skip
    model = transformers.MarianMTModel(config).eval()
    model.generation_config = transformers.GenerationConfig(pad_token_id=START, eos_token_id=END, decoder_start_token_id=START)
    return model


def ours_of(theirs: transformers.MarianMTModel) -> Seq2SeqModel:
    names = {
        "embed_positions": "positions", "layers": "blocks", "self_attn_layer_norm": "attention_norm",
        "encoder_attn_layer_norm": "cross_norm", "final_layer_norm": "mlp_norm", "self_attn": "attention",
        "encoder_attn": "cross", "out_proj": "output", "q_proj": "query", "fc1": "mlp.up", "fc2": "mlp.output",
    }  # fmt: skip
    state = theirs.state_dict()
    tensors = {"trunk.embedding.weight": state["model.shared.weight"]}
    for name, tensor in state.items():
        parts = name.split(".")
        if parts[0] != "model" or parts[1] == "shared" or parts[2].startswith("embed"):
            continue
        renamed = "trunk." + ".".join(names.get(part, part) for part in parts[1:])
        if parts[4] == "self_attn" and parts[5] == "q_proj":
            fused = [state[name.replace("q_proj", kind)] for kind in ("q_proj", "k_proj", "v_proj")]
            tensors[renamed.replace("query", "qkv")] = torch.cat(fused)
        elif parts[5] == "k_proj":
            if parts[4] == "encoder_attn":
                fused = [tensor, state[name.replace("k_proj", "v_proj")]]
                tensors[renamed.replace("k_proj", "key_value")] = torch.cat(fused)
        elif parts[5] != "v_proj":
            tensors[renamed] = tensor
    ours = Seq2SeqModel(SHAPE, VOCAB).eval()
    ours.load_state_dict(tensors, strict=True)
    return ours


def theirs_searched(model: transformers.MarianMTModel, beams: Beams) -> list[list[tuple[int, ...]]]:
    width = max(map(len, SOURCES))
    ids = torch.tensor([source + [START] * (width - len(source)) for source in SOURCES])
    mask = torch.tensor([[1] * len(source) + [0] * (width - len(source)) for source in SOURCES])
    done = model.generate(
        input_ids=ids, attention_mask=mask, num_beams=beams.count, num_return_sequences=beams.count,
        max_new_tokens=beams.max_tokens, length_penalty=beams.length_penalty, early_stopping=beams.stops_early,
        do_sample=False, eos_token_id=sorted(beams.stop_ids),
    )  # fmt: skip
    rows = [cut(row, beams.stop_ids) for row in done[:, 1:].tolist()]
    return [rows[first : first + beams.count] for first in range(0, len(rows), beams.count)]


def cut(row: list[int], ends: frozenset[int]) -> tuple[int, ...]:
    """Their rows are padded behind the end."""
    positions = [at for at, token in enumerate(row) if token in ends]
    return tuple(row[: positions[0] + 1]) if positions else tuple(row)


@pytest.mark.parametrize("ends", [ONE_END, MANY_ENDS], ids=["one end", "many ends"])
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("stops_early", [False, True])
@pytest.mark.parametrize("length_penalty", [1.0, 0.0, 2.5, -0.5])
def test_beams_are_those_of_transformers(seed: int, stops_early: bool, length_penalty: float, ends: frozenset[int]) -> None:
    theirs = marian(seed)
    beams = Beams(4, 12, length_penalty, stops_early, ends)
    found = search(ours_of(theirs), SOURCES, START, beams)
    assert [[text.ids for text in texts] for texts in found] == theirs_searched(theirs, beams)


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy_target_is_that_of_transformers(penalty: float) -> None:
    theirs = marian(4)
    width = max(map(len, SOURCES))
    ids = torch.tensor([source + [START] * (width - len(source)) for source in SOURCES])
    mask = torch.tensor([[1] * len(source) + [0] * (width - len(source)) for source in SOURCES])
    expected = theirs.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=15, do_sample=False, num_beams=1, repetition_penalty=penalty
    )[:, 1:].tolist()
    sampling = Sampling(max_tokens=15, temperature=0, repetition_penalty=penalty, stop_ids=ONE_END)
    columns = zip(*list(translate(ours_of(theirs), SOURCES, START, sampling)), strict=True)
    found = [tuple(token.id for token in column if token is not None) for column in columns]
    assert found == [cut(row, ONE_END) for row in expected]


def test_one_beam_is_greedy() -> None:
    ours = ours_of(marian(4))
    greedy = list(translate(ours, SOURCES[:1], START, Sampling(max_tokens=9, temperature=0, stop_ids=ONE_END)))
    ((text,),) = search(ours, SOURCES[:1], START, Beams(1, 9, stop_ids=ONE_END, stops_early=True))
    assert text.ids == tuple(step[0].id for step in greedy if step[0] is not None)


def test_score_is_the_log_probability_of_the_text_over_its_length() -> None:
    ours = ours_of(marian(2))
    (texts,) = search(ours, SOURCES[:1], START, Beams(3, 6, length_penalty=1.5, stop_ids=ONE_END))
    for text in texts:
        given = torch.tensor([[START, *text.ids[:-1]]])
        logits = ours(torch.tensor(SOURCES[:1]), torch.tensor([len(SOURCES[0])]), given)[0].log_softmax(dim=-1)
        nats = logits.gather(1, torch.tensor(text.ids)[:, None]).sum().item()
        assert text.score == pytest.approx(nats / len(text.ids) ** 1.5, abs=1e-4)


@pytest.mark.parametrize(
    ("sources", "message"),
    [([[]], "source 0 is empty"), ([[1] * 41], "source 0 has 41 tokens"), ([[VOCAB]], "outside of 0 to 40")],
)
def test_source_that_cannot_be_read_is_refused(sources: list[list[int]], message: str) -> None:
    model = Seq2SeqModel(SHAPE, VOCAB).eval()
    with pytest.raises(ValueError, match=message):
        search(model, sources, START, Beams())
    with pytest.raises(ValueError, match=message):
        translate(model, sources, START, Sampling())


def test_impossible_beams_are_refused() -> None:
    with pytest.raises(ValueError, match="beams 0: expected 1 or more"):
        Beams(0)
    with pytest.raises(ValueError, match="length_penalty nan"):
        Beams(length_penalty=float("nan"))
    with pytest.raises(ValueError, match="beams 21: expected at most 20, half of the vocabulary"):
        search(Seq2SeqModel(SHAPE, VOCAB).eval(), SOURCES, START, Beams(21))
