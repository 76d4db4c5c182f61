"""Hidden matrices: the weights between hidden states, apart from embeddings, heads, norms and biases."""

from torch import nn

from model.nn.attention import Attention, CrossAttention
from model.nn.layers import GatedMlp

TRUNK = "trunk."
Parts = tuple[int, ...]  # rows of each matrix that a weight is made of


def hidden_matrices(model: nn.Module) -> dict[nn.Parameter, Parts]:
    """Those of the trunk that learn, with the rows of what is one weight and several matrices: queries, keys and values; gates."""
    found: dict[nn.Parameter, Parts] = {}
    for module in model.modules():
        if isinstance(module, Attention):
            heads, kv_heads = module.heads * module.head_width, module.kv_heads * module.head_width
            found[module.qkv.weight] = (heads, kv_heads, kv_heads)
        elif isinstance(module, CrossAttention):
            found[module.key_value.weight] = (len(module.key_value.weight) // 2,) * 2
        elif isinstance(module, GatedMlp):
            found[module.gate_up.weight] = (len(module.gate_up.weight) // 2,) * 2
        elif isinstance(module, nn.RNNBase):
            gates = {weight: len(weight) // module.hidden_size for weight in module.parameters() if weight.dim() == 2}
            found.update({weight: (module.hidden_size,) * count for weight, count in gates.items()})
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name.startswith(TRUNK):
            found.setdefault(module.weight, (len(module.weight),))
    return {weight: parts for weight, parts in found.items() if weight.requires_grad}
