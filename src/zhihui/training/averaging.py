"""Model averaging: the exponential moving average of the weights over the steps, often better than the last of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from zhihui.training.sharding import local, part_of, whole

_FILE = "average.safetensors"


class Average:
    """The average of a model's trained weights: avg ← d·avg + (1 - d)·weights, d = min(decay, (1 + t) / (10 + t))."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Begin at the model's weights; the rising d lets go of them soon."""
        self.decay, self.steps = decay, 0
        self.trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.average = {name: p.detach().clone() for name, p in self.trained.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, p in self.trained.items():
            self.average[name].lerp_(p.to(self.average[name].dtype), 1.0 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the model have the averaged weights for a while."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def apply(self) -> None:
        """Let the model keep the averaged weights."""
        for name, p in self.trained.items():
            p.copy_(self.average[name])

    @torch.no_grad()
    def _swap(self) -> None:
        for name, p in self.trained.items():
            kept = p.clone()
            p.copy_(self.average[name])
            self.average[name].copy_(kept)

    def write(self, folder: Path, *, first: bool) -> None:
        """Write the state into a folder; all processes call it, the first writes."""
        state = {name: whole(tensor) for name, tensor in self.average.items()}
        if first:
            save_file(state, folder / _FILE)

    def read(self, folder: Path, steps: int) -> None:
        """Take over what `write` wrote after so many steps."""
        self.steps = steps
        for name, tensor in load_file(folder / _FILE).items():
            own = self.average[name]
            local(own).copy_(part_of(tensor, own))
