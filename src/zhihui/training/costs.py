"""What a training run will cost in memory and time: counted where it can be, measured on one chunk where it cannot."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zhihui.encoder.encoder import Encoder
from zhihui.encoder.packing import pack, plan_batches
from zhihui.training.config import TrainConfig

_CPU_TOKENS = 2048
"""Tokens measured on a CPU: enough for its rate, and done in seconds by any model that trains there."""
_SIMILARITIES = {"cpu": 2**24, "cuda": 2**27}
"""How many the loss holds at once where `loss.rows` is not given."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of one process, by what takes them; torch itself and fragmentation come on top."""

    weights: int
    gradients: int
    optimizer: int
    """AdamW's two moments, and the moving average if there is one."""
    activations: int
    """Of the tokens that keep their graph."""
    vectors: int
    """Of a step's texts, with their gradients."""
    similarities: int
    """Those that the loss holds at once."""

    @property
    def total(self) -> int:
        """The sum."""
        return sum(vars(self).values())


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """What one chunk took."""

    tokens: int
    activation_bytes: int
    """Kept for the backward pass without gradient checkpointing."""
    forward_seconds: float
    """Without a graph."""
    whole_seconds: float
    """Forward and backward."""


def measure_chunk(encoder: Encoder, sequences: Sequence[Sequence[int]], config: TrainConfig) -> Chunk:
    """Compute one chunk of a batch as training does; weights, gradients and random state stay what they were.

    Args:
        encoder: without gradients.
        sequences: token ids of a batch's texts.
        config: of the run.
    """
    budget = config.cache.chunk_tokens
    if encoder.device.type == "cpu":
        budget = min(budget, _CPU_TOKENS)
    chunks = plan_batches([len(ids) for ids in sequences], budget, padded=not encoder.packable)
    middle = chunks[len(chunks) // 2]  # neither the longest texts nor the shortest
    packed = pack([sequences[number] for number in middle]).to(encoder.device)
    training = encoder.training
    devices = [encoder.device] if encoder.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        encoder.train()
        try:
            with torch.no_grad():
                _seconds(encoder, packed, config)  # what is slow only once
                forward = _seconds(encoder, packed, config)
            kept = _Kept(encoder)
            with torch.autograd.graph.saved_tensors_hooks(kept.note, lambda tensor: tensor):
                _seconds(encoder, packed, config)
            whole = _seconds(encoder, packed, config, backward=True)
        finally:
            encoder.train(training)
            encoder.zero_grad(set_to_none=True)
    return Chunk(
        tokens=len(packed.ids), activation_bytes=kept.bytes, forward_seconds=forward, whole_seconds=max(whole, forward)
    )


class _Kept:
    """Counts the bytes that autograd keeps, weights left out, each once."""

    def __init__(self, encoder: Encoder) -> None:
        self.seen = {tensor.untyped_storage().data_ptr() for tensor in encoder.state_dict().values()}
        self.bytes = 0
        self.alive: list[Tensor] = []  # a storage that was freed could lend its address to another

    def note(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.seen:
            self.seen.add(storage.data_ptr())
            self.bytes += storage.nbytes()
            self.alive.append(tensor.detach())
        return tensor


def _seconds(encoder: Encoder, packed: Any, config: TrainConfig, *, backward: bool = False) -> float:
    start = time.perf_counter()
    with torch.autocast(encoder.device.type, torch.bfloat16) if config.bf16 else nullcontext():
        vectors = encoder(packed)
    if backward:
        vectors.sum().backward()
    if vectors.is_cuda:
        torch.cuda.synchronize(vectors.device)
    return time.perf_counter() - start


def step_memory(
    encoder: Encoder, chunk: Chunk, config: TrainConfig, *, tokens: int, queries: int, passages: int
) -> Memory:
    """Estimate the memory of a step.

    Args:
        encoder: with its adapters, if it has any.
        chunk: as measured.
        config: of the run.
        tokens: of the step, each distinct text once.
        queries: of the step.
        passages: of the step.
    """
    sizes = [(p.numel() * p.element_size(), p.requires_grad) for p in encoder.parameters()]
    trained = sum(size for size, learns in sizes if learns)
    token = chunk.activation_bytes / chunk.tokens
    held = min(tokens, config.cache.graph_tokens)
    activations = token * held
    if config.gradient_checkpointing:
        layers = int(encoder.backbone.config.num_hidden_layers)
        states = 4 * int(encoder.backbone.config.hidden_size) * layers * held
        # Layers keep their input alone; those of one chunk are computed again one at a time.
        activations = min(activations, states + token * min(tokens, config.cache.chunk_tokens) / layers)
    against = passages + config.memory.size + queries * len(config.loss.terms)
    room = _SIMILARITIES["cuda" if encoder.device.type == "cuda" else "cpu"]
    rows = min(queries, config.loss.rows or max(1, room // against))
    return Memory(
        weights=sum(size for size, _ in sizes),
        gradients=trained,
        optimizer=trained * (3 if config.ema else 2),
        activations=round(activations),
        vectors=4 * encoder.dimension * (2 * (queries + passages) + config.memory.size),
        similarities=4 * rows * against,
    )


def step_seconds(chunk: Chunk, config: TrainConfig, *, tokens: int) -> float:
    """Estimate the time of a step from the measured chunk: what keeps no graph is computed once more."""
    again = max(0, tokens - config.cache.graph_tokens)
    whole = chunk.whole_seconds + (chunk.forward_seconds if config.gradient_checkpointing else 0.0)
    return (tokens * whole + again * chunk.forward_seconds) / chunk.tokens
