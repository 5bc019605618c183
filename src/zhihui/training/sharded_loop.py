"""The loop over sharded weights: what HF's trainer does otherwise where each process holds a part."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers.utils import SAFE_WEIGHTS_NAME

from zhihui.encoder.encoder import Encoder
from zhihui.training.loop import Loop
from zhihui.training.sharding import Sharded, clip, gather_into, read_moments, scatter, whole_state, write_moments

_SCHEDULE = "scheduler.pt"


class ShardedLoop(Loop):
    """The loop for a trainee whose encoder is sharded, beside the whole encoder that the first process keeps."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        """Build it as a `Loop`."""
        super().__init__(*arguments, **settings)
        self.agreed = self.processes.extremes

    @contextmanager
    def whole(self) -> Iterator[Encoder]:
        """Lend the encoder with the weights as they are now; only the first process's has them."""
        self.publish()
        yield self.encoder
        if self.processes.first:
            self.encoder.to("cpu")

    def publish(self) -> None:
        """Gather the weights into the first process's encoder."""
        gather_into(self.encoder, self.trainee.encoder, self.processes)
        if self.processes.first:
            self.encoder.to(self.args.device)

    def clip(self, model: Any) -> Any:
        """Scale gradients to the largest norm allowed and return their norm before."""
        return clip(list(model.parameters()), self.args.max_grad_norm)

    def create_optimizer(self, model: Any = None) -> Any:
        """Create the optimiser; no group of parameters has some that are split and some that are not."""
        optimizer = super().create_optimizer(model)
        apart = None if self.trainee.learned is None else self.trainee.learned.log
        for group in optimizer.param_groups if apart is not None else ():
            if len(group["params"]) > 1 and any(p is apart for p in group["params"]):
                group["params"] = [p for p in group["params"] if p is not apart]
                optimizer.add_param_group({**group, "params": [apart]})
                break
        return optimizer

    def _wrap_model(self, model: Any, training: bool = True, dataloader: Any = None) -> Any:
        return Sharded(model)  # what is not the model itself is not wrapped in DistributedDataParallel

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, whole_state(self.trainee, keep=self.processes.first))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        scatter(self.trainee, load_file(Path(resume_from_checkpoint) / SAFE_WEIGHTS_NAME))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        write_moments(self.optimizer, self._moments(output_dir))
        if self.processes.first:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / _SCHEDULE)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            read_moments(self.optimizer, self._moments(checkpoint))
            self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / _SCHEDULE, weights_only=True))

    def _moments(self, folder: str) -> Path:
        return Path(folder) / f"moments-{self.processes.rank}.pt"
