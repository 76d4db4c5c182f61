"""The ladder: small trainings that are the whole run made smaller, and what is predicted from them."""

from dataclasses import replace
from pathlib import Path

import pytest

from model.config.model_config import ModelConfig
from model.config.training_config import BatchPhase, ContextPhase, MixturePhase, OptimizerConfig
from model.training.budget import flops_per_token
from tasks.artifacts import Manifest, PretrainedModel, Tokenizer, TokenShards, Workspace, describe
from tasks.errors import UserError
from tasks.ledger import StageOutcome
from tasks.pretrain.config import PretrainConfig, Pretraining
from tasks.pretrain.ladder import LadderConfig, Laddered, RungOf, ladder_of, shares, smaller_model, train_rung, whole_flops
from tasks.pretrain.prediction import find_prediction, predict_loss, read_prediction
from tasks.settings import identity
from tests.tasks.pretrain.small_training import CONTEXT, VOCAB, call_here, write_shards, write_tokenizer

WHOLE = Pretraining(
    ModelConfig(layers=4, width=128, heads=4, context=256),
    PretrainConfig(
        steps=400,
        batch_tokens=2048,
        optimizer=OptimizerConfig(warmup_steps=40, decay="wsd", decay_steps=80),
        mixture=(MixturePhase(0, {"a": 1.0}), MixturePhase(200, {"b": 1.0})),
        curriculum=(ContextPhase(0, 64), ContextPhase(100, 128)),
        workers=2,
    ),
)


def test_each_rung_has_its_share_of_the_whole_runs_arithmetic() -> None:
    whole = whole_flops(WHOLE, 2048, 128)
    found = [rung.flops / whole for rung in ladder_of(Laddered(WHOLE, LadderConfig()), 2048, 128)]
    assert found == pytest.approx([1 / 32, 1 / 16, 1 / 8, 1 / 4], rel=0.03)


def test_rungs_grow_in_model_and_in_tokens() -> None:
    rungs = ladder_of(Laddered(WHOLE, LadderConfig()), 2048, 128)
    costs = [flops_per_token(rung.training.shape, 2048, 128) for rung in rungs]
    tokens = [rung.training.pretrain.steps * rung.training.pretrain.batch_tokens for rung in rungs]
    assert costs == sorted(set(costs))
    assert tokens == sorted(set(tokens))


def test_share_is_halved_until_the_ladder_is_cheap() -> None:
    assert shares(LadderConfig(flops=1e12), 1e13)[-1] == 1 / 32
    assert shares(LadderConfig(flops=1e12), 1e12)[-1] == 1 / 4


def test_rung_keeps_the_steps_of_a_short_run_and_its_batch_shrinks() -> None:
    rungs = [rung.training.pretrain for rung in ladder_of(Laddered(WHOLE, LadderConfig()), 2048, 128)]
    assert all(320 <= one.steps <= 480 for one in rungs)
    assert [one.batch_tokens // 128 for one in rungs] == sorted(one.batch_tokens // 128 for one in rungs)
    assert all(64 <= one.evaluate_batches * (one.batch_tokens // 128) < 64 + 16 for one in rungs)  # of validation: the whole run has 64


def test_rung_of_a_long_run_has_its_batch() -> None:
    long = Pretraining(WHOLE.shape, WHOLE.pretrain.model_copy(update={"steps": 20_000}))
    rung = ladder_of(Laddered(long, LadderConfig(flops=1e18)), 2048, 128)[-1].training.pretrain
    assert rung.batch_tokens == 2048
    assert rung.steps < 20_000


@pytest.mark.parametrize(
    "model",
    [
        ModelConfig("gpt2", layers=12, width=768, heads=12, context=256),
        ModelConfig("llama", layers=6, width=320, heads=10, kv_heads=5, mlp_width=1000, context=256),
        ModelConfig("llama", layers=4, width=256, heads=8, head_dim=64, context=256),
        ModelConfig("lstm", layers=2, width=200),
        ModelConfig("bert", layers=4, width=128, heads=4, context=256),
        ModelConfig("seq2seq", layers=4, decoder_layers=2, width=128, heads=4, context=256),
    ],
    ids=lambda model: f"{model.family}-{model.width}",
)
def test_smaller_model_is_of_the_same_family_with_the_operations_asked_for(model: ModelConfig) -> None:
    small = smaller_model(model, 0.2, 1000, 128)
    assert small.family == model.family
    assert flops_per_token(small, 1000, 128) / flops_per_token(model, 1000, 128) == pytest.approx(0.2, rel=0.25)
    assert small.layers <= model.layers
    assert small.width < model.width


def test_what_begins_at_a_step_begins_at_the_same_share_of_a_rungs_steps() -> None:
    rung = ladder_of(Laddered(WHOLE, LadderConfig()), 2048, 128)[0].training.pretrain
    part = rung.steps / 400
    assert (rung.optimizer.warmup_steps, rung.optimizer.decay_steps) == (round(40 * part), round(80 * part))
    assert [phase.from_step for phase in rung.mixture] == [0, round(200 * part)]
    assert [phase.from_step for phase in rung.curriculum] == [0, round(100 * part)]
    assert rung.workers == 0


def test_larger_batches_keep_their_proportion_and_their_share_of_a_rungs_steps() -> None:
    schedule = (BatchPhase(100, 4096), BatchPhase(300, 8192))
    whole = Pretraining(WHOLE.shape, WHOLE.pretrain.model_copy(update={"batch_schedule": schedule}))
    assert whole.pretrain.tokens == 2048 * (100 + 2 * 200 + 4 * 100)
    rungs = ladder_of(Laddered(whole, LadderConfig()), 2048, 128)
    for rung in rungs:
        small = rung.training.pretrain
        assert [phase.from_step for phase in small.batch_schedule] == [round(at * small.steps / 400) for at in (100, 300)]
        assert [phase.batch_tokens / small.batch_tokens for phase in small.batch_schedule] == [2, 4]
    cost = whole_flops(whole, 2048, 128)
    assert [rung.flops / cost for rung in rungs] == pytest.approx([1 / 32, 1 / 16, 1 / 8, 1 / 4], rel=0.03)


def test_run_that_is_too_short_is_refused_with_the_steps_that_would_do() -> None:
    short = Pretraining(WHOLE.shape, WHOLE.pretrain.model_copy(update={"steps": 8, "curriculum": (), "mixture": ()}))
    with pytest.raises(UserError, match=r"the whole run has 8\. Fix: set pretrain\.steps to \d+ or more"):
        ladder_of(Laddered(short, LadderConfig()), 2048, 128)


@pytest.fixture
def shards(tmp_path: Path) -> TokenShards:
    return write_shards(tmp_path / "shards", "b" * 16)


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return replace(write_tokenizer(tmp_path / "tokenizer", "b" * 16, "abcdefgh"), figures={"vocab_size": float(VOCAB)})


SMALL = Laddered(
    Pretraining(
        ModelConfig(layers=2, width=32, heads=2, context=CONTEXT),
        PretrainConfig(steps=24, batch_tokens=8 * CONTEXT, evaluate_batches=1, precision="float32"),
    ),
    LadderConfig(),
)


def test_rung_is_trained_like_any_pretraining_and_tells_what_it_cost(shards: TokenShards, tokenizer: Tokenizer, tmp_path: Path) -> None:
    out = tmp_path / "rung"
    out.mkdir()
    outcome = train_rung(RungOf(SMALL, 1), shards, tokenizer, out, call_here)
    expected = ladder_of(SMALL, VOCAB, CONTEXT)[1]
    assert outcome.figures["flops"] == expected.flops
    assert outcome.figures["steps"] == expected.training.pretrain.steps
    assert outcome.figures["width"] == expected.training.shape.width
    assert outcome.figures["validation_loss"] > 0
    assert (out / "model" / "model.safetensors").exists()


def rungs(losses: tuple[float, ...]) -> list[PretrainedModel]:
    """As the workspace would hand them on."""
    return [
        PretrainedModel(
            "",
            str(number),
            figures={
                "parameters": 1e3 * 2**number,
                "width": 8.0,
                "layers": 1.0,
                "steps": 24.0,
                "tokens": 1e4,
                "flops": rung.flops,
                "validation_loss": loss,
                "validation_bits_per_byte": loss / 2,
            },
        )
        for number, (rung, loss) in enumerate(zip(ladder_of(SMALL, VOCAB, CONTEXT), losses, strict=True))
    ]


def predict(losses: tuple[float, ...], shards: TokenShards, tokenizer: Tokenizer, out: Path) -> StageOutcome:
    out.mkdir(parents=True)
    return predict_loss(SMALL, rungs(losses), shards, tokenizer, out, lambda found: f"<svg>{len(found.rungs)}</svg>")


def test_prediction_is_kept_with_its_rungs_and_a_picture(shards: TokenShards, tokenizer: Tokenizer, tmp_path: Path) -> None:
    outcome = predict((4.0, 3.7, 3.4, 3.2), shards, tokenizer, tmp_path / "out")
    found = read_prediction(tmp_path / "out")
    assert [one.loss for one in found.rungs] == [4.0, 3.7, 3.4, 3.2]
    assert found.law.low < found.law.loss < found.law.high < 3.2
    assert found.law.flops == whole_flops(SMALL.whole, VOCAB, CONTEXT)
    assert found.bits_per_byte(3.0) == pytest.approx(1.5)
    assert (tmp_path / "out" / "ladder.svg").read_text() == "<svg>4</svg>"
    assert outcome.figures["predicted_loss"] == found.law.loss


def test_losses_that_do_not_fall_are_told(shards: TokenShards, tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ladder: nothing can be predicted .* does not fall with compute: 4, 3\.7, 3\.4, 4\.1\. Fix: "):
        predict((4.0, 3.7, 3.4, 4.1), shards, tokenizer, tmp_path / "out")


def manifest_of(stage: str, config: object, inputs: dict[str, str], folder: Path, outcome: StageOutcome) -> Manifest:
    return describe(stage, "f" * 16, identity(config), inputs, folder, outcome, 1.0)


def test_prediction_is_found_of_the_pretraining_that_it_is_of_and_no_other(
    shards: TokenShards, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    workspace = Workspace(tmp_path / "workspace")
    inputs = {"shards": shards.fingerprint, "tokenizer": tokenizer.fingerprint}
    folder = workspace.root / "ladder" / ("f" * 16 + ".partial")
    outcome = predict((4.0, 3.7, 3.4, 3.2), shards, tokenizer, folder)
    workspace.publish(manifest_of("ladder", SMALL, {**inputs, "rungs.0": "0"}, folder, outcome))
    other = Pretraining(SMALL.whole.shape, SMALL.whole.pretrain.model_copy(update={"seed": 2}))
    whole, reseeded, elsewhere = (
        manifest_of("pretrain", config, read, folder, StageOutcome())
        for config, read in ((SMALL.whole, inputs), (other, inputs), (SMALL.whole, {**inputs, "shards": "other"}))
    )
    assert find_prediction(workspace, whole) is not None
    assert find_prediction(workspace, reseeded) is None
    assert find_prediction(workspace, elsewhere) is None
