"""KV cache: what a transformer keeps while it writes. B rows, T new tokens, G key and value heads, D channels a head, S positions."""

import torch
import torch.nn.functional as F
from torch import Tensor

from model.config.model_config import ModelConfig

SPARE_POSITIONS = 64  # that a cache grows by at the least


class KeyValueCache:
    """Keys and values of the tokens a model has seen, for generation; rows may have different lengths.

    It grows by doubling, so that a token costs its own keys and values and no copy of the others. While all rows are equally
    long, tokens are written in one slice and attention needs no mask. On the CPU it is float32 whatever the model computes in:
    attention of a single query is 2 to 5 times slower in bfloat16 there (torch 2.13, AVX512-BF16).
    """

    def __init__(self, config: ModelConfig, layers: int, rows: int, device: torch.device, dtype: torch.dtype) -> None:
        self.context = config.context
        shape = (rows, config.key_value_heads, 0, config.head_width)
        dtype = torch.float32 if device.type == "cpu" and dtype == torch.bfloat16 else dtype
        self.keys = [torch.empty(shape, device=device, dtype=dtype) for _ in range(layers)]
        self.values = [torch.empty(shape, device=device, dtype=dtype) for _ in range(layers)]
        self.lengths = torch.zeros(rows, dtype=torch.int64, device=device)  # valid positions of each row
        self.shortest = self.longest = 0  # of `lengths`, kept here so that a GPU need not be asked
        self.memory: list[tuple[Tensor, Tensor]] = []  # of a decoder: each layer's keys and values of the source
        self.memory_keys: Tensor | None = None  # [B, 1, 1, S] bool: where the source is no padding
        self._masks: dict[int, Tensor] = {}  # by window, of the tokens that are being stored

    def positions(self, tokens: int) -> Tensor:
        """Where the next `tokens` tokens go: [T], or [B, T] where rows have different lengths."""
        if self.shortest == self.longest:
            return torch.arange(self.longest, self.longest + tokens, device=self.lengths.device)
        return self.lengths[:, None] + torch.arange(tokens, device=self.lengths.device)

    def store(self, layer: int, keys: Tensor, values: Tensor, window: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Puts [B, G, T, D] behind each row's valid positions; `advance` counts them once all layers have done so.

        Returns keys and values [B, G, S, D] of all positions that some row sees within `window` (0: endless), and which of
        them each token sees: [T, S] or [B, 1, T, S] bool, None for all.
        """
        tokens, end = keys.shape[2], self.longest + keys.shape[2]
        if end > self.keys[layer].shape[2]:
            room = min(self.context, max(end + SPARE_POSITIONS, 2 * self.keys[layer].shape[2]))
            self.keys[layer], self.values[layer] = (
                F.pad(held, (0, 0, 0, room - held.shape[2])) for held in (self.keys[layer], self.values[layer])
            )
        all_keys, all_values = self.keys[layer], self.values[layer]
        if self.shortest == self.longest:
            all_keys[:, :, self.longest : end] = keys
            all_values[:, :, self.longest : end] = values
        else:
            index = self.positions(tokens)[:, None, :, None].expand_as(keys)
            all_keys.scatter_(2, index, keys.to(all_keys.dtype))
            all_values.scatter_(2, index, values.to(all_values.dtype))
        start = max(0, self.shortest + 1 - window) if window else 0
        mask = None if tokens == 1 and self.shortest == self.longest else self._mask(tokens, start, window)
        return all_keys[:, :, start:end], all_values[:, :, start:end], mask

    def advance(self, tokens: int) -> None:
        """Counts the tokens that every layer has stored."""
        self.lengths += tokens
        self.shortest += tokens
        self.longest += tokens
        self._masks.clear()

    def truncate(self, lengths: Tensor) -> None:
        """Forgets what lies behind `lengths` [B]: the padding of prompts of unequal length."""
        self.lengths = lengths.to(self.lengths.device, copy=True)
        self._measure()

    def reorder(self, rows: Tensor) -> None:
        """Row i becomes what row rows[i] was: beams that go on, copies of a prompt, rows that have not ended."""
        rows = rows.to(self.lengths.device)
        for layer in range(len(self.keys)):
            self.keys[layer], self.values[layer] = self.keys[layer][rows], self.values[layer][rows]
        self.memory = [(keys[rows], values[rows]) for keys, values in self.memory]
        self.memory_keys = None if self.memory_keys is None else self.memory_keys[rows]
        self.lengths = self.lengths[rows]
        if self.shortest != self.longest:
            self._measure()

    def _measure(self) -> None:
        counts = self.lengths.tolist()
        self.shortest, self.longest = min(counts), max(counts)

    def _mask(self, tokens: int, start: int, window: int) -> Tensor:
        """[T, S] or [B, 1, T, S] bool, the same for all layers of a window."""
        if window not in self._masks:
            positions = self.positions(tokens)
            keys = torch.arange(start, self.longest + tokens, device=positions.device)
            distance = positions[..., None] - keys
            mask = (distance >= 0) & (distance < window) if window else distance >= 0
            self._masks[window] = mask if mask.dim() == 2 else mask[:, None]
        return self._masks[window]
