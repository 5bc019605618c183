"""Weights by their content: a digest that is computed again only when they have changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class WeightsDigest:
    """Remembers the digest of one model's weights and notices when it is out of date."""

    def __init__(self) -> None:
        self._seen: Any = None
        self._digest = ""

    def of(self, state: Mapping[str, Tensor]) -> str:
        """Return the SHA-256 (hex) over names, dtypes, shapes and bytes, whatever the device."""
        seen = _marks(state)
        if seen != self._seen:
            whole = hashlib.sha256()
            for name, tensor in sorted(state.items()):
                whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
                whole.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
            self._seen, self._digest = seen, whole.hexdigest()
        return self._digest


def _marks(state: Mapping[str, Tensor]) -> Any:
    """Return what tells weights apart at the speed of memory.

    Torch counts the writes to a tensor, but not those through `.data`, as of merged adapters. A sum of the bytes, read
    as whole numbers, sees these.
    """
    written = [(name, t.data_ptr(), 0 if t.is_inference() else t._version) for name, t in state.items()]
    return written, torch.stack([_checksum(t).cpu() for t in state.values()]).tolist()


def _checksum(tensor: Tensor) -> Tensor:
    """Return a whole number that any change of one entry changes, and that swapping rows changes too."""
    rows = tensor.detach().contiguous().reshape(len(tensor) if tensor.dim() > 1 else 1, -1)
    numbers = rows.view(torch.int64) if rows.shape[1] * rows.element_size() % 8 == 0 else rows.view(torch.uint8)
    sums = numbers.sum(1)
    # Odd factors: the remainder after an overflow still depends on every bit of every sum.
    return (sums * torch.arange(1, 2 * len(sums), 2, device=sums.device)).sum()
