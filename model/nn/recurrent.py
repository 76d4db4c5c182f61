"""Recurrent trunks: a state is carried from token to token. B rows, T tokens, C channels, N layers."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from model.config.model_config import ModelConfig
from model.data.packed_documents import Documents
from model.nn.layers import initialize

Hidden = Tensor | tuple[Tensor, Tensor]  # [N, B, C]; of an LSTM two


class RecurrentState:
    """What the model remembers of the tokens it has read; None: nothing yet."""

    def __init__(self) -> None:
        self.hidden: Hidden | None = None
        self.longest = 0  # tokens read

    def reorder(self, rows: Tensor) -> None:
        """Row i becomes what row rows[i] was."""
        if isinstance(self.hidden, tuple):
            self.hidden = (self.hidden[0][:, rows], self.hidden[1][:, rows])
        elif self.hidden is not None:
            self.hidden = self.hidden[:, rows]


class Recurrent(nn.Module):
    """Embedding and layers of RNN, LSTM or GRU cells as wide as it, so that the softmax can be tied to it.

    Dropout: on the embedding, between layers and at the end, not on the carried state. Source: arXiv 1409.2329.
    """

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.config, self.vocab_size = config, vocab_size
        self.compute_dtype: torch.dtype | None = None
        self.embedding = nn.Embedding(vocab_size, config.width)
        self.cells = _build_cells(config)
        initialize(self, config)

    def forward(
        self,
        ids: Tensor,
        documents: Documents | None = None,
        lengths: Tensor | None = None,
        token_types: Tensor | None = None,
        cache: RecurrentState | None = None,
    ) -> Tensor:
        """ids [B, T] int64 -> hidden [B, T, C]. Under `documents` each begins with an empty state.

        With a state, `ids` continue what it has read. Padding must be on the right; `lengths` and `token_types` say nothing
        to this trunk. Gradients reach back `carry_tokens`, where that is set; the state goes on.
        """
        x = F.dropout(self._embed(ids), self.config.dropout, self.training)
        if documents is not None:
            y = documents.scatter([self._run(part, RecurrentState()) for part in documents.gather(x)])
        else:
            state = RecurrentState() if cache is None else cache
            y = self._run(x, state)
            state.longest += ids.shape[1]
        return F.dropout(y, self.config.dropout, self.training)

    def new_cache(self, rows: int) -> RecurrentState:
        """An empty state."""
        del rows
        return RecurrentState()

    def prefill(self, ids: Tensor, lengths: Tensor, cache: RecurrentState) -> Tensor:
        """Reads prompts, padded on the right, into an empty state: hidden states of their last tokens [B, C]."""
        packed = pack_padded_sequence(self._embed(ids), lengths.cpu(), batch_first=True, enforce_sorted=False)
        y, cache.hidden = self.cells(packed, cache.hidden)
        cache.longest = ids.shape[1]
        hidden, _ = pad_packed_sequence(y, batch_first=True)
        return hidden[torch.arange(len(ids), device=ids.device), lengths - 1]

    def extend(self, ids: Tensor, cache: RecurrentState) -> Tensor:
        """One more token of each row, ids [B, 1] -> hidden [B, C]."""
        return self(ids, cache=cache)[:, -1]

    def _embed(self, ids: Tensor) -> Tensor:
        """In the weights' dtype: the cells compute in no other."""
        return self.embedding(ids)

    def _run(self, x: Tensor, state: RecurrentState) -> Tensor:
        """x [B, T, C] -> [B, T, C], the state moved on."""
        reach = self.config.carry_tokens or x.shape[1]
        outputs: list[Tensor] = []
        for chunk in x.split(reach, dim=1):
            y, state.hidden = self.cells(chunk, _detached(state.hidden))
            outputs.append(y)
        return torch.cat(outputs, dim=1)


def _detached(hidden: Hidden | None) -> Hidden | None:
    if isinstance(hidden, tuple):
        return hidden[0].detach(), hidden[1].detach()
    return None if hidden is None else hidden.detach()


def _build_cells(config: ModelConfig) -> nn.RNNBase:
    dropout = config.dropout if config.layers > 1 else 0.0
    size = (config.width, config.width, config.layers)
    if config.family == "lstm":
        return nn.LSTM(*size, batch_first=True, dropout=dropout)
    if config.family == "gru":
        return nn.GRU(*size, batch_first=True, dropout=dropout)
    activation = "relu" if config.mlp_activation == "relu" else "tanh"
    return nn.RNN(*size, batch_first=True, dropout=dropout, nonlinearity=activation)
