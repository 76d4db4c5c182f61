"""Fine-tuning an encoder-decoder on pairs of prompt and response, ours and one that transformers made."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tokenizers
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel

from model.config.heads import IGNORED
from model.config.model_config import ModelConfig
from model.data.batches import ExampleBatches
from model.huggingface.huggingface import load_folder, save_folder
from model.inference.beam_search import Beams
from model.inference.sampling import Sampling
from model.nn.models import Seq2SeqModel
from tasks.artifacts import Examples, PretrainedModel, Tokenizer
from tasks.errors import UserError
from tasks.evaluate.evaluate import EvaluateConfig, evaluate
from tasks.examples.pair_rows import pair_row, source_ids
from tasks.examples.rows import encode_examples, read_examples
from tasks.finetune.base_model import BaseConfig, take_base
from tasks.finetune.config import FinetuneConfig
from tasks.finetune.finetune import finetune
from tasks.inference.generation import search_translation, target_start, translate_text
from tasks.inference.saved_models import load
from tasks.tokenizer.encoding import BOS, EOS, TextIds, encode_documents, load_tokenizer
from tasks.tokenizer.tokenizer import complete, learn_merges, new_tokenizer, tokenizer_settings
from tests.tasks.foreign import marian_tokenizer, write_gpt2, write_marian
from tests.tasks.launch_here import here

pytestmark = pytest.mark.usefixtures("one_thread")

WORDS = ("rain", "stone", "mill", "river", "wheel")
SHAPE = ModelConfig("seq2seq", layers=1, width=32, heads=2, context=16)
SPECIAL = TextIds(0, 1, 2)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> PretrainedModel:
    """An encoder-decoder as pretraining leaves it, but for its weights, which are random."""
    folder = tmp_path_factory.mktemp("ours")
    tokenizer = new_tokenizer()
    learn_merges(tokenizer, iter([f" {word}" for word in WORDS] * 20), 320)
    complete(tokenizer)
    ids = {name: tokenizer.token_to_id(token) for name, token in (("bos_token_id", BOS), ("eos_token_id", EOS))}
    torch.manual_seed(0)
    save_folder(folder / "model", Seq2SeqModel(SHAPE, tokenizer.get_vocab_size()), {**ids, "pad_token_id": 0})
    for target in (folder, folder / "model"):
        tokenizer.save(str(target / "tokenizer.json"))
        (target / "tokenizer_config.json").write_text(json.dumps(tokenizer_settings()))
    return PretrainedModel(str(folder), "ba5e")


@pytest.fixture(scope="module")
def marian(tmp_path_factory: pytest.TempPathFactory) -> PretrainedModel:
    folder = tmp_path_factory.mktemp("marian")
    take_base(BaseConfig(folder=str(write_marian(folder / "theirs"))), folder)
    return PretrainedModel(str(folder), "ba5e")


@pytest.fixture(scope="module")
def swaps(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    """Two words, to be written the other way round; each pair is seen in learning."""
    folder = tmp_path_factory.mktemp("swaps")
    rows = [
        {"prompt": f" {a} {b}", "response": f" {b} {a}", "id": f"{n}", "group": f"{n}"}
        for n, (a, b) in enumerate((a, b) for a in WORDS for b in WORDS)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "train.parquet")
    pq.write_table(pa.Table.from_pylist(rows[:12]), folder / "heldout.parquet")
    (folder / "labels.json").write_text("[]")
    return Examples(str(folder), "e4a3")


def tuned(base: PretrainedModel, examples: Examples, out: Path, **changes: object) -> PretrainedModel:
    out.mkdir()
    given_config = {
        "name": "swap",
        "examples": "swap",
        "steps": 250,
        "optimizer": {"learning_rate": 5e-3},
        "batch_rows": 16,
        **changes,
    }
    outcome = finetune(FinetuneConfig.model_validate(given_config), base, Tokenizer(base.folder, "facade"), (examples,), out, here)
    return PretrainedModel(str(out), "f17e", figures=outcome.figures, notes=outcome.notes)


def scores_of(model: PretrainedModel, examples: Examples, out: Path) -> dict[tuple[str, str], float]:
    config = EvaluateConfig(resamples=100, response_tokens=8, max_responses=12)
    evaluate(config, model, None, examples, out)
    return {(row["model"], row["metric"]): row["value"] for row in pq.read_table(out / "scores.parquet").to_pylist()}


def foreign_answer(folder: Path, prompt: str) -> str:
    """As transformers has it, from nothing but the folder."""
    opened = transformers.AutoTokenizer.from_pretrained(folder)
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    assert isinstance(theirs, transformers.MarianMTModel)
    ids = opened(prompt, return_tensors="pt")["input_ids"]
    assert ids[0].tolist() == source_ids(load_tokenizer(folder), prompt)
    written = theirs.generate(input_ids=ids, max_new_tokens=8, do_sample=False, num_beams=1)
    return opened.decode(written[0], skip_special_tokens=True)


@pytest.fixture(scope="module")
def learned(ours: PretrainedModel, swaps: Examples, tmp_path_factory: pytest.TempPathFactory) -> PretrainedModel:
    return tuned(ours, swaps, tmp_path_factory.mktemp("learned") / "model")


def test_encoder_decoder_learns_to_answer(learned: PretrainedModel, swaps: Examples, tmp_path: Path) -> None:
    assert "tokens_added" not in learned.notes
    assert learned.figures["examples_cut"] == 0
    scores = scores_of(learned, swaps, tmp_path)
    assert scores["model", "exact_match"] > 0.9 > scores["majority", "exact_match"]
    assert scores["model", "bits_per_byte"] < 0.1 < scores["unigram", "bits_per_byte"]


def test_transformers_and_beams_write_what_it_answers(learned: PretrainedModel) -> None:
    folder = learned.path / "model"
    loaded, tokenizer = load(folder)
    assert isinstance(loaded, Seq2SeqModel)
    start = target_start(folder, tokenizer)
    for prompt in (" rain stone", " wheel mill", " mill"):
        (answer,) = translate_text(loaded, tokenizer, prompt, start, 1, Sampling(8, temperature=0))
        assert foreign_answer(folder, prompt) == answer
    assert search_translation(loaded, tokenizer, " rain mill", start, Beams(4, 8))[0][0] == " mill rain"


def test_samples_of_an_encoder_decoder_answer_the_prompts(learned: PretrainedModel, swaps: Examples, tmp_path: Path) -> None:
    config = EvaluateConfig(tasks=["samples"], prompts=[" rain mill"], temperature=0, sample_tokens=8)
    evaluate(config, learned, None, swaps, tmp_path)
    (sample,) = json.loads((tmp_path / "samples.json").read_text())
    assert sample["text"] == " mill rain"


@pytest.mark.parametrize("lora", [None, {"rank": 8, "alpha": 16, "targets": ["trunk.*"]}], ids=["whole", "adapters"])
def test_base_in_marians_shape_learns_and_keeps_its_own_start_and_end(
    marian: PretrainedModel, swaps: Examples, lora: dict[str, object] | None, tmp_path: Path
) -> None:
    model = tuned(marian, swaps, tmp_path / "model", lora=lora, steps=250 if lora is None else 400)
    scores = scores_of(model, swaps, tmp_path)
    assert scores["model", "bits_per_byte"] < scores["unigram", "bits_per_byte"] / 2
    tokenizer = load_tokenizer(model.path / "model")
    told = json.loads((model.path / "model" / "config.json").read_text())
    pad, end = tokenizer.token_to_id("<pad>"), tokenizer.token_to_id("</s>")
    assert (told["decoder_start_token_id"], told["eos_token_id"], told["pad_token_id"]) == (pad, end, pad)
    loaded = load_folder(model.path / "model")
    assert isinstance(loaded, Seq2SeqModel)
    for prompt in ("rain stone", "wheel mill"):
        (answer,) = translate_text(loaded, tokenizer, prompt, pad, 1, Sampling(8, temperature=0))
        assert foreign_answer(model.path / "model", prompt) == answer
    if lora is not None:
        settings_of_adapter = json.loads((model.path / "adapter" / "adapter_config.json").read_text())
        assert settings_of_adapter["task_type"] == "SEQ_2_SEQ_LM"
        adapted = PeftModel.from_pretrained(
            transformers.AutoModelForSeq2SeqLM.from_pretrained(marian.path / "model"), str(model.path / "adapter")
        ).eval()
        ids, begun = torch.tensor([[2, 3, 4, end]]), torch.tensor([[pad, 4, 3]])
        with torch.no_grad():
            expected = adapted(input_ids=ids, decoder_input_ids=begun).logits
            assert torch.allclose(loaded(ids, torch.tensor([4]), begun), expected, atol=1e-4)
        changed = loaded.trunk.embedding.weight - load_folder(marian.path / "model").trunk.embedding.weight
        assert not changed.any()


def test_frozen_parts_of_an_encoder_decoder_stay(ours: PretrainedModel, swaps: Examples, tmp_path: Path) -> None:
    model = tuned(ours, swaps, tmp_path / "model", steps=2, freeze=["trunk.*", "!trunk.decoder.*"])
    before, after = (load_folder(folder.path / "model").state_dict() for folder in (ours, model))
    changed = {name.split(".")[1] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"decoder"}


def test_prompt_is_the_source_and_the_response_alone_is_scored(ours: PretrainedModel, swaps: Examples) -> None:
    tokenizer = load_tokenizer(ours.path)
    bos, eos = tokenizer.token_to_id(BOS), tokenizer.token_to_id(EOS)
    encoded = encode_examples(read_examples(swaps.path, "train"), tokenizer, SHAPE, bos)
    source, response = encode_documents(tokenizer, [" rain stone", " stone rain"])
    assert encoded.cut == 0
    assert encode_examples(read_examples(swaps.path, "train"), tokenizer, replace(SHAPE, context=3), bos).cut == 25
    row = encoded.table.slice(1, 1).to_pylist()[0]
    assert row == {
        "ids": [bos, *source, eos],
        "decoder_ids": [bos, *response],
        "targets": [*response, eos],
    }
    batch = ExampleBatches(encoded.table, "next_token", 2, 0, context=16, pad_id=7).batch(0, 0, 2)
    assert batch.decoder_ids is not None
    assert batch.decoder_ids.shape == batch.targets.shape
    assert batch.ids.shape == (2, 8)
    assert batch.decoder_ids[:, 0].tolist() == [bos, bos]
    is_scored = batch.targets != IGNORED
    assert batch.targets[:, :-1][is_scored[:, 1:]].tolist() == batch.decoder_ids[:, 1:][is_scored[:, 1:]].tolist()
    assert batch.decoder_ids[~is_scored].unique().tolist() == [7]


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(3, 20))
def test_pair_fits_the_context_and_says_when_it_was_cut(source: int, response: int, context: int) -> None:
    read, wanted = [0, *range(100, 100 + source), 1], list(range(200, 200 + response))
    row = pair_row(read, wanted, SPECIAL, context)
    assert len(row.ids) <= context
    assert len(row.decoder_ids) == len(row.targets) <= context
    assert row.ids[-1] == SPECIAL.eos
    assert row.ids[:-1] == read[: len(row.ids) - 1]
    assert row.decoder_ids == [SPECIAL.bos, *row.targets[:-1]]
    assert [*wanted, SPECIAL.eos][: len(row.targets)] == row.targets
    assert row.is_cut == (len(read) > context or response + 1 > context)


def test_source_without_an_end_in_the_template_gets_one() -> None:
    bare = marian_tokenizer()
    bare.post_processor = tokenizers.processors.TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    assert source_ids(bare, "rain") == source_ids(marian_tokenizer(), "rain")


def test_pairs_of_unlike_length_are_refused() -> None:
    lists = pa.list_(pa.int32())
    table = pa.table(
        {
            "ids": pa.array([[1, 2]], lists),
            "decoder_ids": pa.array([[1, 2]], lists),
            "targets": pa.array([[3]], lists),
        }
    )
    with pytest.raises(ValueError, match="example 0: 2 decoder_ids, but 1 targets"):
        ExampleBatches(table, "next_token", 1, 0, context=8, pad_id=0)


def test_decoder_whose_tokenizer_has_no_start_is_still_refused(tmp_path: Path) -> None:
    folder = write_gpt2(tmp_path / "theirs")
    marian_tokenizer().save(str(folder / "tokenizer.json"))
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=r"base\.folder: .*bos_token is '<\|endoftext\|>', expected a token of tokenizer\.json"):
        take_base(BaseConfig(folder=str(folder)), tmp_path / "out")
