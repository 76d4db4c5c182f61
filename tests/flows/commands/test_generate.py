"""`wordmill generate`, for models of every kind, in this process."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import transformers
from click.testing import CliRunner

from flows.cli import cli
from model.config.model_config import ModelConfig
from model.huggingface.huggingface import save_folder
from model.nn.models import LanguageModel, Model, Seq2SeqModel, SequenceClassifier, TokenClassifier
from tasks.errors import UserError
from tasks.tokenizer.tokenizer import complete, learn_merges, new_tokenizer, tokenizer_settings
from tests.tasks.foreign import write_bert, write_gpt2

LLAMA = ModelConfig(layers=1, width=16, heads=2, context=24)
SEQ2SEQ = ModelConfig("seq2seq", layers=1, width=16, heads=2, context=24)
SHORT = ("--max-tokens", "8", "--temperature", "0")


@dataclass(frozen=True)
class Said:
    """What a command printed, and why it was refused."""

    out: str
    refusal: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Generate = Callable[..., Said]


@pytest.fixture
def generate(tmp_path: Path) -> Generate:
    def run(folder: Path, prompt: str, *options: str) -> Said:
        done = CliRunner().invoke(cli, ["generate", str(folder), prompt, *options, "--workspace", str(tmp_path / "w")])
        if done.exception is None or isinstance(done.exception, UserError):
            return Said(done.output, "" if done.exception is None else str(done.exception))
        raise done.exception

    return run


def write(folder: Path, make: Callable[[int], Model], labels: Sequence[str] = (), kind: str = "classification") -> Path:
    tokenizer = new_tokenizer()
    learn_merges(tokenizer, iter(["rain falls on stone, stone by stone"] * 3), 280)
    complete(tokenizer)
    torch.manual_seed(3)
    save_folder(folder, make(tokenizer.get_vocab_size()), {"id2label": dict(enumerate(labels))} if labels else {})
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_settings()))
    if labels:
        (folder / "task.json").write_text(json.dumps({"name": "t", "kind": kind, "labels": list(labels)}))
    return folder


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return write(tmp_path / "llama", lambda size: LanguageModel(LLAMA, size))


@pytest.fixture
def seq2seq(tmp_path: Path) -> Path:
    return write(tmp_path / "seq2seq", lambda size: Seq2SeqModel(SEQ2SEQ, size))


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    return write(tmp_path / "classes", lambda size: SequenceClassifier(LLAMA, size, 2), ("dry", "wet"))


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return write_bert(tmp_path / "bert")


def test_streamed_text_is_the_whole_text(generate: Generate, llama: Path) -> None:
    options = ("--max-tokens", "30", "--seed", "4")
    whole, streamed = generate(llama, "rain", *options), generate(llama, "rain", *options, "--stream")
    assert whole.out == streamed.out
    assert whole.out.startswith("rain")


def test_greedy_text_of_a_gpt2_folder_is_that_of_transformers(generate: Generate, tmp_path: Path) -> None:
    folder = write_gpt2(tmp_path / "gpt2")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = [tokenizer.bos_token_id, *tokenizer("a pear is")["input_ids"]]
    written = transformers.AutoModelForCausalLM.from_pretrained(folder).generate(
        input_ids=torch.tensor([ids]), max_new_tokens=8, do_sample=False, pad_token_id=0
    )
    expected = tokenizer.decode(written[0, 1:], skip_special_tokens=True)
    assert generate(folder, "a pear is", *SHORT).out == expected.rstrip("\ufffd") + "\n"


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
def test_text_ends_where_the_folder_says(generate: Generate, tmp_path: Path, name: str) -> None:
    folder = write_gpt2(tmp_path / "gpt2")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    settings = json.loads((folder / name).read_text())
    assert generate(folder, "a pear is", *SHORT).out != "a pear is\n"
    (folder / name).write_text(json.dumps(settings | {"eos_token_id": list(range(tokenizer.vocab_size))}))
    assert generate(folder, "a pear is", *SHORT).out == "a pear is\n"


def test_text_ends_before_a_stop_string(generate: Generate, llama: Path) -> None:
    whole = generate(llama, "rain", "--max-tokens", "20", "--seed", "4").out.removesuffix("\n")
    stop = whole[len("rain") + 3]
    cut = generate(llama, "rain", "--max-tokens", "20", "--seed", "4", "--stop", stop, "--stop", "never there").out
    assert cut.removesuffix("\n") == "rain" + whole[len("rain") :].split(stop)[0]


def test_log_probabilities_stand_behind_the_text(generate: Generate, llama: Path) -> None:
    said = generate(llama, "rain", *SHORT, "--log-probs", "--no-stream")
    shown = [line for line in said.lines if "likeliest:" in line]
    assert 1 <= len(shown) <= 8
    for line in shown:
        nats, _, others = line.partition("likeliest:")
        assert float(nats.split()[0]) == pytest.approx(float(others.split(", ")[0].split()[-1]), abs=0.006)  # greedy


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_encoder_decoder_answers_the_prompt(generate: Generate, seq2seq: Path, dtype: str) -> None:
    said = generate(seq2seq, "rain falls", *SHORT, "--dtype", dtype)
    assert said.refusal == ""
    assert not said.out.startswith("rain falls")


def test_beams_give_as_many_targets_as_asked_best_first(generate: Generate, seq2seq: Path) -> None:
    said = generate(seq2seq, "rain", "--beams", "4", "--count", "3", "--max-tokens", "5")
    scores = [float(line.split("--- ")[-1].split()[0]) for line in said.lines if line.startswith("--- ")]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)


def test_masked_token_of_a_bert_folder_is_filled_as_by_transformers(generate: Generate, bert: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(bert)
    model = transformers.AutoModelForMaskedLM.from_pretrained(bert).eval()
    inputs = tokenizer("a [MASK] is here", return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits[0, inputs["input_ids"][0].tolist().index(tokenizer.mask_token_id)]
    logits[tokenizer.mask_token_id] = -torch.inf
    shares, ids = logits.softmax(dim=-1).topk(3)
    said = generate(bert, "a [MASK] is here", "--count", "3")
    assert [float(line.split("%")[0]) for line in said.lines] == pytest.approx((100 * shares).tolist(), abs=0.01)
    assert len(ids) == len(said.lines) == 3
    assert generate(bert, "a [MASK] is here").out.strip() == said.lines[0].split("%")[1].strip()


def test_several_masks_are_filled_together(generate: Generate, bert: Path) -> None:
    said = generate(bert, "a [MASK] is [MASK]", "--count", "4")
    shares = [float(line.split("%")[0]) for line in said.lines]
    assert shares == sorted(shares, reverse=True)
    assert len(set(said.lines)) == 4
    assert "[MASK]" not in said.out


def test_classifier_prints_its_labels_with_probabilities(generate: Generate, classifier: Path) -> None:
    said = generate(classifier, "rain falls")
    assert {line.split()[-1] for line in said.lines} == {"dry", "wet"}
    shares = [float(line.split("%")[0]) for line in said.lines]
    assert sum(shares) == pytest.approx(100, abs=0.02)
    assert shares == sorted(shares, reverse=True)


def test_labels_that_hold_together_have_probabilities_of_their_own(generate: Generate, tmp_path: Path) -> None:
    names = ("dry", "wet", "cold")
    folder = write(tmp_path / "multi", lambda size: SequenceClassifier(LLAMA, size, 3, "multi"), names)
    shares = [float(line.split("%")[0]) for line in generate(folder, "rain falls").lines]
    assert all(share == pytest.approx(50, abs=20) for share in shares)  # untrained: each near a half


def test_token_classifier_labels_each_word(generate: Generate, tmp_path: Path) -> None:
    folder = write(tmp_path / "tokens", lambda size: TokenClassifier(LLAMA, size, 2), ("in", "out"), "token_labels")
    said = generate(folder, "rain falls on")
    assert [line.split()[-1] for line in said.lines] == ["rain", "falls", "on"]


def test_foreign_classifier_is_labelled_by_its_config(generate: Generate, tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "bert", transformers.BertForSequenceClassification)
    assert sorted(line.split()[-1] for line in generate(folder, "a pear").lines) == ["LABEL_0", "LABEL_1"]


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("llama", ("--beams", "3"), "--beams: a LanguageModel has no use for it. Fix: leave it out."),
        ("llama", ("--temperature", "-1"), "temperature -1.0: expected 0"),
        ("llama", ("--temperature", "nan"), "temperature nan"),
        ("llama", ("--min-p", "1.5"), "min_p 1.5: expected a number at least 0 and at most 1"),
        ("llama", ("--top-p", "0"), "top_p 0.0: expected a number above 0"),
        ("llama", ("--repetition-penalty", "0"), "repetition_penalty 0.0: expected a number above 0"),
        ("llama", ("--max-tokens", "0"), "max_tokens 0: expected 1 or more"),
        ("llama", ("--count", "0"), "count 0: expected 1 or more"),
        ("llama", ("--stop", ""), "stop '': an empty string stands everywhere"),
        ("llama", ("--count", "2", "--stream"), "--stream: shows one text"),
        ("seq2seq", ("--beams", "3", "--temperature", "1"), "--temperature: a Seq2SeqModel has no use for it beside --beams"),
        ("seq2seq", ("--beams", "2", "--count", "3"), "count 3: 2 beams find no more than 2 texts"),
        ("seq2seq", ("--beams", "0"), "beams 0: expected 1 or more"),
        ("bert", ("--top-k", "3"), "--top-k: a MaskedLanguageModel has no use for it"),
        ("bert", (), "PROMPT has no [MASK]"),
        ("classifier", ("--count", "3"), "--count: a SequenceClassifier has no use for it"),
    ],
)
def test_what_does_not_suit_the_model_is_refused_by_name(
    generate: Generate, request: pytest.FixtureRequest, kind: str, options: tuple[str, ...], message: str
) -> None:
    said = generate(request.getfixturevalue(kind), "rain", *options)
    assert message in said.refusal
    assert said.out == ""


def test_masked_prompt_longer_than_the_context_is_refused(generate: Generate, bert: Path) -> None:
    said = generate(bert, "[MASK] " + "pear " * 40)
    assert "PROMPT has 43 tokens with those around it, but the model's context is 32" in said.refusal
