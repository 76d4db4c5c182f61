"""Optimizers by kind: which parameters follow which rule, which are decayed, and steps that the device itself decides on."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from model.config.training_config import OptimizerConfig, OptimizerKind
from model.nn.name_patterns import check_patterns, last_match
from model.optim.adafactor import Adafactor
from model.optim.adamw import FusedAdamW, ShortAdamW
from model.optim.lion import Lion
from model.optim.matrices import Parts, hidden_matrices
from model.optim.muon import Muon
from model.optim.rules import ByRules, Rule

MOMENTS = frozenset({"exp_avg", "exp_avg_sq", "step"})
STATE_KEYS: Mapping[OptimizerKind, frozenset[str]] = {  # what a checkpoint may hold of a parameter
    "adamw": MOMENTS,
    "muon": MOMENTS | {"momentum"},
    "lion": frozenset({"average"}),
    "sgd": frozenset({"momentum_buffer"}),
    "adafactor": frozenset({"rows", "columns", "variance", "step"}),
}


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Over the trainable parameters. Decayed are matrices and embeddings, not biases and norms, nor what `no_decay` names.

    Raises ValueError for patterns that match no parameter, and for a kind that has nothing to learn here.
    """
    matrices = hidden_matrices(model) if config.kind == "muon" else {}
    if config.kind == "muon" and not matrices:
        raise ValueError("optimizer.kind muon: no hidden matrix of this model learns, and the rest is AdamW's; set kind to adamw")
    groups = _groups(model, config, matrices)
    if config.kind == "adamw" and config.state_dtype == "float32":
        return torch.optim.AdamW(
            groups,
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
            eps=config.epsilon,
            fused=True,  # on a CPU 7M parameters take 4 ms instead of 18
        )
    if config.kind == "sgd":
        return _sgd(groups, config)
    shared = any(isinstance(parameter, DTensor) for parameter in model.parameters())
    if config.kind == "adafactor" and shared:
        raise ValueError("optimizer.kind adafactor needs whole weights, but the layout shards them; set kind to adamw, muon or lion")
    state_dtype = torch.bfloat16 if config.state_dtype == "bfloat16" else torch.float32
    rules: dict[str, Rule] = {
        "adamw": FusedAdamW(config) if config.state_dtype == "float32" else ShortAdamW(config),
        "muon": Muon(matrices, config.momentum, state_dtype),
        "lion": Lion(config, state_dtype),
        "adafactor": Adafactor(),
    }
    return ByRules(config.kind, groups, rules)


def _groups(model: nn.Module, config: OptimizerConfig, matrices: Mapping[nn.Parameter, Parts]) -> list[dict[str, object]]:
    """Parameters that share a rule, a decay and a rate; the rate is that of the schedule times `factor`."""
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    names = [name for name, _ in named]
    factors = [one.names for one in config.rate_factors]
    check_patterns("optimizer.no_decay", config.no_decay, names)
    check_patterns("optimizer.rate_factors", factors, names)
    found: dict[tuple[str, float, float], list[nn.Parameter]] = {}
    for is_vector in (False, True):
        for name, parameter in named:
            if (parameter.dim() < 2) != is_vector:
                continue
            keeps = is_vector or last_match(name, config.no_decay) is not None
            match = last_match(name, factors)
            factor = 1.0 if match is None else config.rate_factors[match].factor
            rule = "adamw" if config.kind == "muon" else config.kind
            if parameter in matrices:
                rule = "muon"
                factor *= 1.0 if config.matrix_learning_rate is None else config.matrix_learning_rate / config.learning_rate
            found.setdefault((rule, 0.0 if keeps else config.weight_decay, factor), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "factor": factor, "lr": factor * config.learning_rate, "rule": rule}
        for (rule, decay, factor), parameters in found.items()
    ]


def _sgd(groups: list[dict[str, object]], config: OptimizerConfig) -> torch.optim.SGD:
    """Fused, with momentum. Decay is added to the gradient, as ever in SGD: it goes through the momentum too."""
    optimizer = torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, fused=True)
    if config.momentum:
        for group in optimizer.param_groups:
            for parameter in group["params"]:  # torch would make them in the first step, and leave them unset were that one skipped
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def kind_of(optimizer: torch.optim.Optimizer) -> OptimizerKind:
    """By its class."""
    if isinstance(optimizer, ByRules):
        return optimizer.kind
    return "sgd" if isinstance(optimizer, torch.optim.SGD) else "adamw"


def kind_with(keys: Collection[str]) -> OptimizerKind | None:
    """The kind whose checkpoints hold these keys; None for those of no kind here."""
    fitting = [kind for kind, known in STATE_KEYS.items() if set(keys) <= known]
    return min(fitting, key=lambda kind: len(STATE_KEYS[kind]), default=None)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The rate of the next step, for every parameter, times its group's factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


def step_where(optimizer: torch.optim.Optimizer, takes: Tensor) -> None:
    """Steps if `takes` (bool scalar on the device), else leaves weights, moments and count as they are; nothing waits for it.

    The fused kernels leave out a step where `found_inf` is 1, which torch's GradScaler sets the same way (torch 2.13,
    torch/amp/grad_scaler.py).
    """
    optimizer.found_inf = (~takes).float()  # type: ignore[attr-defined]
    optimizer.grad_scale = None  # type: ignore[attr-defined]
    optimizer.step()
