"""Start checks: whether a pretraining may go on from another's checkpoint, and what of that one is reused, in words."""

import json
from dataclasses import asdict

from model.config.model_config import ModelConfig
from model.config.training_config import OptimizerConfig
from model.optim.schedule import learning_rate, stable_steps
from model.training.batch_steps import BatchSteps
from tasks.errors import UserError
from tasks.pretrain.config import PretrainConfig, Pretraining, training_config
from tasks.pretrain.start import KEY, FoundStart
from tasks.settings import Json

SAME_RATE = 1e-6  # of the rate: what may lie between two schedules where one goes on from the other


def check_start(found: FoundStart, config: Pretraining) -> None:
    """UserError, with the fix, for a checkpoint that the recipe cannot go on from; its tokenizer is known later."""
    chosen, asked = config.pretrain.start, config.pretrain
    assert chosen is not None
    if asked.word_vectors is not None:
        raise UserError(f"{KEY} gives all weights, so pretrain.word_vectors would change nothing. Fix: leave one of the two out.")
    check_shape(found, config.shape)
    if chosen.counts == "on" or chosen.keeps_moments:
        check_optimizer(found, asked.optimizer)
    if chosen.counts == "on":
        check_steps(found, asked.steps)
        check_batches(found, asked)
        window = found.job.training.faults.window
        if asked.faults.window != window:
            raise UserError(
                f"{KEY}: {found.name} remembers its last {window} steps to judge the next by, but pretrain.faults.window is "
                f"{asked.faults.window}. Fix: set it to {window}, or {KEY}.counts to anew."
            )
        check_schedule(found, asked.steps, asked.optimizer)


def check_shape(found: FoundStart, model: ModelConfig) -> None:
    """UserError for a model whose weights mean something else than the checkpoint's."""
    before, now = decisive(found.job.model), decisive(model)
    differing = [
        f"model.{key} is {now.get(key, 'absent')}, there it was {before.get(key, 'absent')}"
        for key in sorted({*before, *now})
        if now.get(key) != before.get(key)
    ]
    if differing:
        raise UserError(f"{KEY}: {found.name} is another model: {'; '.join(differing)}. Fix: take its section model, or leave start out.")


def decisive(model: ModelConfig) -> dict[str, Json]:
    """What decides shape and meaning of the weights, with the defaults resolved; dropout, windows and angles may change under them."""
    told: dict[str, Json] = {
        "family": model.family,
        "layers": model.layers,
        "width": model.width,
        "activation": model.mlp_activation,
        "tie_embeddings": model.tie_embeddings,
    }
    if model.is_recurrent:
        return told
    told |= {
        "heads": model.heads,
        "kv_heads": model.key_value_heads,
        "head_dim": model.head_width,
        "mlp_width": model.hidden_width,
        "positions": model.position_kind,
        "bias": model.attention_bias,
        "qk_norm": model.qk_norm,
        "token_types": model.segment_kinds,
    }
    if model.family == "seq2seq":
        told["decoder_layers"] = model.decoder_depth
    if model.position_kind == "learned":
        told["context"] = model.context
    return told


def check_optimizer(found: FoundStart, optimizer: OptimizerConfig) -> None:
    """UserError where the checkpoint's moments are those of another optimizer."""
    before = found.job.optimizer.kind
    if before != optimizer.kind:
        raise UserError(
            f"{KEY}: {found.name} was trained with optimizer.kind {before}, and this recipe says {optimizer.kind}, which has other "
            f"moments. Fix: set pretrain.optimizer.kind to {before}, or {KEY}.counts to anew and keeps_moments to false."
        )


def check_steps(found: FoundStart, steps: int) -> None:
    """UserError where nothing is left to train."""
    if steps <= found.step:
        raise UserError(
            f"pretrain.steps is {steps}, but {found.name} has done {found.step} steps at the checkpoint that {KEY} names, and counts on "
            f"counts them. Fix: set pretrain.steps above {found.step}, take an earlier step, or set {KEY}.counts to anew."
        )


def check_batches(found: FoundStart, asked: PretrainConfig) -> None:
    """UserError where steps that are done would have taken other batches, so that data would not go on where they ended."""
    before, now = BatchSteps(found.job.training.step_batches), asked.batch_steps
    if before.until(found.step) == now.until(found.step):
        return
    told = ", ".join(f"{phase.batches} a step from step {phase.from_step} on" for phase in before.until(found.step)) or "one a step"
    raise UserError(
        f"{KEY}: {found.name} took {before.before(found.step)} batches in its {found.step} steps ({told}), and by pretrain.batch_schedule "
        f"they would have been {now.before(found.step)}, so that data would not go on where they ended. Fix: give it the phases that it "
        f"had before step {found.step}, with others from there on, or set {KEY}.counts to anew."
    )


def check_schedule(found: FoundStart, steps: int, optimizer: OptimizerConfig) -> None:
    """UserError where the learning rate would jump: at the last step that was done, both schedules must say the same."""
    before, now = _rates(found, found.step, steps, optimizer)
    if _agree(before, now):
        return
    fitting = [step for step in found.kept if step < min(found.step, steps) and _agree(*_rates(found, step, steps, optimizer))]
    if fitting:
        fix = f"set {KEY}.step to {fitting[-1]}, the last kept step at which both agree"
    else:
        fix = "no checkpoint was kept of a step at which both agree (pretrain.keep_every keeps such, where decay is wsd or constant)"
    theirs, ours = _decays(found.step, found.job.training.steps, found.job.optimizer), _decays(found.step, steps, optimizer)
    raise UserError(
        f"{KEY}: at step {found.step} the learning rate of {found.name} was {before:.4g} ({theirs}), and by this recipe's schedule it "
        f"would be {now:.4g} ({ours}): a jump. Fix: {fix}; or set {KEY}.counts to anew, where optimizer.warmup_steps warms up once more."
    )


def _decays(step: int, steps: int, optimizer: OptimizerConfig) -> str:
    """The state of a schedule at a step, in words."""
    stable = stable_steps(steps, optimizer)
    since = f", decaying since step {stable}" if stable < step else ""
    return f"{optimizer.decay} over {steps} steps{since}"


def _rates(found: FoundStart, step: int, steps: int, optimizer: OptimizerConfig) -> tuple[float, float]:
    """Of the last step that is done at `step`, by the checkpoint's own schedule and by the new one."""
    return learning_rate(step - 1, found.job.training.steps, found.job.optimizer), learning_rate(step - 1, steps, optimizer)


def _agree(before: float, now: float) -> bool:
    return abs(now - before) <= SAME_RATE * max(before, now)


def told_of(found: FoundStart, config: Pretraining, context: int) -> list[str]:
    """What is reused, what is not as it was, and what was passed over: a line each. `context` is that of the shards."""
    chosen, now = config.pretrain.start, config.pretrain
    assert chosen is not None
    lines = [f"{KEY}: {damage}; passed over for step {found.step}" for damage in found.passed_over]
    at = f"pretrain goes on from {found.name} step {found.step}"
    if chosen.counts == "anew":
        reused = "weights and the optimizer's moments" if chosen.keeps_moments else "weights"
        warm = (
            f"warms up over {now.optimizer.warmup_steps} steps" if now.optimizer.warmup_steps else "begins at its peak, without a warm-up"
        )
        return [*lines, f"{at}: its {reused} are reused; steps count anew, data begin at step 0, the learning rate {warm}"]
    lines.append(f"{at}: {found.step} of {now.steps} steps are reused, data go on at step {found.step}")
    changed = changes(found, config, context)
    return [*lines, f"{KEY}: from step {found.step} on it is another training: {', '.join(changed)}"] if changed else lines


def changes(found: FoundStart, config: Pretraining, context: int) -> list[str]:
    """What differs, apart from the schedule, by key of the recipe: `seed 1 → 2`."""
    job, now = found.job, config.pretrain
    pairs: dict[str, tuple[Json, Json]] = {
        "rows of a batch": (job.training.batch_rows, training_config(now, context).batch_rows),
        "batches of a step": (
            [asdict(one) for one in job.training.step_batches],
            [asdict(one) for one in now.batch_steps.phases],
        ),
        "seed": (job.training.seed, now.seed),
        "mixture": ([asdict(one) for one in job.mixture], [asdict(one) for one in now.mixture]),
        "curriculum": ([asdict(one) for one in job.curriculum], [asdict(one) for one in now.curriculum]),
        "window_groups": (job.window_groups, now.window_groups),
        "objective": (job.objective.kind, now.objective.kind),
        "document_mask": (job.document_mask, config.masks_documents),
        "dropout": (job.model.dropout, config.shape.dropout),
        "weight_decay": (job.optimizer.weight_decay, now.optimizer.weight_decay),
        "momentum": (job.optimizer.momentum, now.optimizer.momentum),
        "clip_norm": (job.optimizer.clip_norm, now.optimizer.clip_norm),
        "precision": (job.training.precision, now.precision),
    }
    return [f"{key} {_short(before)} → {_short(after)}" for key, (before, after) in pairs.items() if before != after]


def _short(value: Json) -> str:
    text = json.dumps(value) if isinstance(value, list | dict | bool | None) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
