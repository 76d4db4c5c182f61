"""Peak arithmetic: floating-point operations a second that a processor could do in a dtype, and those that a model's training needs.

The share of the one that the other takes is the MFU, model FLOP/s utilization: arXiv 2204.02311, appendix B.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn

from model.nn.models import LanguageModel, MaskedLanguageModel, Model, Seq2SeqModel
from model.training.budget import flops_per_token, trunk_flops_per_token
from model.training.data_sheets import sheet_of
from model.training.norms import layers_of

BUDGET_SECONDS = 0.4  # that a measurement may take
TRIES = 3
LONGEST_TRY = 0.08  # seconds
SIDES = {"cpu": 2048, "cuda": 8192}  # of the largest matrix tried


@dataclass(frozen=True)
class Peak:
    """What a processor could do at best."""

    flops: float  # a second
    told: str  # where the figure comes from, in words


def measured_peak(device: torch.device, dtype: torch.dtype) -> Peak:
    """Of this process' device: from the data sheet of a GPU that is known, else the best product of two matrices in `dtype`.

    A measurement is taken once a process, with its number of threads, in under half a second, beside whatever else runs there.
    """
    if device.type == "cuda":
        found = of_data_sheet(torch.cuda.get_device_name(device), dtype)
        if found is not None:
            return found
    return _measure(device, dtype, torch.get_num_threads())


def of_data_sheet(name: str, dtype: torch.dtype) -> Peak | None:
    """Of a GPU by the name that its driver tells; None for one that is not listed, a part of one (MIG), a laptop's, and other dtypes.

    bfloat16 is none of those that a V100 or T4 has, whose figure is float16's.
    """
    sheet = sheet_of(name)
    if sheet is None or dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return None
    if dtype == torch.bfloat16 and sheet.names[0] in ("V100", "T4"):
        return None
    flops = sheet.single if dtype == torch.float32 else sheet.half
    return Peak(flops * 1e12, f"{name}, {_short(dtype)}, dense: {flops:g} TFLOP/s ({sheet.source})")


@cache
def _measure(device: torch.device, dtype: torch.dtype, threads: int) -> Peak:
    ends = time.perf_counter() + BUDGET_SECONDS
    side, seconds = 256, 0.0
    _product_seconds(device, dtype, side)  # the first one prepares kernels
    while True:
        seconds = _product_seconds(device, dtype, side)
        if side >= SIDES.get(device.type, 2048) or 8 * seconds > LONGEST_TRY:
            break
        side *= 2
    best = seconds
    for _ in range(TRIES):
        if time.perf_counter() + seconds > ends:
            break
        best = min(best, _product_seconds(device, dtype, side))
    flops = 2 * side**3 / best
    where = f"{threads} thread{'' if threads == 1 else 's'} of this CPU" if device.type == "cpu" else f"this {device.type} device"
    return Peak(flops, f"{where}, {_short(dtype)}: {flops / 1e9:.3g} GFLOP/s, measured by a product of two {side} x {side} matrices")


def _product_seconds(device: torch.device, dtype: torch.dtype, side: int) -> float:
    a = torch.ones(side, side, device=device, dtype=dtype)
    _wait(device)
    started = time.perf_counter()
    with torch.no_grad():
        torch.mm(a, a)
    _wait(device)
    return max(time.perf_counter() - started, 1e-9)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def flops_of(model: Model, tokens_per_row: float) -> float:
    """Operations of training on one token, forward and backward, in rows of `tokens_per_row` tokens on average.

    Heads of pretraining are counted as in `flops_per_token`; of other heads, which are small, nothing. Of frozen weights no
    gradient is counted, and no gradient of activations below the lowest layer that is trained; adapters cost nothing here, and
    products of queries with keys are scaled as the layers' matrices are. So a model with frozen parts is told at most what it does.
    """
    config, tokens = model.trunk.config, max(1, round(tokens_per_row))
    if isinstance(model, LanguageModel | MaskedLanguageModel | Seq2SeqModel):
        whole = flops_per_token(config, model.trunk.vocab_size, tokens)
    else:
        whole = trunk_flops_per_token(config, tokens)
    return whole / 3 * (1 + _trained_share(model) + _share_above(layers_of(model.trunk), model.trunk.embedding))


def _trained_share(model: nn.Module) -> float:
    """Of the weights, how many are trained."""
    counts = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(count for count, is_trained in counts if is_trained) / sum(count for count, _ in counts)


def _share_above(layers: Mapping[str, nn.Module], embedding: nn.Module) -> float:
    """Of the layers, how many lie above something that is trained, or are trained themselves."""
    if _is_trained(embedding):
        return 1.0
    lowest = next((number for number, layer in enumerate(layers.values()) if _is_trained(layer)), len(layers))
    return 1 - lowest / len(layers)


def _is_trained(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())
