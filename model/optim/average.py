"""Averaged weights: an exponential moving average (EMA) of every step's, or the mean of the last N at intervals.

Of the weights that learn. Memory, beside the training's own: 4 bytes a parameter for an EMA, 4 N for the last N, and in a
validation 4 more, for the weights that the average stands in for; a checkpoint is larger by the first two.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from model.config.training_config import AverageConfig

COUNT = "count"


class Average:
    """Begins with the weights as they are. A part of the training's state: it goes on from a checkpoint to the last bit."""

    def __init__(self, config: AverageConfig, model: nn.Module) -> None:
        self.config = config
        self._weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        device = next(iter(self._weights.values())).device
        self._steps = torch.zeros((), dtype=torch.float32, device=device)  # taken, of an EMA
        self._times = 0  # that weights were held, of the last N
        self._held: dict[str, Tensor] = {}  # of an EMA as the weights; else [N, …]
        for name, weight in self._weights.items():
            held = weight.detach()
            self._held[name] = held.clone() if config.last is None else torch.zeros(config.last, *held.shape, device=device)

    @torch.no_grad()
    def add(self, step: int, takes: Tensor) -> None:
        """Behind optimizer step number `step`, from 1. `takes` (bool scalar on the device): a skipped step moves no EMA.

        What is held of a skipped step at an interval is the weights of the step before, which are then the newest.
        """
        if self.config.ema is not None:
            weight = (1 - self._keeps(self.config.ema)) * takes
            for name, held in self._held.items():
                held.lerp_(self._weights[name], weight)
            self._steps += takes
        elif step % self.config.every == 0:
            for held, weight in zip(self._held.values(), self._weights.values(), strict=True):
                held[self._times % len(held)] = weight
            self._times += 1

    def _keeps(self, ema: float) -> Tensor:
        """Of the average in a step: less in early ones, so that the weights of the beginning are soon forgotten."""
        return ((1 + self._steps) / (10 + self._steps)).clamp(max=ema)

    @contextmanager
    def in_place(self) -> Generator[None]:
        """Meanwhile the model has the averaged weights; then its own again, bit for bit."""
        own = {name: weight.detach().clone() for name, weight in self._weights.items()}
        self.put()
        try:
            yield
        finally:
            self._set(own)

    def put(self) -> None:
        """Gives the model the averaged weights; its own, where nothing was held yet."""
        if self.config.ema is not None:
            self._set(self._held)
        elif self._times:
            self._set({name: held[: self._times].mean(dim=0) for name, held in self._held.items()})

    @torch.no_grad()
    def _set(self, weights: Mapping[str, Tensor]) -> None:
        for name, weight in self._weights.items():
            weight.copy_(weights[name])

    def state(self) -> dict[str, Tensor]:
        """To be stored with a checkpoint."""
        return {**self._held, COUNT: self._steps if self.config.last is None else torch.tensor(float(self._times))}

    def fits(self, state: Mapping[str, Tensor]) -> bool:
        """Whether `state` is that of an average of this kind and length, over these weights."""
        own = self.state()
        return own.keys() == state.keys() and all(own[name].shape == found.shape for name, found in state.items())

    def load(self, state: Mapping[str, Tensor]) -> None:
        """What `state` gave."""
        for name, held in self._held.items():
            held.copy_(state[name])
        self._steps.copy_(state[COUNT])
        self._times = int(state[COUNT])
