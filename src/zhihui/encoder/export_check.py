"""Proof of an export: the written folder, loaded by the libraries its users have, against the encoder's own vectors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from zhihui.encoder.container import first_line
from zhihui.encoder.encoder import Encoder, is_decoder
from zhihui.encoder.export import shown_name, staged, write
from zhihui.encoder.packing import pack
from zhihui.encoder.pooling import pool_padded
from zhihui.encoder.settings import EncoderSettings, Role
from zhihui.errors import RunFailure

_TEXTS = (
    "好",
    "租房押金不退怎么办？",
    "干香菇先冲去浮灰，再用温水泡半小时，水里加一小撮白糖，泡得快而且香味不易流失。",
    "China 2024 年的 GDP 是多少，\n比上一年增长了百分之几？",
    "出租人无正当理由不退还押金的，承租人可以向人民法院起诉。" * 8,
)
"""Of several lengths, so that batches are padded; the last is cut."""
_ROOM = 64
"""Tokens a text is cut to beside its prompt: enough to tell models apart, and few for a large one on a CPU."""


def export_checked(encoder: Encoder, out: Path, *, name: str | None = None, overwrite: bool = False) -> float:
    """Export a model and put it in place only when `verify_export` passes it; what it would replace stays till then.

    Args:
        encoder: the model.
        out: the folder to make.
        name: what the card's code loads, such as a hub id; None for the folder.
        overwrite: replace a folder that holds such a model; never anything else.

    Returns:
        The largest difference found, as `verify_export` has it.

    Raises:
        InputError: as `export` has it.
        RunFailure: as `verify_export` has it; `out` is then as it was.
    """
    with staged(out, overwrite=overwrite) as folder:
        write(encoder, folder, name=name or shown_name(out))
        return verify_export(encoder, folder)


def checked_with() -> list[str]:
    """Return the libraries that `verify_export` compares: sentence-transformers is among them where it is installed."""
    return ["transformers", *["sentence-transformers"] * (find_spec("sentence_transformers") is not None)]


def verify_export(encoder: Encoder, folder: Path) -> float:
    """Return the largest difference between a number in an exported model's unit vectors and in the encoder's own.

    A few Chinese texts are encoded as queries and as documents by transformers, padded on either side, and by
    sentence-transformers where it is installed, without running the folder's code.

    Raises:
        RunFailure: the folder cannot be loaded, or a difference is beyond `tolerance`.
    """
    length = _length(encoder)
    settings = replace(encoder.settings, max_length=length)
    expected = {role: _own_vectors(encoder, settings, role) for role in get_args(Role)}
    sides = ("right", "left") if is_decoder(encoder.backbone.config) else ("right",)  # BERT counts the padding
    loaders: dict[str, Callable[[], Mapping[Role, Tensor]]] = {
        f"transformers, padded on the {side}": partial(_by_transformers, encoder, folder, length, side)
        for side in sides
    }
    if "sentence-transformers" in checked_with():
        loaders["sentence-transformers"] = partial(_by_sentence_transformers, encoder, folder, length)
    worst = 0.0
    for loader, vectors in loaders.items():
        try:
            with hushed():
                found = vectors()
        except Exception as error:  # whatever a loader raises, our user's users would meet
            raise RunFailure(
                f"{encoder.name}: its export cannot be used with {loader} ({first_line(error)})"
            ) from error
        for role, own in expected.items():
            norms = own.norm(dim=1, keepdim=True)
            difference = float(((found[role] - own) / norms).abs().max())
            if not difference <= tolerance(encoder):  # NaN is beyond it too
                raise RunFailure(
                    f"{encoder.name}: its export gives {role} vectors that differ by {difference:.1e} in {loader}; "
                    f"at most {tolerance(encoder):.1e} is allowed"
                )
            worst = max(worst, difference)
    return worst


def tolerance(encoder: Encoder) -> float:
    """Return the largest difference allowed: 1e-5 in fp32.

    In half precision every loader rounds at its own places, and depth adds it up. What is allowed there is 32 units of
    the dtype's last place, relative to 1/√D, the size of a number in a unit vector: 1/4 of it in bf16, 1/32 in fp16.
    A wrong mask, pooling or prompt moves numbers by several times that size.
    """
    if encoder.dtype == torch.float32:
        return 1e-5
    return float(32 * torch.finfo(encoder.dtype).eps / encoder.dimension**0.5)


@contextmanager
def hushed() -> Iterator[None]:
    """Keep the libraries from reporting on a model that is loaded for a moment: what matters is what it gives."""
    from transformers.utils import logging as transformers_logging

    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    others = logging.getLogger("sentence_transformers")
    level = others.level
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    others.setLevel(logging.ERROR)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
        others.setLevel(level)


def _length(encoder: Encoder) -> int:
    prompts = [encoder.settings.prompt(role) for role in get_args(Role)]
    longest = max(len(ids) for ids in encoder.tokenizer(prompts)["input_ids"])
    return min(encoder.settings.max_length, longest + _ROOM)


def _own_vectors(encoder: Encoder, settings: EncoderSettings, role: Role) -> Tensor:
    from zhihui.encoder.tokens import tokenize

    ids = tokenize(encoder.tokenizer, settings, _TEXTS, role=role)
    training = encoder.training
    encoder.eval()
    with torch.inference_mode():
        vectors: Tensor = encoder(pack(ids).to(encoder.device)).cpu()
    encoder.train(training)
    return vectors


def _by_transformers(encoder: Encoder, folder: Path, length: int, side: str) -> dict[Role, Tensor]:
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.padding_side = side
    model = AutoModel.from_pretrained(folder, dtype=encoder.dtype).to(encoder.device).eval()
    found: dict[Role, Tensor] = {}
    for role in get_args(Role):
        texts = [encoder.settings.prompt(role) + text for text in _TEXTS]
        inputs = tokenizer(texts, max_length=length, padding=True, truncation=True, return_tensors="pt")
        inputs = inputs.to(encoder.device)
        with torch.inference_mode():
            states = model(**inputs).last_hidden_state
            vectors = pool_padded(states, inputs["attention_mask"], encoder.settings.pooling)
            found[role] = _finish(encoder, vectors).cpu()
    return found


def _finish(encoder: Encoder, vectors: Tensor) -> Tensor:
    """Do what follows pooling: transformers alone does not."""
    if encoder.dense is not None:
        vectors = encoder.dense(vectors.to(next(encoder.dense.parameters()).dtype)).float()
    return torch.nn.functional.normalize(vectors, dim=1) if encoder.settings.normalize else vectors


def _by_sentence_transformers(encoder: Encoder, folder: Path, length: int) -> dict[Role, Tensor]:
    from sentence_transformers import SentenceTransformer

    model: Any = SentenceTransformer(str(folder), device=str(encoder.device))
    if model.max_seq_length != encoder.settings.max_length:
        raise ValueError(f"it cuts texts to {model.max_seq_length} tokens, not {encoder.settings.max_length}")
    model.max_seq_length = length
    return {
        role: model.encode(list(_TEXTS), prompt_name=role, convert_to_tensor=True, show_progress_bar=False)
        .float()
        .cpu()
        for role in get_args(Role)
    }
