"""Models: what is served under which name, and how a batch of token ids becomes vectors."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from zhihui.config import did_you_mean
from zhihui.encoder.devices import check_device
from zhihui.encoder.encoder import Encoder
from zhihui.encoder.loading import load
from zhihui.encoder.packing import pack, plan_batches
from zhihui.encoder.prefixes import against_cutting, trained_lengths
from zhihui.encoder.settings import Role
from zhihui.errors import InputError
from zhihui.serving.refusals import MODEL_NOT_FOUND, Refusal, bad_input


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """An embedding model with a copy on each device."""

    name: str
    """What calls ask for."""
    source: str
    """Folder or hub id it was loaded from."""
    copies: tuple[Encoder, ...]
    """One a worker, in the workers' order."""
    fingerprint: str
    """SHA-256 of whatever a vector depends on; of use in an index that must not mix models."""
    budget: int
    """Tokens computed together."""
    tokenizing: threading.Lock = field(default_factory=threading.Lock, repr=False)
    """A fast tokenizer keeps how it truncates; one thread at a time may set it."""

    @property
    def encoder(self) -> Encoder:
        """The first copy, whose tokenizer and settings count."""
        return self.copies[0]

    @property
    def lengths(self) -> tuple[int, ...] | None:
        """Lengths its vectors may be cut to (Matryoshka), as its config.json says; None where it says nothing."""
        return trained_lengths(self.encoder)

    def check_length(self, length: int | None) -> None:
        """Check the length that vectors are asked to be cut to.

        Raises:
            Refusal: 400, a length that the model's vectors cannot be cut to.
        """
        if length is None:
            return
        why = against_cutting(length, dimension=self.encoder.dimension, trained=self.lengths, name=self.name)
        if why:
            raise bad_input(why, param="dimensions")

    def compute(self, units: Sequence[Any], worker: int, *, exact: bool = False) -> NDArray[np.float32]:
        """Return the vectors `[N, D]` of token ids, as the model's own settings have them."""
        encoder = self.copies[worker]
        lengths = [len(ids) for ids in units]
        vectors = np.empty((len(units), encoder.dimension), dtype=np.float32)
        with torch.inference_mode(), _in_fp32(encoder, exact):
            for indices in plan_batches(lengths, self.budget, padded=not encoder.packable):
                found = encoder(pack([units[index] for index in indices]).to(encoder.device))
                vectors[indices] = found.cpu().numpy()
        return vectors


@contextmanager
def _in_fp32(encoder: Encoder, wanted: bool) -> Iterator[None]:
    """Widen a model's weights for the block; back again they are what they were, bit for bit."""
    before = encoder.dtype
    if not wanted or before == torch.float32:
        yield
        return
    with torch.inference_mode(False):
        encoder.float()
    try:
        yield
    finally:
        with torch.inference_mode(False):
            encoder.to(before)


class Models:
    """The embedding models of a server, the first being the default."""

    def __init__(self, models: Sequence[ServedModel]) -> None:
        """Take models of different names.

        Raises:
            InputError: none, or two of one name.
        """
        names = [model.name for model in models]
        if not names:
            raise InputError("no model to serve; give a folder or a hub id")
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"two models are called {twice!r}; give one another name: NAME={twice}")
        self.by_name = dict(zip(names, models, strict=True))

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self.by_name.values())

    @property
    def default(self) -> ServedModel:
        """What is meant by a call that names none."""
        return next(iter(self))

    def find(self, name: str | None) -> tuple[ServedModel, Role | None]:
        """Return the model that a call names, and the role that NAME:query or NAME:document adds.

        Raises:
            Refusal: 404, no such model.
        """
        if name is None:
            return self.default, None
        if name in self.by_name:
            return self.by_name[name], None
        start, _, end = name.rpartition(":")
        for role in get_args(Role):
            if start in self.by_name and end == role:
                return self.by_name[start], role
        message = f"model {name[:100]!r} is not served here; {did_you_mean(name[:100], self.by_name)}"
        raise Refusal(404, message, param="model", code=MODEL_NOT_FOUND)


def split_alias(given: str, what: str = "model") -> tuple[str | None, str]:
    """Return the name and the folder or hub id of NAME=MODEL; the name is None where only a model is given.

    Args:
        given: as the user wrote it.
        what: it is, for the message.

    Raises:
        InputError: nothing on one side.
    """
    name, equals, source = given.partition("=")
    if not equals:
        return None, given
    if not name or not source or name.strip() != name:
        hub = " or hub id" if what == "model" else ""
        raise InputError(f"{what} {given!r} cannot be read; write NAME=FOLDER, or a folder{hub} alone")
    return name, source


def default_devices() -> tuple[str, ...]:
    """Return the GPU if there is one, else the processor."""
    return ("cuda",) if torch.cuda.is_available() else ("cpu",)


def load_models(
    given: Sequence[str],
    devices: Sequence[str],
    *,
    dtype: str = "auto",
    max_length: int | None = None,
    token_budget: int | None = None,
) -> Models:
    """Load each model onto each device.

    Args:
        given: NAME=MODEL, or the folder or hub id alone.
        devices: cpu, cuda, cuda:1, ...
        dtype: as `zhihui.load` takes it.
        max_length: tokens a text is cut to; None takes the model's own.
        token_budget: tokens computed together; None suits the device.

    Raises:
        InputError: as `zhihui.load` and `Models` say, or no such device.
    """
    for device in devices:
        check_device(device)
    models = []
    for each in given:
        name, source = split_alias(each)
        copies = tuple(load(source, device=device, dtype=dtype, max_length=max_length) for device in devices)
        models.append(served(copies, name=name, source=source, token_budget=token_budget))
    return Models(models)


def served(
    copies: Sequence[Encoder], *, name: str | None = None, source: str = "", token_budget: int | None = None
) -> ServedModel:
    """Make a loaded encoder one to be served; its name is the encoder's own where none is given."""
    encoder = copies[0]
    return ServedModel(
        name=name or encoder.name,
        source=source or encoder.name,
        copies=tuple(copies),
        fingerprint=encoder.fingerprint,
        budget=token_budget or encoder.budget(),
    )
