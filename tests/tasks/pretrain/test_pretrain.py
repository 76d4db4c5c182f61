import dataclasses
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from model.config.layout_config import LayoutConfig
from model.config.model_config import ModelConfig
from model.config.objective_config import ObjectiveConfig
from model.config.rope_scaling import RopeScaling
from model.config.training_config import BatchPhase, ContextPhase, MixturePhase, OptimizerConfig, StepBatches
from model.data.shard_format import SEGMENT_FIELDS
from model.data.shard_reader import TokenRows
from model.data.shard_writer import write_token_shard
from model.nn.models import LanguageModel
from model.training.curve import read_curve
from tasks.artifacts import Tokenizer, TokenShards
from tasks.cluster import Training
from tasks.errors import UserError
from tasks.inference.objective_file import read_objective
from tasks.inference.saved_models import load
from tasks.ledger import StageOutcome
from tasks.pretrain.config import PretrainConfig, Pretraining, training_config
from tasks.pretrain.job import read_job
from tasks.pretrain.pretrain import pretrain_model, pretraining_digests
from tasks.pretrain.training_rows import open_stream
from tasks.settings import identity
from tasks.tokenizer.encoding import SPECIAL_TOKENS, decode_text, load_tokenizer
from tests.tasks.pretrain.small_training import BOS, CONTEXT, EOS, PAD, VOCAB, call_here, write_manifest, write_shards, write_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pretrain")


@pytest.fixture(scope="module")
def shards(folder: Path) -> TokenShards:
    return write_shards(folder / "shards", "b" * 16)


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return write_tokenizer(folder / "tokenizer", "b" * 16, "abcdefgh")


CONFIG = Pretraining(
    ModelConfig(layers=1, width=16, heads=2, context=CONTEXT, rope_scaling=RopeScaling("linear", 2.0)),
    PretrainConfig(
        steps=6,
        batch_tokens=4 * CONTEXT,
        micro_rows=2,
        log_every=2,
        evaluate_every=3,
        evaluate_batches=1,
        checkpoint_every=3,
        optimizer=OptimizerConfig(warmup_steps=1),
        precision="float32",
    ),
)


@pytest.fixture(scope="module")
def trained(folder: Path, shards: TokenShards, tokenizer: Tokenizer) -> tuple[Path, StageOutcome]:
    out = folder / "out"
    out.mkdir()
    return out, pretrain_model(CONFIG, shards, tokenizer, out, call_here)


def test_batch_in_tokens_becomes_rows_of_the_shards_context() -> None:
    assert training_config(PretrainConfig(batch_tokens=1024), 64).batch_rows == 16


def test_larger_batches_are_so_many_of_the_first_and_judged_afresh() -> None:
    training = training_config(PretrainConfig(batch_tokens=256, batch_schedule=(BatchPhase(3, 512),)), 32)
    assert (training.batch_rows, training.step_batches, training.fresh_steps) == (8, (StepBatches(3, 2),), (3,))


def test_schedule_that_changes_nothing_is_the_training_without() -> None:
    same = PretrainConfig(batch_tokens=256, batch_schedule=(BatchPhase(0, 256), BatchPhase(9, 256)))
    assert training_config(same, 32) == training_config(PretrainConfig(batch_tokens=256), 32)
    assert "batch_schedule" not in json.dumps(identity(PretrainConfig()))


def test_mixtures_and_larger_batches_begin_at_optimizer_steps(shards: TokenShards, tokenizer: Tokenizer, tmp_path: Path) -> None:
    larger = {"batch_schedule": (BatchPhase(2, 8 * CONTEXT),), "curriculum": (ContextPhase(0, 8), ContextPhase(4, CONTEXT))}
    config = dataclasses.replace(CONFIG, pretrain=CONFIG.pretrain.model_copy(update=larger))
    outcome = pretrain_model(config, shards, tokenizer, tmp_path, call_here)
    assert outcome.ledger.tokens_out == (2 + 4 * 2) * 4 * CONTEXT
    assert json.loads((tmp_path / "audit.json").read_text())["batches"] == 10
    stream = open_stream(read_job(tmp_path), "train", shards.path)
    assert [stream.context_at(at) for at in range(10)] == [8] * 6 + [CONTEXT] * 4


def test_every_token_of_every_step_is_counted(trained: tuple[Path, StageOutcome]) -> None:
    _, outcome = trained
    assert (outcome.ledger.tokens_out, outcome.figures["tokens"]) == (6 * 4 * CONTEXT, 6 * 4 * CONTEXT)
    assert outcome.figures["steps"] == 6


def test_notes_say_which_precision_auto_chose(trained: tuple[Path, StageOutcome]) -> None:
    assert trained[1].notes["precision"] in ("float32", "bfloat16")


def test_figures_are_those_of_the_last_point_of_the_curve(trained: tuple[Path, StageOutcome]) -> None:
    out, outcome = trained
    points = read_curve(out)
    assert [point.step for point in points] == [2, 3, 4, 6]
    assert outcome.figures["loss"] == points[-1].loss
    assert outcome.figures["validation_loss"] == points[-1].validation_loss


def test_model_is_a_folder_that_loads_with_its_tokenizer(trained: tuple[Path, StageOutcome]) -> None:
    out, outcome = trained
    model, tokenizer = load(out / "model")
    assert isinstance(model, LanguageModel)
    assert sum(weight.numel() for weight in model.parameters()) == outcome.figures["parameters"]
    assert tokenizer.token_to_id(SPECIAL_TOKENS[0]) == 0


def test_two_trainings_of_one_recipe_give_the_same_weights(
    trained: tuple[Path, StageOutcome], shards: TokenShards, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    pretrain_model(CONFIG, shards, tokenizer, tmp_path, call_here)
    first, second = (folder / "model" / "model.safetensors" for folder in (trained[0], tmp_path))
    assert first.read_bytes() == second.read_bytes()


def test_validation_loss_is_told_in_bits_per_byte_too(
    trained: tuple[Path, StageOutcome], shards: TokenShards, tokenizer: Tokenizer
) -> None:
    figures = trained[1].figures
    rows = TokenRows.open([shards.path / "validation" / "all" / "shard-00000.parquet"]).take(np.arange(4))[:, 1:]
    size = sum(len(decode_text(load_tokenizer(tokenizer.path), row.tolist()).encode()) for row in rows)
    bits = figures["validation_loss"] * rows.size / math.log(2)
    assert figures["validation_bits_per_byte"] == pytest.approx(bits / size)


def changed(**changes: object) -> Pretraining:
    """CONFIG with other settings of the training."""
    return Pretraining(CONFIG.model, CONFIG.pretrain.model_copy(update=changes))


def test_what_a_step_read_can_be_told_afterwards(trained: tuple[Path, StageOutcome], shards: TokenShards) -> None:
    stream = open_stream(read_job(trained[0]), "train", shards.path)
    assert (stream.batch_rows, stream.names, stream.rows) == (4, ("en", "zh"), 20)
    groups = [group for step in range(5) for group, _ in stream.locations(step)]
    assert (groups.count("en"), groups.count("zh")) == (12, 8)
    assert json.loads((trained[0] / "audit.json").read_text())


def test_mixture_and_curriculum_are_followed(shards: TokenShards, tokenizer: Tokenizer, tmp_path: Path) -> None:
    config = changed(mixture=(MixturePhase(0, {"en": 1.0, "zh": 3.0}),), curriculum=(ContextPhase(0, 4), ContextPhase(3, 16)))
    outcome = pretrain_model(config, shards, tokenizer, tmp_path, call_here)
    stream = open_stream(read_job(tmp_path), "train", shards.path)
    assert [group for group, _ in stream.locations(2)].count("zh") == 3
    assert [stream.context_at(step) for step in (0, 2, 3, 5)] == [4, 4, 16, 16]
    assert outcome.figures["tokens"] == 6 * 4 * CONTEXT


def test_group_that_the_shards_do_not_have_is_refused_before_a_worker_starts(
    shards: TokenShards, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    config = changed(mixture=(MixturePhase(0, {"english": 1.0}),))
    with pytest.raises(UserError, match="no group 'english'; their groups: en, zh"):
        pretrain_model(config, shards, tokenizer, tmp_path, refuse)


def refuse(training: Training) -> None:
    pytest.fail("a worker was started")


def test_tokenizer_swapped_after_packing_is_refused(shards: TokenShards, tokenizer: Tokenizer, tmp_path: Path) -> None:
    other = dataclasses.replace(tokenizer, fingerprint="c" * 16)
    with pytest.raises(UserError, match=f"tokenizer.*{'b' * 16}.*{'c' * 16}|tokenizer.*{'c' * 16}.*{'b' * 16}"):
        pretrain_model(CONFIG, shards, other, tmp_path, refuse)


@pytest.mark.parametrize("damage", ["missing", "cut off"])
def test_shards_that_are_not_whole_are_refused_by_file(tokenizer: Tokenizer, tmp_path: Path, damage: str) -> None:
    shards = write_shards(tmp_path / "shards", tokenizer.fingerprint)
    victim = shards.path / "train" / "zh" / "shard-00000.parquet"
    if damage == "missing":
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"zh/shard-00000\.parquet (is missing|has \d+ bytes)"):
        pretrain_model(CONFIG, shards, tokenizer, tmp_path, refuse)


def with_vectors(path: Path, width: int = 16) -> Pretraining:
    lines = [f"{word} " + " ".join(str(0.1 * number + n) for n in range(width)) for number, word in enumerate("abczq")]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return changed(word_vectors=str(path))


def test_word_vectors_start_the_embeddings_of_their_words(shards: TokenShards, tokenizer: Tokenizer, tmp_path: Path) -> None:
    config = with_vectors(tmp_path / "vectors.txt")
    assert list(pretraining_digests(config)) == ["word_vectors"]
    outcome = pretrain_model(config, shards, tokenizer, tmp_path, call_here)
    assert outcome.figures["embeddings_from_vectors"] == 3  # a, b and c are tokens, z and q are not


def test_word_vectors_may_be_named_from_home(
    shards: TokenShards, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_vectors(tmp_path / "vectors.txt")
    monkeypatch.setenv("HOME", str(tmp_path))
    outcome = pretrain_model(changed(word_vectors="~/vectors.txt"), shards, tokenizer, tmp_path, call_here)
    assert outcome.figures["embeddings_from_vectors"] == 3


def test_word_vectors_of_another_width_are_refused_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"vectors of 12 numbers, but model\.width is 16\. Fix: set model\.width to 12"):
        pretraining_digests(with_vectors(tmp_path / "vectors.txt", width=12))


def test_word_vectors_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pretrain\.word_vectors: .* is no file"):
        pretraining_digests(changed(word_vectors=str(tmp_path / "none.txt")))


RESERVED = ["<|mask|>", "<|sep|>", "<|span_0|>", "<|span_1|>"]


@pytest.fixture(scope="module")
def reserved(folder: Path) -> Tokenizer:
    """The same, with the special tokens of the objectives."""
    return write_tokenizer(folder / "reserved", "b" * 16, [*RESERVED, *"abcdefgh"])


def shaped(family: str, kind: str, context: int = 2 * CONTEXT, **changes: object) -> Pretraining:
    model = ModelConfig(family, layers=1, width=16, heads=2, context=context)  # type: ignore[arg-type]
    objective = ObjectiveConfig(kind)  # type: ignore[arg-type]
    return Pretraining(model, CONFIG.pretrain.model_copy(update={"objective": objective, **changes}))


PAIRS = [
    ("gpt2", "causal"),
    ("lstm", "causal"),
    ("bert", "masked"),
    ("modernbert", "masked"),
    ("llama", "restore"),
    ("gru", "spans"),
    ("seq2seq", "restore"),
    ("seq2seq", "spans"),
    ("rnn", "restore"),
]


@pytest.mark.parametrize(("family", "kind"), PAIRS)
def test_every_kind_of_model_is_pretrained_and_loads_again(
    shards: TokenShards, reserved: Tokenizer, tmp_path: Path, family: str, kind: str
) -> None:
    outcome = pretrain_model(shaped(family, kind), shards, reserved, tmp_path, call_here)
    assert 0 < outcome.figures["loss"] < 5
    assert 0 < outcome.figures["validation_loss"] < 5
    model, _ = load(tmp_path / "model")
    assert model.trunk.config.family == family
    assert read_objective(tmp_path / "model", model) == ObjectiveConfig(kind)  # type: ignore[arg-type]


def test_pretraining_by_masks_goes_on_as_if_it_had_not_stopped(shards: TokenShards, reserved: Tokenizer, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    config = shaped("bert", "masked")
    pretrain_model(config, shards, reserved, whole, call_here)
    pretrain_model(config, shards, reserved, parts, call_here)
    shutil.rmtree(parts / "checkpoints" / "step-00000006")  # as if it had been killed behind step 3
    shutil.rmtree(parts / "model")
    pretrain_model(config, shards, reserved, parts, call_here)
    first, second = (out / "model" / "model.safetensors" for out in (whole, parts))
    assert first.read_bytes() == second.read_bytes()


def test_document_mask_changes_what_a_packed_row_teaches(tokenizer: Tokenizer, tmp_path: Path) -> None:
    shards = write_packed_shards(tmp_path / "shards", tokenizer.fingerprint)
    for number, mask in enumerate((None, True, False)):
        (tmp_path / str(number)).mkdir()
        pretrain_model(changed(document_mask=mask), shards, tokenizer, tmp_path / str(number), call_here)
    default, masked, open_ = ((tmp_path / str(n) / "model" / "model.safetensors").read_bytes() for n in range(3))
    assert default == masked != open_


def test_compiled_trainings_with_masks_are_others_than_those_without_were() -> None:
    def told(**changes: object) -> set[str]:
        given = identity(changed(**changes))
        assert isinstance(given, dict)
        return set(given)

    assert "masks_compiled" in told(compile=True)
    assert all("masks_compiled" not in told(compile=compile, document_mask=False) for compile in (True, False))
    assert "masks_compiled" not in told()
    assert changed(compile=True).masks_documents
    assert not shaped("lstm", "causal", compile=True).masks_documents


def write_packed_shards(folder: Path, tokenizer: str) -> TokenShards:
    """As `write_shards`, with a second document in the middle of every row."""
    made = write_shards(folder, tokenizer)
    for path in sorted(folder.rglob("shard-*.parquet")):
        rows = pq.read_table(path).num_rows
        tokens = np.random.default_rng(rows).integers(3, VOCAB, (rows, CONTEXT + 1)).astype(np.uint16)
        tokens[:, 0] = tokens[:, 6] = BOS
        tokens[:, 5] = tokens[:, -1] = EOS
        metadata = {
            "vocab_size": VOCAB,
            "tokenizer": tokenizer,
            "packing": "best_fit",
            "bos": BOS,
            "eos": EOS,
            "pad": PAD,
        }
        columns = [[[6, CONTEXT + 1]] * rows, [[0, 1]] * rows, [[0, 0]] * rows]
        path.unlink()
        write_token_shard(path, tokens, pa.table(columns, schema=pa.schema(SEGMENT_FIELDS)), metadata)
    write_manifest(folder)
    return made


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (shaped("llama", "masked"), r"objective masked does not go with family llama.*model\.family to bert or modernbert"),
        (shaped("bert", "causal"), r"objective causal does not go with family bert"),
        (shaped("llama", "restore", CONTEXT), rf"set model\.context to {2 * CONTEXT}, or shards\.context to {CONTEXT // 2}"),
        (shaped("seq2seq", "restore", document_mask=True), r"document_mask: seq2seq reads a row as one text.*shards\.packing"),
        (
            shaped("lstm", "causal", document_mask=True, compile=True),
            r"compile: the documents of a packed row change the shapes of lstm.*document_mask to false, or compile to false",
        ),
        (
            shaped("gru", "causal", layout=LayoutConfig(activation_checkpointing="full")),
            r"activation_checkpointing full: the layers of gru are one kernel.*set it to none",
        ),
        (shaped("bert", "masked"), r'lacks 1 special token.*tokenizer\.reserve: \["<\|mask\|>"\]'),
    ],
)
def test_objective_that_cannot_be_is_refused_before_a_worker_starts(
    shards: TokenShards, tokenizer: Tokenizer, tmp_path: Path, config: Pretraining, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        pretrain_model(config, shards, tokenizer, tmp_path, refuse)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"batch_tokens": 0}, {"workers": -1}, {"step": 3}, {"seed": -1}])
def test_config_refuses_what_cannot_be_trained(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        PretrainConfig.model_validate(wrong)
