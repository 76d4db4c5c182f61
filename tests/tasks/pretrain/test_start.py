"""A pretraining that begins at another's checkpoint: what equals what, and what is refused."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from pydantic import ValidationError

from model.config.model_config import ModelConfig
from model.config.training_config import BatchPhase, FaultConfig, MixturePhase, OptimizerConfig
from model.training.checkpoint import read_state
from model.training.curve import read_curve
from model.training.left_out import LeftOut, read_left_out, write_left_out
from tasks.artifacts import Tokenizer, TokenShards
from tasks.errors import UserError
from tasks.pretrain.config import PretrainConfig, Pretraining
from tasks.pretrain.job import TRAINING, read_job
from tasks.pretrain.pretrain import pretrain_model, pretraining_digests
from tasks.pretrain.start import find_start
from tasks.pretrain.start_checks import check_start, told_of
from tasks.pretrain.start_config import StartConfig
from tasks.settings import identity
from tests.tasks.pretrain.small_training import CONTEXT, call_here, write_shards, write_tokenizer

WSD = OptimizerConfig(warmup_steps=1, decay="wsd", decay_steps=2)
MODEL = ModelConfig(layers=1, width=16, heads=2, context=CONTEXT, dropout=0.1)
PRETRAIN = PretrainConfig(
    steps=6,
    batch_tokens=4 * CONTEXT,
    micro_rows=2,
    log_every=1,
    evaluate_every=2,
    evaluate_batches=1,
    checkpoint_every=2,
    keep_checkpoints=9,
    optimizer=WSD,
    precision="float32",
)
PARENT = "3f2a" + "0" * 12


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workspace")


@pytest.fixture(scope="module")
def shards(workspace: Path) -> TokenShards:
    return write_shards(workspace / "shards" / ("a" * 16), "b" * 16)


@pytest.fixture(scope="module")
def tokenizer(workspace: Path) -> Tokenizer:
    return write_tokenizer(workspace / "tokenizer" / ("b" * 16), "b" * 16, "abcdefgh")


Pretrain = Callable[..., Path]


@pytest.fixture(scope="module")
def pretrain(workspace: Path, shards: TokenShards, tokenizer: Tokenizer) -> Pretrain:
    """Trains in this process into WORKSPACE/pretrain/NAME; `start` as a recipe has it."""

    def train(name: str, start: dict[str, object] | None = None, **changes: object) -> Path:
        out = workspace / "pretrain" / name
        out.mkdir(parents=True, exist_ok=True)
        pretrain_model(begun(workspace, start, **changes), shards, tokenizer, out, call_here)
        return out

    return train


def begun(workspace: Path, start: dict[str, object] | None, model: ModelConfig = MODEL, **changes: object) -> Pretraining:
    """As the flow makes it."""
    chosen = None if start is None else StartConfig.model_validate(start)
    config = PRETRAIN.model_copy(update={"start": chosen, **changes})
    found = None if chosen is None else find_start(chosen, workspace)
    made = Pretraining(model, config, found)
    if found is not None:
        check_start(found, made)
    return made


@pytest.fixture(scope="module")
def parent(pretrain: Pretrain) -> Path:
    """Six steps, of which the last two decay; checkpoints at 2, 4 and 6."""
    return pretrain(PARENT)


@pytest.fixture
def copy(parent: Path, tmp_path: Path) -> Path:
    """The parent's folder in another place, to be damaged."""
    return Path(shutil.copytree(parent, tmp_path / "elsewhere" / "pretrain" / PARENT))


def losses(out: Path, first: int = 1) -> list[tuple[int, str, str]]:
    return [(point.step, point.loss.hex(), point.gradient_norm.hex()) for point in read_curve(out) if point.step >= first]


def weights(out: Path) -> bytes:
    return (out / "model" / "model.safetensors").read_bytes()


def test_run_lengthened_from_its_last_stable_step_equals_the_longer_run(pretrain: Pretrain, parent: Path) -> None:
    whole = pretrain("1" * 16, steps=9)
    longer = pretrain("2" * 16, {"from": PARENT[:8], "step": 4}, steps=9)
    assert losses(longer) == losses(whole, 5)
    assert weights(longer) == weights(whole)
    assert losses(parent)[:4] == losses(whole)[:4]


def test_lengthened_run_equals_the_longer_one_in_bfloat16_too(pretrain: Pretrain) -> None:
    whole = pretrain("b1" * 8, steps=9, precision="bfloat16")
    pretrain("b2" * 8, precision="bfloat16")
    longer = pretrain("b3" * 8, {"from": "b2" * 8, "step": 4}, steps=9, precision="bfloat16")
    assert losses(longer) == losses(whole, 5)
    assert weights(longer) == weights(whole)


def test_run_without_a_decay_is_lengthened_from_its_end(pretrain: Pretrain) -> None:
    constant = OptimizerConfig(warmup_steps=1, decay="constant")
    whole = pretrain("3" * 16, steps=8, optimizer=constant)
    pretrain("4" * 16, steps=4, optimizer=constant)
    longer = pretrain("5" * 16, {"from": f"pretrain/{'4' * 16}"}, steps=8, optimizer=constant)
    assert losses(longer) == losses(whole, 5)
    assert weights(longer) == weights(whole)


def test_decay_may_branch_off_a_stable_step(pretrain: Pretrain, parent: Path, workspace: Path) -> None:
    branch = OptimizerConfig(warmup_steps=1, decay="wsd", decay_steps=1)
    out = pretrain("6" * 16, {"from": PARENT, "step": 4}, steps=5, optimizer=branch)
    assert [point.learning_rate for point in read_curve(out)] == [branch.final_learning_rate]


def test_run_that_was_killed_goes_on_from_its_own_checkpoint(pretrain: Pretrain, parent: Path) -> None:
    start = {"from": PARENT, "step": 2}
    whole = pretrain("7" * 16, start, steps=8)
    cut = pretrain("8" * 16, start, steps=8)
    for path in cut.glob("checkpoints/step-*"):
        if path.name > "step-00000004":
            shutil.rmtree(path)
    shutil.rmtree(cut / "model")
    pretrain("8" * 16, start, steps=8)
    assert weights(cut) == weights(whole)


def test_counting_anew_takes_weights_and_begins_its_steps_and_data_at_0(pretrain: Pretrain, parent: Path) -> None:
    start = {"from": PARENT, "counts": "anew"}
    cosine = OptimizerConfig(warmup_steps=3)
    fresh = pretrain("9" * 16, optimizer=cosine)
    begun_anew = pretrain("a1" * 8, start, optimizer=cosine)
    without_moments = pretrain("a2" * 8, {**start, "keeps_moments": False}, optimizer=cosine)
    points = read_curve(begun_anew)
    assert [point.step for point in points] == [1, 2, 3, 4, 5, 6]
    assert [point.batch_digests for point in points] == [point.batch_digests for point in read_curve(fresh)]
    assert [point.learning_rate for point in points] == [point.learning_rate for point in read_curve(fresh)]
    assert points[0].loss != read_curve(fresh)[0].loss
    assert points[0].loss == read_curve(without_moments)[0].loss
    assert points[1].loss != read_curve(without_moments)[1].loss
    assert read_state(begun_anew / "checkpoints" / "step-00000006").tokens == 6 * 4 * CONTEXT


def test_other_data_from_the_start_on_are_told_and_judged_afresh(pretrain: Pretrain, parent: Path, workspace: Path) -> None:
    start: dict[str, object] = {"from": PARENT, "step": 4}
    mixture = (MixturePhase(0, {"en": 1.0, "zh": 3.0}),)
    out = pretrain("a3" * 8, start, steps=9, mixture=mixture)
    assert read_job(out).training.fresh_steps == (4,)
    config = begun(workspace, start, steps=9, mixture=mixture, seed=2)
    assert config.start is not None
    assert told_of(config.start, config, CONTEXT) == [
        f"pretrain goes on from pretrain/{PARENT} step 4: 4 of 9 steps are reused, data go on at step 4",
        "pretrain.start: from step 4 on it is another training: seed 1 → 2, "
        'mixture [] → [{"from_step": 0, "weights": {"en": 1.0, "zh": 3.0}}]',
    ]


def test_batches_that_a_run_left_out_stay_out(pretrain: Pretrain, copy: Path, workspace: Path) -> None:
    state = copy / "checkpoints" / "step-00000002" / "state.json"
    before = find_start(StartConfig.model_validate({"from": str(copy), "step": 2}), workspace).digest
    write_left_out(copy / "checkpoints", [LeftOut(1, 1, 3)])
    set_state(state, returns=1)
    found = find_start(StartConfig.model_validate({"from": str(copy), "step": 2}), workspace)
    assert found.digest != before
    out = pretrain("a4" * 8, {"from": str(copy), "step": 2}, steps=4, optimizer=OptimizerConfig(warmup_steps=1, decay="constant"))
    assert read_left_out(out / "checkpoints") == (LeftOut(1, 1, 3),)


def set_state(state: Path, **changes: object) -> None:
    """Another state in a checkpoint, and its hash in the manifest."""
    values = {**json.loads(state.read_text()), **changes}
    state.write_text(json.dumps(values, indent=1))
    manifest = json.loads((state.parent / "manifest.json").read_text())
    manifest["files"][state.name] = {"bytes": state.stat().st_size, "sha256": sha256(state.read_bytes()).hexdigest()}
    (state.parent / "manifest.json").write_text(json.dumps(manifest))


def test_identity_is_the_content_wherever_it_lies(parent: Path, copy: Path, workspace: Path) -> None:
    near = begun(workspace, {"from": PARENT, "step": 4}, steps=9)
    far = begun(workspace, {"from": str(copy / "checkpoints" / "step-00000004")}, steps=9)
    other = begun(workspace, {"from": PARENT, "step": 2}, steps=9)
    assert pretraining_digests(near) == pretraining_digests(far)
    assert identity(near) == identity(far)
    assert pretraining_digests(near) != pretraining_digests(other)


def test_recipe_without_a_start_has_the_identity_that_it_had() -> None:
    told = identity(Pretraining(MODEL, PRETRAIN))
    assert isinstance(told, dict)
    assert "start" not in told
    assert "start" not in str(told["pretrain"])


@pytest.mark.parametrize("name", [PARENT[:4], f"pretrain/{PARENT}", f"{PARENT}.partial"])
def test_fingerprint_names_the_newest_whole_checkpoint(parent: Path, workspace: Path, name: str) -> None:
    found = find_start(StartConfig.model_validate({"from": name}), workspace)
    assert (found.step, found.name, found.kept) == (6, f"pretrain/{PARENT}", (2, 4, 6))


def test_damaged_newest_checkpoint_is_passed_over_by_name(copy: Path, workspace: Path) -> None:
    (copy / "checkpoints" / "step-00000006" / "model.safetensors").write_bytes(b"")
    config = begun(workspace, {"from": str(copy)}, steps=9)
    assert config.start is not None
    assert config.start.step == 4
    assert "step-00000006: model.safetensors has 0 bytes" in told_of(config.start, config, CONTEXT)[0]


def test_checkpoint_of_a_course_that_was_given_up_is_passed_over(copy: Path, workspace: Path) -> None:
    write_left_out(copy / "checkpoints", [LeftOut(4, 4, 2)])
    assert find_start(StartConfig.model_validate({"from": str(copy)}), workspace).step == 4


def refused(workspace: Path, start: dict[str, object], **changes: object) -> str:
    with pytest.raises(UserError) as refusal:
        begun(workspace, start, **changes)  # type: ignore[arg-type]
    return str(refusal.value)


def test_what_is_not_there_is_refused_with_what_is(parent: Path, workspace: Path, tmp_path: Path) -> None:
    told = refused(workspace, {"from": "beef"})
    assert f"no pretraining in {workspace} begins so" in told
    assert "Fix: give a pretraining's fingerprint" in told
    assert PARENT in told
    assert f"{tmp_path} has no folder checkpoints" in refused(workspace, {"from": str(tmp_path)})


def test_several_that_match_are_named(parent: Path, tmp_path: Path) -> None:
    for name in (PARENT, "3f2b" + "0" * 12, "3f2a" + "1" * 12 + ".partial"):
        (tmp_path / "pretrain" / name / "checkpoints").mkdir(parents=True)
    assert f"several pretrainings begin so: {PARENT}, {'3f2a' + '1' * 12}. Fix: give more digits" in refused(tmp_path, {"from": "3f2a"})


def test_pretraining_without_a_checkpoint_yet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pretrain" / f"{PARENT}.partial" / "checkpoints").mkdir(parents=True)
    assert "has no checkpoint yet" in refused(tmp_path, {"from": PARENT})


def test_step_that_was_not_kept_is_refused_with_the_nearest(parent: Path, workspace: Path) -> None:
    told = refused(workspace, {"from": PARENT, "step": 5})
    assert "the checkpoint of step 5 of pretrain/3f2a000000000000 was not kept; the nearest is 4, of 2, 4, 6. Fix: take step: 4" in told
    assert "keep_every" in told
    folder = str(parent / "checkpoints" / "step-00000005")
    assert "step 5" in refused(workspace, {"from": folder})
    named = {"from": str(parent / "checkpoints" / "step-00000004"), "step": 2}
    assert "from names the checkpoint of step 4, but step is 2" in refused(workspace, named)


def test_damaged_checkpoint_is_refused_by_name_with_one_that_is_whole(copy: Path, workspace: Path) -> None:
    victim = copy / "checkpoints" / "step-00000004" / "optimizer.safetensors"
    victim.write_bytes(victim.read_bytes()[:-1] + b"x")
    told = refused(workspace, {"from": str(copy), "step": 4})
    assert "step-00000004: optimizer.safetensors was altered" in told
    assert "Fix: take step: 6, the newest that is whole" in told


def test_folder_without_its_settings_is_refused(copy: Path, workspace: Path) -> None:
    (copy / TRAINING).unlink()
    assert f"has no {TRAINING}, which tells the model, the tokenizer and the schedule" in refused(workspace, {"from": str(copy)})


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (dataclasses.replace(MODEL, layers=2), "model.layers is 2, there it was 1"),
        (dataclasses.replace(MODEL, heads=4), "model.heads is 4, there it was 2"),
        (ModelConfig("lstm", layers=1, width=16, context=CONTEXT), "model.family is lstm, there it was llama"),
    ],
)
def test_another_model_is_refused(parent: Path, workspace: Path, model: ModelConfig, said: str) -> None:
    assert said in refused(workspace, {"from": PARENT, "step": 4}, model=model, steps=9)


def test_dropout_and_angles_may_change(parent: Path, workspace: Path) -> None:
    changed = dataclasses.replace(MODEL, dropout=0.0, rope_theta=50_000.0, context=4 * CONTEXT)
    config = begun(workspace, {"from": PARENT, "step": 4}, model=changed, steps=9)
    assert config.start is not None
    assert "dropout 0.1 → 0.0" in told_of(config.start, config, CONTEXT)[1]


def test_steps_that_are_done_already_are_refused(parent: Path, workspace: Path) -> None:
    assert "Fix: set pretrain.steps above 6" in refused(workspace, {"from": PARENT}, steps=6)


def test_more_steps_with_a_decay_that_had_ended_are_refused_with_the_last_stable_step(parent: Path, workspace: Path) -> None:
    told = refused(workspace, {"from": PARENT}, steps=9)
    assert "the learning rate of pretrain/3f2a000000000000 was 0.0001 (wsd over 6 steps, decaying since step 4)" in told
    assert "it would be 0.001 (wsd over 9 steps): a jump. Fix: set pretrain.start.step to 4, the last kept step at which both agree" in told
    assert "counts to anew" in told


def test_schedule_that_agrees_nowhere_is_refused_with_how_to_keep_such_steps(parent: Path, workspace: Path) -> None:
    told = refused(workspace, {"from": PARENT, "step": 4}, steps=9, optimizer=OptimizerConfig(warmup_steps=1))
    assert "no checkpoint was kept of a step at which both agree (pretrain.keep_every" in told


def test_batches_of_steps_that_are_done_may_not_change_and_later_ones_may(parent: Path, workspace: Path) -> None:
    said = refused(workspace, {"from": PARENT, "step": 4}, steps=9, batch_schedule=(BatchPhase(2, 8 * CONTEXT),))
    assert "took 4 batches in its 4 steps (one a step), and by pretrain.batch_schedule they would have been 6" in said
    larger = begun(workspace, {"from": PARENT, "step": 4}, steps=9, batch_schedule=(BatchPhase(4, 8 * CONTEXT),))
    assert larger.start is not None
    assert any("batches of a step [] → " in line for line in told_of(larger.start, larger, CONTEXT))


def test_run_that_goes_on_with_larger_batches_is_the_one_that_was_to_have_them(pretrain: Pretrain, parent: Path) -> None:
    larger: dict[str, object] = {"steps": 9, "batch_schedule": (BatchPhase(4, 8 * CONTEXT),)}
    whole = pretrain("5a" * 8, **larger)
    longer = pretrain("6a" * 8, {"from": PARENT[:8], "step": 4}, **larger)
    assert losses(longer) == losses(whole, first=5)
    assert weights(longer) == weights(whole)


def test_another_window_of_the_guard_is_refused(parent: Path, workspace: Path) -> None:
    told = refused(workspace, {"from": PARENT, "step": 4}, steps=9, faults=FaultConfig(window=64))
    assert "remembers its last 128 steps to judge the next by, but pretrain.faults.window is 64. Fix: set it to 128" in told


def test_moments_of_another_optimizer_are_refused_before_anything_runs(parent: Path, workspace: Path) -> None:
    lion = OptimizerConfig(warmup_steps=1, decay="constant", kind="lion")
    for start in ({"from": PARENT, "step": 4}, {"from": PARENT, "step": 4, "counts": "anew"}):
        told = refused(workspace, start, steps=9, optimizer=lion)
        assert "was trained with optimizer.kind adamw, and this recipe says lion" in told
        assert "Fix: set pretrain.optimizer.kind to adamw" in told


def test_weights_are_given_once(parent: Path, workspace: Path) -> None:
    assert "leave one of the two out" in refused(workspace, {"from": PARENT, "step": 4}, steps=9, word_vectors="vectors.txt")


def test_another_tokenizer_is_refused_whatever_is_counted(parent: Path, workspace: Path, shards: TokenShards, tmp_path: Path) -> None:
    other = write_tokenizer(tmp_path / "other", "c" * 16, "abcdefgi")
    config = begun(workspace, {"from": PARENT, "counts": "anew"})
    with pytest.raises(UserError, match=r"learned the ids of another tokenizer .* Fix: set tokenizer: \{existing: .*/tokenizer/bbbb"):
        pretrain_model(config, shards, other, tmp_path, call_here)


def test_same_tokenizer_by_another_fingerprint_is_taken(parent: Path, workspace: Path, tmp_path: Path) -> None:
    same = write_tokenizer(tmp_path / "same", "c" * 16, "abcdefgh")
    shards = write_shards(tmp_path / "shards", "c" * 16)
    (tmp_path / "out").mkdir()
    pretrain_model(begun(workspace, {"from": PARENT, "step": 4}, steps=6), shards, same, tmp_path / "out", call_here)
    assert read_curve(tmp_path / "out")[-1].step == 6


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ({"from": 12345678}, "put a fingerprint of digits alone in quotes"),
        ({"from": PARENT, "keeps_moments": False}, "set counts to anew"),
        ({"step": 4}, "from"),
        ({"from": PARENT, "counts": "off"}, "counts"),
    ],
)
def test_start_that_says_nothing_or_contradicts_itself_is_refused(start: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        StartConfig.model_validate(start)
