"""Gradient cache (Gao et al. 2021): batches beyond device memory, with the gradients of the whole batch.

    1. encode    all texts in chunks, most of them without a graph
    2. loss      on all vectors, giving the gradient of each vector
    3. replay    the chunks that kept no graph are encoded again, with the same dropout, and take their gradient

Chunks are packed by tokens and sorted by length, queries and passages in one stream. As many chunks keep their graph as
the budget allows, so a batch that fits is never computed twice; nor is a text that occurs in it twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from zhihui.encoder.packing import Packed, pack, plan_batches
from zhihui.errors import InputError


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """How a batch is cut for memory; no setting changes the gradients beyond rounding."""

    chunk_tokens: int = 8192
    """Tokens encoded together."""
    graph_tokens: int = 16384
    """Tokens whose activations are held at once; the rest are computed twice. At least `chunk_tokens`."""

    def __post_init__(self) -> None:
        if self.chunk_tokens < 1:
            raise InputError(f"chunk_tokens {self.chunk_tokens} is too few; use at least 1")
        if self.graph_tokens < self.chunk_tokens:
            raise InputError(
                f"graph_tokens {self.graph_tokens} is less than chunk_tokens {self.chunk_tokens}: one chunk must fit"
            )


def cached_backward(
    encode: Callable[[Packed], Tensor],
    sequences: Sequence[Sequence[int]],
    gradients: Callable[[Tensor], tuple[Tensor, Tensor]],
    config: CacheConfig,
    *,
    device: torch.device,
    no_sync: Callable[[], AbstractContextManager[object]] = nullcontext,
    agreed: Callable[[int, int], tuple[int, int]] | None = None,
    padded: bool = False,
    scale: float = 1.0,
) -> Tensor:
    """Accumulate the gradients of a loss over all sequences into the encoder's parameters and return the loss.

    Args:
        encode: packed sequences to vectors `[B, D]`, with gradients.
        sequences: token ids of every text of the batch; equal ones are encoded once.
        gradients: vectors `[S, D]` (detached, in the order of `sequences`) to the loss and its gradient `[S, D]`.
        config: chunk and graph sizes.
        device: where to encode.
        no_sync: context in which gradients are not synchronised between processes; all backward passes but the last
            run in it, so there is one synchronisation a step.
        agreed: where encoding takes all processes at once (sharded weights), turns this process's number of chunks and
            of those that keep their graph into the most and the least of any; None where each encodes alone.
        padded: whether `encode` pads what is packed, so that padding counts as tokens.
        scale: factor on the gradients (accumulation).
    """
    distinct, place = _distinct(sequences)
    plan = plan_batches([len(s) for s in distinct], config.chunk_tokens, padded=padded)
    packs = [pack([distinct[i] for i in indices]) for indices in plan]
    count, kept = len(packs), _kept([len(packed.ids) for packed in packs], config.graph_tokens)
    if agreed is not None:
        count, kept = agreed(count, kept)
    idle = count - len(packs)  # chunks encoded because others have more, for nothing
    packs = [*[pack([min(distinct, key=len)])] * idle, *packs]
    split = count - kept  # the last chunks keep their graph: they are the next to be needed
    random: list[_RandomState] = []
    vectors: list[Tensor] = []
    for number, packed in enumerate(packs):
        random.append(_RandomState.now(device))
        synchronised = split == 0 and number == count - 1
        with nullcontext() if synchronised else no_sync(), torch.set_grad_enabled(number >= split):
            vectors.append(encode(packed.to(device)))

    row = torch.empty(len(distinct), dtype=torch.long)
    row[torch.tensor([i for indices in plan for i in indices])] = torch.arange(len(distinct))
    rows = row[place].to(device)  # where the vector of each sequence stands among the chunks' `[S]`
    joined = torch.cat([v.detach() for v in vectors[idle:]])
    loss, gradient = gradients(joined[rows])
    summed = torch.zeros_like(joined).index_add_(0, rows, gradient.to(joined.dtype) * scale)
    pieces = [*map(torch.zeros_like, vectors[:idle]), *torch.split(summed, [len(indices) for indices in plan])]

    with nullcontext() if split == 0 else no_sync():
        torch.autograd.backward(vectors[split:], pieces[split:])
    del vectors
    for number in range(split):
        with nullcontext() if number == split - 1 else no_sync(), random[number].replayed():
            torch.autograd.backward([encode(packs[number].to(device))], [pieces[number]])
    return loss


def _distinct(sequences: Sequence[Sequence[int]]) -> tuple[list[tuple[int, ...]], Tensor]:
    """Return the distinct sequences in the order they first occur, and which of them each one is `[S]`."""
    number: dict[tuple[int, ...], int] = {}
    place = [number.setdefault(tuple(sequence), len(number)) for sequence in sequences]
    return list(number), torch.tensor(place)


def _kept(sizes: list[int], graph_tokens: int) -> int:
    """Return how many of the last chunks keep their graph; it is freed before the first replay, which needs room."""
    kept, room = 0, graph_tokens
    for size in reversed(sizes):
        if size > room:
            break
        kept, room = kept + 1, room - size
    return max(kept, 1)


@dataclass(frozen=True)
class _RandomState:
    """The state of the generators that dropout draws from."""

    cpu: Tensor
    cuda: Tensor | None
    device: torch.device

    @classmethod
    def now(cls, device: torch.device) -> _RandomState:
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return cls(torch.get_rng_state(), cuda, device)

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Run a block from this state, leaving the generators as they were before it."""
        with torch.random.fork_rng(devices=[self.device] if self.cuda is not None else []):
            torch.set_rng_state(self.cpu)
            if self.cuda is not None:
                torch.cuda.set_rng_state(self.cuda, self.device)
            yield
