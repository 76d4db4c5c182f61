"""Activation checkpointing: what a block gave inside is let go behind its forward pass and computed again for its backward pass.

Source: arXiv 1604.06174. "full" keeps a block's input alone. "selective" keeps the results of its matrix products, of stock
attention too, and computes again what is cheap: norms, activations, rotations, sums. Random numbers are those of the first time.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import CheckpointPolicy, SelectiveCheckpointContext, checkpoint, create_selective_checkpoint_contexts

from model.config.layout_config import Recomputed

aten = torch.ops.aten
# Not bmm: in blocked_attention.py its results are overwritten, so those blocks are computed again.
KEPT = frozenset(
    {
        aten.mm.default,
        aten.addmm.default,
        aten._scaled_mm.default,
        aten._scaled_dot_product_flash_attention.default,
        aten._scaled_dot_product_flash_attention_for_cpu.default,
        aten._scaled_dot_product_efficient_attention.default,
        aten._scaled_dot_product_cudnn_attention.default,
        aten._scaled_dot_product_fused_attention_overrideable.default,
        torch.ops.higher_order.flex_attention,
    }
)


def recomputed(block: Callable[[Tensor], Tensor], x: Tensor, kind: Recomputed) -> Tensor:
    """`block(x)`; in training with little of it kept for the backward pass."""
    if kind == "none" or not torch.is_grad_enabled():
        return block(x)
    if kind == "full":
        whole: Tensor = checkpoint(block, x, use_reentrant=False)
        return whole
    y: Tensor = checkpoint(block, x, use_reentrant=False, context_fn=_selective)  # by its name, which torch.compile asks for
    return y


def _selective() -> tuple[TorchDispatchMode, TorchDispatchMode]:
    return create_selective_checkpoint_contexts(_policy)


def _policy(context: SelectiveCheckpointContext, op: object, *given: object, **named: object) -> CheckpointPolicy:
    del context, given, named
    return CheckpointPolicy.MUST_SAVE if op in KEPT else CheckpointPolicy.PREFER_RECOMPUTE
