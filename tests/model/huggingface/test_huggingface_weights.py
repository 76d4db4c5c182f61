"""Broken, pickled and foreign weights: each is refused by name, or read."""

import json
import os
import pickle
import re
import tempfile
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.config.heads import HeadSpec
from model.config.model_config import ModelConfig
from model.config.rope_scaling import RopeScaling
from model.huggingface.huggingface import load_folder, load_trunk, save_folder
from model.huggingface.huggingface_config import read_folder
from model.nn.models import LanguageModel, MaskedLanguageModel, Model, MultiTask, Seq2SeqModel, SequenceClassifier

VOCAB = 61
LLAMA = ModelConfig(layers=2, width=32, heads=4, context=16)
QUERY = "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_folder(tmp_path, LanguageModel(LLAMA, VOCAB), {})
    return tmp_path


def change(folder: Path, changes: dict[str, Tensor], removed: str = "") -> None:
    """Other tensors in the folder's file; `removed` goes."""
    tensors = {**load_file(folder / "model.safetensors"), **changes}
    tensors.pop(removed, None)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def pickle_weights(folder: Path, is_sharded: bool) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    if not is_sharded:
        torch.save(tensors, folder / "pytorch_model.bin")
        return
    names = list(tensors)
    files = {name: f"pytorch_model-0000{1 + (number % 2)}-of-00002.bin" for number, name in enumerate(names)}
    for file in set(files.values()):
        torch.save({name: tensors[name] for name in names if files[name] == file}, folder / file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": files}))


def assert_equal_models(ours: Model, expected: dict[str, Tensor]) -> None:
    assert all(torch.equal(tensor, expected[name]) for name, tensor in ours.state_dict().items())


@pytest.mark.parametrize("is_sharded", [False, True])
def test_pickled_weights_are_read_only_where_the_flag_allows_them(is_sharded: bool, folder: Path):
    expected = load_folder(folder).state_dict()
    pickle_weights(folder, is_sharded)
    with pytest.raises(ValueError, match=r"\.bin: pickled weights are not read.*wordmill export --allow-pickle does"):
        load_folder(folder)
    with pytest.raises(ValueError, match="pickled weights are not read"):
        load_trunk(folder)
    assert_equal_models(load_folder(folder, allow_pickle=True), expected)


class Trap:
    """What a pickle can do to its reader."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("is_torch_file", [False, True])
def test_pickle_that_would_run_code_is_refused_even_under_the_flag(is_torch_file: bool, folder: Path):
    trace, weights = folder / "trace", folder / "pytorch_model.bin"
    (folder / "model.safetensors").unlink()
    if is_torch_file:
        torch.save({"weight": Trap(trace)}, weights)
    else:
        weights.write_bytes(pickle.dumps(Trap(trace)))
    with pytest.raises(ValueError, match=r"pytorch_model\.bin: not a whole file of tensors"):
        load_folder(folder, allow_pickle=True)
    assert not trace.exists()


@pytest.mark.parametrize("content", [b"", b"not weights", b"\x80\x04."])
def test_broken_pickle_is_refused_by_name(content: bytes, folder: Path):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(ValueError, match=r"pytorch_model\.bin: not a whole file of tensors"):
        load_folder(folder, allow_pickle=True)


def test_pickle_of_something_else_is_refused_by_name(folder: Path):
    (folder / "model.safetensors").unlink()
    torch.save({"state": {"weight": torch.zeros(1)}}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin: expected tensors by name, found something else"):
        load_folder(folder, allow_pickle=True)


def test_unknown_pickles_alone_are_refused_by_name(folder: Path):
    (folder / "model.safetensors").rename(folder / "optimizer.pt")
    with pytest.raises(ValueError, match=r"optimizer\.pt, but no pytorch_model\.bin"):
        load_folder(folder, allow_pickle=True)


def test_nan_and_infinite_weights_are_counted_by_tensor(folder: Path):
    weight = load_file(folder / "model.safetensors")[QUERY]
    weight[0, :3] = torch.nan
    weight[1, 1] = -torch.inf
    change(folder, {QUERY: weight, "model.norm.weight": torch.full((32,), torch.inf)})
    with pytest.raises(ValueError, match="the weights do not fit") as error:
        load_folder(folder)
    assert f"{QUERY} has 4 of 1024 values NaN or infinite" in str(error.value)
    assert "model.norm.weight has 32 of 32 values NaN or infinite" in str(error.value)


def test_weights_that_are_no_real_numbers_are_refused(folder: Path):
    change(folder, {QUERY: torch.zeros(32, 32, dtype=torch.int8)})
    with pytest.raises(ValueError, match=re.escape(f"{QUERY} has torch.int8, expected float32, float16 or bfloat16")):
        load_folder(folder)


def test_copy_of_a_tied_head_is_read_and_another_head_is_refused(folder: Path):
    embedding = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    change(folder, {"lm_head.weight": embedding.clone()})
    load_folder(folder)
    change(folder, {}, removed="model.embed_tokens.weight")
    assert torch.equal(load_folder(folder).trunk.embedding.weight, embedding)
    change(folder, {"model.embed_tokens.weight": embedding + 1})
    with pytest.raises(ValueError, match=r"lm_head\.weight differs from model\.embed_tokens\.weight, though config"):
        load_folder(folder)


def test_bad_tensors_of_a_trunk_are_all_named_and_its_head_is_left(folder: Path):
    change(folder, {"model.surprise": torch.zeros(5), "score.weight": torch.zeros(3, 32)}, removed=QUERY)
    with pytest.raises(ValueError, match=f"missing {re.escape(QUERY)}; unknown model.surprise. Fix: "):
        load_trunk(folder)


def test_missing_part_of_sharded_weights_is_named(folder: Path):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}')
    with pytest.raises(ValueError, match=r"model-00001-of-00002\.safetensors: no such file, expected a part of the weights"):
        load_folder(folder)


@pytest.mark.parametrize("content", ["", "[]", '{"weight_map": 3}', "{}"])
def test_broken_index_is_refused_by_name(content: str, folder: Path):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ValueError, match=r"index\.json: not a weight index"):
        load_folder(folder)


def test_index_that_leads_out_of_the_folder_is_refused(folder: Path):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../model.safetensors"}}')
    with pytest.raises(ValueError, match=r"names \.\./model\.safetensors, which is not a file of its folder"):
        load_folder(folder)


def test_tensor_in_two_parts_is_refused(folder: Path):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    save_file(tensors, folder / "one.safetensors")
    save_file({QUERY: tensors[QUERY] + 1}, folder / "two.safetensors")
    index = {"weight_map": {**dict.fromkeys(tensors, "one.safetensors"), QUERY: "two.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=rf"two\.safetensors: holds {re.escape(QUERY)}, which another part holds too"):
        load_folder(folder)


@pytest.mark.parametrize("size", [0, 5, 200, -1])
def test_safetensors_file_that_is_cut_off_is_refused(size: int, folder: Path):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}: not a whole safetensors file \(.*\)\. Fix: copy it again"):
        load_folder(folder)


@pytest.mark.parametrize("kind", ["float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "int8", "uint8", "int32"])
def test_quantized_weights_are_refused_by_their_type(kind: str, folder: Path):
    change(folder, {QUERY: torch.ones(32, 32).to(getattr(torch, kind))})
    with pytest.raises(ValueError, match=re.escape(f"{QUERY} has torch.{kind}, expected float32, float16 or bfloat16") + ".* Fix: "):
        load_folder(folder)


@pytest.mark.parametrize("kind", ["F4", "F6_E2M3", "X9"])
def test_type_of_numbers_that_torch_does_not_have_is_refused(kind: str, folder: Path):
    path = folder / "model.safetensors"
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header[QUERY]["dtype"] = kind
    changed = json.dumps(header).encode()
    path.write_bytes(len(changed).to_bytes(8, "little") + changed + content[8 + size :])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_folder(folder)


@pytest.mark.parametrize("key", ["final_logit_softcapping", "attention_multiplier", "use_parallel_residual", "attn_temperature_tuning"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "bert", "modernbert", "seq2seq"])
def test_key_that_may_mean_another_computation_is_refused_by_name(family: str, key: str, tmp_path: Path):
    shape = ModelConfig(family, layers=1, width=32, heads=4, context=16)
    kind = Seq2SeqModel if family == "seq2seq" else LanguageModel if family in ("llama", "gpt2") else MaskedLanguageModel
    save_folder(tmp_path, kind(shape, VOCAB), {})
    path = tmp_path / "config.json"
    told = json.loads(path.read_text())
    for unused in (None, False, [], {}):
        path.write_text(json.dumps({**told, key: unused}))
        load_folder(tmp_path)
    path.write_text(json.dumps({**told, key: 30.0}))
    for read in (load_folder, load_trunk):
        with pytest.raises(ValueError, match=re.escape(f"{path}: {key} is 30.0, expected it unset") + ".* Fix: "):
            read(tmp_path)


GENERATING = [f"{stem}ForCausalLM" for stem in ("Llama", "Mistral", "Ministral", "Qwen2", "Qwen3")]


@pytest.mark.parametrize("name", ["GPT2LMHeadModel", *GENERATING, "BertForMaskedLM", "ModernBertForMaskedLM", "MarianMTModel"])
def test_every_default_that_transformers_writes_is_known(name: str, tmp_path: Path):
    told = getattr(transformers, name).config_class(architectures=[name]).to_dict()
    if name == "MarianMTModel":
        told |= {"scale_embedding": True}
    (tmp_path / "config.json").write_text(json.dumps(told, default=str))
    assert read_folder(tmp_path).vocab_size > 1_000


def test_folder_without_weights_is_refused(folder: Path):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"no model\.safetensors"):
        load_folder(folder)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 40) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)
EXAMPLES: list[Model] = [
    LanguageModel(ModelConfig(layers=1, width=32, heads=4, context=16, rope_scaling=RopeScaling("llama3", 8.0, 1.0, 4.0, 8)), VOCAB),
    LanguageModel(LLAMA, VOCAB),
    LanguageModel(ModelConfig(layers=2, width=32, heads=4, context=16, qk_norm=True, window=4), VOCAB),
    LanguageModel(ModelConfig("gpt2", layers=1, width=32, heads=4, context=16), VOCAB),
    LanguageModel(ModelConfig("gru", layers=1, width=32, context=16), VOCAB),
    MaskedLanguageModel(ModelConfig("modernbert", layers=1, width=32, heads=4, context=16), VOCAB),
    SequenceClassifier(ModelConfig("bert", layers=1, width=32, heads=4, context=16), VOCAB, 2),
    Seq2SeqModel(ModelConfig("seq2seq", layers=1, width=32, heads=4, context=16), VOCAB),
    MultiTask(ModelConfig(layers=1, width=32, heads=4, context=16), VOCAB, {"say": HeadSpec("language")}),
]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.sampled_from(EXAMPLES), st.data())
def test_any_config_is_read_or_refused_with_its_path(model: Model, data: st.DataObject):
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "config.json"
        save_folder(path.parent, model, {})
        values = json.loads(path.read_text())
        key = data.draw(st.sampled_from(sorted(values)))
        inside = values[key] if isinstance(values[key], dict) and values[key] and data.draw(st.booleans()) else values
        inside[data.draw(st.sampled_from(sorted(inside)))] = data.draw(JSON_VALUES)
        path.write_text(json.dumps(values))
        message = name
        try:
            load_folder(path.parent)
        except ValueError as error:
            message = str(error)
        assert message.startswith(name)


@pytest.fixture
def marian(tmp_path: Path) -> Path:
    save_folder(tmp_path, Seq2SeqModel(ModelConfig("seq2seq", layers=1, width=32, heads=4, context=16), VOCAB), {})
    return tmp_path


def test_static_tensors_of_marian_are_accepted_where_they_say_nothing(marian: Path):
    angles = torch.outer(torch.arange(16.0), 10000.0 ** -(torch.arange(0, 32, 2) / 32))
    table = torch.cat((angles.sin(), angles.cos()), dim=1)
    change(marian, {"final_logits_bias": torch.zeros(1, VOCAB), "model.encoder.embed_positions.weight": table})
    load_folder(marian)
    change(marian, {"final_logits_bias": torch.ones(1, VOCAB), "model.encoder.embed_positions.weight": table + 1})
    with pytest.raises(ValueError, match="final_logits_bias is not zero") as error:
        load_folder(marian)
    assert "model.encoder.embed_positions.weight holds no sinusoidal positions" in str(error.value)


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        (LanguageModel(LLAMA, VOCAB), {"mlp_bias": True}, "mlp_bias is True"),
        (
            LanguageModel(ModelConfig(layers=3, width=32, heads=4, context=16, bias="qkv", window=4), VOCAB),
            {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
            "of the 3 layers, counted from 0, those that see all are 1; this code computes only every n-th",
        ),
        (
            LanguageModel(ModelConfig(layers=3, width=32, heads=4, context=16, bias="qkv", window=4), VOCAB),
            {"layer_types": ["sliding_attention", "linear_attention", "sliding_attention"]},
            "expected 3 of full_attention, sliding_attention: one a layer",
        ),
        (
            LanguageModel(ModelConfig(layers=3, width=32, heads=4, context=16, bias="qkv", window=4), VOCAB),
            {"use_sliding_window": False},
            "use_sliding_window is False",
        ),
        (
            MaskedLanguageModel(ModelConfig("bert", layers=1, width=32, heads=4, context=16), VOCAB),
            {"position_embedding_type": "relative_key"},
            "position_embedding_type is 'relative_key'",
        ),
        (
            MaskedLanguageModel(ModelConfig("modernbert", layers=1, width=32, heads=4, context=16), VOCAB),
            {"classifier_activation": "silu"},
            "classifier_activation is 'silu', this code computes only 'gelu'",
        ),
        (
            MaskedLanguageModel(ModelConfig("modernbert", layers=1, width=32, heads=4, context=16), VOCAB),
            {"rope_parameters": {"full_attention": {"rope_type": "linear", "rope_theta": 1.0, "factor": 2.0}}},
            "rope_parameters: full_attention has linear by 2.0, sliding_attention none, expected the same of both. Fix: ",
        ),
        (
            MaskedLanguageModel(ModelConfig("modernbert", layers=1, width=32, heads=4, context=16), VOCAB),
            {"rope_parameters": {"sliding_attention": {"rope_type": "yarn"}}},
            "rope_parameters: sliding_attention: rope_type is 'yarn', this code computes only default, linear, llama3",
        ),
        (
            SequenceClassifier(ModelConfig("modernbert", layers=1, width=32, heads=4, context=16), VOCAB, 2),
            {"classifier_pooling": "max"},
            "classifier_pooling is 'max', this code computes only 'cls' or 'mean'",
        ),
        (
            Seq2SeqModel(ModelConfig("seq2seq", layers=1, width=32, heads=4, context=16), VOCAB),
            {"scale_embedding": False},
            "scale_embedding is not true",
        ),
        (
            Seq2SeqModel(ModelConfig("seq2seq", layers=1, width=32, heads=4, context=16, positions="learned"), VOCAB),
            {"wordmill": {"family": "seq2seq", "layres": 1}},
            "wordmill: model config: unknown keys layres",
        ),
    ],
)
def test_setting_of_another_family_that_is_not_computed_is_refused(model: Model, changes: dict[str, object], message: str, tmp_path: Path):
    save_folder(tmp_path, model, {})
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | changes))
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'config.json'}: ") + ".*" + re.escape(message)):
        load_folder(tmp_path)
