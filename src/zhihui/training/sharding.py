"""Sharding (FSDP2): weights, gradients and the optimiser's moments are split over the processes of torchrun.

Layers are gathered as they are needed and let go of again. Gradients are held whole until the last chunk of a step, and
then summed and split in one go. The encoder that was given stays apart, whole, in the first process: what is measured,
kept and exported is that one, after the trained weights were gathered into it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from zhihui.encoder.encoder import Encoder
from zhihui.encoder.packing import Packed
from zhihui.errors import InputError
from zhihui.training.processes import Processes


class Sharded(nn.Module):
    """A module of which each process holds a part; it is called as the module is."""

    def __init__(self, module: nn.Module) -> None:
        """Put the context of unsynchronised passes around a module whose `encoder` is sharded."""
        super().__init__()
        self.module = module

    def forward(self, packed: Packed) -> Tensor:
        """Return the vectors of packed sequences `[B, D]`; all processes call it equally often."""
        vectors: Tensor = self.module(packed)
        return vectors

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Keep gradients whole, in this process, for the backward passes within."""
        self._synchronise(False)
        try:
            yield
        finally:
            self._synchronise(True)

    def _synchronise(self, whether: bool) -> None:
        encoder: Any = self.module.encoder
        encoder.set_requires_gradient_sync(whether)


def sharded(encoder: Encoder, processes: Processes, *, bf16: bool) -> Encoder:
    """Return a copy of an encoder whose weights are split over the processes; the given one goes to the CPU.

    Args:
        encoder: the same in every process; only the first keeps its weights.
        processes: two or more.
        bf16: gather weights, and compute, in bf16.

    Raises:
        InputError: the encoder's layers are not to be found.
    """
    device = encoder.device
    encoder.to("cpu")
    twin = copy.deepcopy(encoder)
    if not processes.first:
        encoder.to("meta")
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if bf16 else None,
        reduce_dtype=torch.float32 if bf16 else None,
        cast_forward_inputs=False,  # token ids and positions
    )
    mesh = init_device_mesh(device.type, (processes.size,))
    for layer in _layers(twin):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(twin, mesh=mesh, mp_policy=policy)
    return twin


def _layers(encoder: Encoder) -> list[nn.Module]:
    """Return the blocks of a backbone: the longest list of modules in it."""
    lists = [module for module in encoder.backbone.modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise InputError(f"{encoder.name}: has no list of layers to shard by; set shard to false")
    return [*max(lists, key=lambda each: len([*each]))]


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor put together from all processes, detached; the same tensor if it was not split."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach()


def gather_into(encoder: Encoder, twin: Encoder, processes: Processes) -> None:
    """Copy the weights of the sharded twin into the whole encoder of the first process; all processes call it."""
    state = twin.state_dict()
    target = encoder.state_dict() if processes.first else {}
    with torch.no_grad():
        for name, tensor in state.items():
            full = whole(tensor)
            if processes.first:
                target[name].copy_(full)


def whole_state(module: nn.Module, *, keep: bool) -> dict[str, Tensor]:
    """Return a module's state put together, on the CPU, where `keep` says so; all processes call it."""
    found = {}
    for name, tensor in module.state_dict().items():
        full = whole(tensor)
        if keep:
            found[name] = full.cpu()
    return found


@torch.no_grad()
def scatter(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Let each process take its part of a whole state."""
    for name, own in module.state_dict().items():
        local(own).copy_(part_of(state[name], own))


def part_of(full: Tensor, own: Tensor) -> Tensor:
    """Return the part of a whole tensor that this process holds of `own`."""
    if not isinstance(own, DTensor):
        return full
    mesh, size = own.device_mesh, own.to_local().shape[0]
    chunks = torch.chunk(full, mesh.size(), dim=0)  # as FSDP splits: rows, the last parts shorter or empty
    mine = mesh.get_local_rank()
    found = chunks[mine] if mine < len(chunks) else full[:0]
    assert found.shape[0] == size, "a part of another size than FSDP's"
    return found


def local(tensor: Tensor) -> Tensor:
    """Return this process's part of a tensor; all of it if it is not split."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


# --------------------------------------------------------------------------- the optimiser


def write_moments(optimizer: Any, path: Path) -> None:
    """Write this process's part of an optimiser's state."""
    state = optimizer.state_dict()
    local = {k: {name: _plain(value) for name, value in entry.items()} for k, entry in state["state"].items()}
    path.parent.mkdir(parents=True, exist_ok=True)  # the first process may not have come to it
    torch.save({"state": local, "param_groups": state["param_groups"]}, path)


def read_moments(optimizer: Any, path: Path) -> None:
    """Take over what `write_moments` wrote in the same process of as many."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for number, entry in state["state"].items():
        own = parameters[number]
        if isinstance(own, DTensor):
            for name, value in entry.items():
                if value.dim():  # the count of steps is a number
                    entry[name] = DTensor.from_local(
                        value.to(own.device), own.device_mesh, own.placements, shape=own.shape, stride=own.stride()
                    )
    optimizer.load_state_dict(state)


def _plain(value: Any) -> Any:
    return local(value).cpu() if isinstance(value, Tensor) else value


def clip(parameters: list[nn.Parameter], most: float) -> Tensor:
    """Scale gradients, of split and of whole parameters, to a common norm of at most `most`; return it before."""
    groups: dict[bool, list[Tensor]] = {True: [], False: []}
    for p in parameters:
        if p.grad is not None:
            groups[isinstance(p.grad, DTensor)].append(p.grad)
    norms = [whole(torch.nn.utils.get_total_norm(each)) for each in groups.values() if each]
    norm = torch.linalg.vector_norm(torch.stack(norms))
    scale = torch.clamp(most / (norm + 1e-6), max=1.0)
    for each in groups.values():
        for gradient in each:
            local(gradient).mul_(scale.to(gradient.device))
    return norm
