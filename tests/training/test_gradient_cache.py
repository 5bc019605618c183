from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import dropout, normalize

from zhihui.encoder.packing import Packed, pack
from zhihui.errors import InputError
from zhihui.training.gradient_cache import CacheConfig, cached_backward

CPU = torch.device("cpu")


class MeanEncoder(nn.Module):
    """The mean of a sequence's token vectors through a layer, in fp64, with dropout; counts what it is asked for."""

    def __init__(self, *, rate: float = 0.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = nn.Parameter(torch.randn(50, 6, generator=generator, dtype=torch.float64))
        self.layer = nn.Parameter(torch.randn(6, 6, generator=generator, dtype=torch.float64))
        self.rate = rate
        self.with_graph: list[tuple[int, ...]] = []
        self.without_graph: list[tuple[int, ...]] = []
        self.synchronised: list[bool] = []
        self.in_no_sync = False

    def forward(self, packed: Packed) -> Tensor:
        (self.with_graph if torch.is_grad_enabled() else self.without_graph).append(packed.lengths)
        states = dropout(self.table[packed.ids], self.rate, training=self.rate > 0)
        sums = torch.zeros(len(packed.lengths), 6, dtype=torch.float64)
        sums = sums.index_add(0, packed.sequence_of_token, states)
        return normalize(torch.tanh(sums / packed.lengths_tensor[:, None]) @ self.layer, dim=-1)

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        self.in_no_sync = True
        yield
        self.in_no_sync = False

    def gradients(self) -> list[Tensor]:
        found = [p.grad for p in self.parameters()]
        assert all(g is not None and float(g.abs().max()) > 1e-6 for g in found), "nothing was compared"
        return [g.clone() for g in found if g is not None]


def loss_of(vectors: Tensor) -> Tensor:
    """A contrastive loss over the first and the second half, in which every vector meets every other."""
    half = len(vectors) // 2
    scores = vectors[:half] @ vectors[half:].T / 0.1
    return torch.nn.functional.cross_entropy(scores, torch.arange(half) % scores.shape[1])


def gradients_of(vectors: Tensor) -> tuple[Tensor, Tensor]:
    leaf = vectors.clone().requires_grad_()
    loss = loss_of(leaf)
    loss.backward()
    assert leaf.grad is not None
    return loss.detach(), leaf.grad


def texts(lengths: list[int], seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, 50, (n,), generator=generator).tolist() for n in lengths]


def plain(sequences: list[list[int]]) -> tuple[Tensor, list[Tensor]]:
    encoder = MeanEncoder()
    loss = loss_of(encoder(pack(sequences)))
    loss.backward()
    return loss.detach(), encoder.gradients()


def cached(
    sequences, config: CacheConfig, encoder: MeanEncoder | None = None, **options
) -> tuple[Tensor, list[Tensor]]:
    encoder = encoder or MeanEncoder()
    loss = cached_backward(encoder, sequences, gradients_of, config, device=CPU, **options)
    return loss, encoder.gradients()


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=4, max_size=14),
    chunk=st.integers(1, 40),
    chunks_kept=st.integers(1, 4),
)
def test_loss_and_gradients_equal_those_of_the_whole_batch(lengths, chunk, chunks_kept):
    sequences = texts(lengths)
    expected_loss, expected = plain(sequences)
    loss, found = cached(sequences, CacheConfig(chunk_tokens=chunk, graph_tokens=chunk * chunks_kept))
    torch.testing.assert_close(loss, expected_loss, rtol=1e-12, atol=1e-12)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_uneven_chunks_are_compared_at_all():
    encoder = MeanEncoder()
    cached(texts([9, 3, 7, 1, 8, 2, 5, 6]), CacheConfig(chunk_tokens=10, graph_tokens=10), encoder)
    assert len(encoder.without_graph) >= 3
    assert len({len(lengths) for lengths in encoder.without_graph + encoder.with_graph}) > 1


def test_a_batch_that_fits_is_never_computed_twice():
    encoder = MeanEncoder()
    cached(texts([5] * 8), CacheConfig(chunk_tokens=10, graph_tokens=40), encoder)
    assert encoder.without_graph == []
    assert sum(map(len, encoder.with_graph)) == 8


def test_only_what_does_not_fit_is_computed_twice():
    encoder = MeanEncoder()
    cached(texts([5] * 8), CacheConfig(chunk_tokens=10, graph_tokens=30), encoder)
    assert encoder.without_graph == [(5, 5)]
    assert sum(map(len, encoder.with_graph)) == 8


def test_equal_texts_are_encoded_once_and_collect_all_their_gradients():
    sequences = texts([5, 7, 4, 6])
    sequences += [sequences[1], sequences[2], sequences[1], [9, 9]]
    expected_loss, expected = plain(sequences)
    encoder = MeanEncoder()
    loss, found = cached(sequences, CacheConfig(chunk_tokens=8, graph_tokens=8), encoder)
    assert sum(map(len, encoder.with_graph)) == 5
    torch.testing.assert_close(loss, expected_loss)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_dropout_is_the_same_in_the_replay():
    sequences = texts([9, 3, 7, 1, 8, 2, 5, 6])
    runs = []
    for graph_tokens in (10, 20, 1000):
        torch.manual_seed(7)
        encoder = MeanEncoder(rate=0.4)
        loss, found = cached(sequences, CacheConfig(chunk_tokens=10, graph_tokens=graph_tokens), encoder)
        runs.append((loss, found, torch.rand(1)))
    for other in runs[1:]:
        torch.testing.assert_close(other[0], runs[0][0], rtol=0, atol=0)
        torch.testing.assert_close(other[1], runs[0][1], rtol=1e-12, atol=1e-14)
        assert other[2] == runs[0][2], "the replay must leave the generators where the first pass left them"
    without = cached(sequences, CacheConfig(chunk_tokens=10, graph_tokens=10))
    assert float((without[1][0] - runs[0][1][0]).abs().max()) > 1e-3, "dropout did nothing"


@pytest.mark.parametrize("graph_tokens", [10, 30, 1000])
def test_gradients_are_synchronised_exactly_once(graph_tokens):
    encoder = MeanEncoder()

    def note(gradient: Tensor) -> Tensor:
        encoder.synchronised.append(not encoder.in_no_sync)
        return gradient

    encoder.layer.register_hook(note)
    options = {"no_sync": encoder.no_sync}
    cached(texts([9, 3, 7, 1, 8, 2, 5, 6]), CacheConfig(chunk_tokens=10, graph_tokens=graph_tokens), encoder, **options)
    assert encoder.synchronised[-1]
    assert sum(encoder.synchronised) == 1


def test_scale_multiplies_the_gradients_and_not_the_loss():
    sequences = texts([5, 7, 4, 6])
    config = CacheConfig(chunk_tokens=8, graph_tokens=8)
    loss, found = cached(sequences, config)
    scaled_loss, scaled = cached(sequences, config, scale=0.25)
    assert scaled_loss == loss
    for one, other in zip(scaled, found, strict=True):
        torch.testing.assert_close(one, other * 0.25)


def test_a_second_batch_adds_to_the_first():
    encoder = MeanEncoder()
    config = CacheConfig(chunk_tokens=8, graph_tokens=8)
    first, second = texts([5, 7, 4, 6], 1), texts([2, 3, 8, 1], 2)
    cached(first, config, encoder)
    _, both = cached(second, config, encoder)
    for one, a, b in zip(both, plain(first)[1], plain(second)[1], strict=True):
        torch.testing.assert_close(one, a + b, rtol=1e-10, atol=1e-12)


def test_sizes_out_of_bounds_are_refused():
    with pytest.raises(InputError, match="chunk_tokens 0"):
        CacheConfig(chunk_tokens=0)
    with pytest.raises(InputError, match="graph_tokens 5 is less than chunk_tokens 8"):
        CacheConfig(chunk_tokens=8, graph_tokens=5)
