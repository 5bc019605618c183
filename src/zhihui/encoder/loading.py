"""Loading: a sentence-transformers folder or hub id, or a plain transformers model, checked before it is trusted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from zhihui import progress
from zhihui.encoder.container import Container, first_line, positions
from zhihui.encoder.encoder import Encoder, claims_open, has_layers, is_decoder
from zhihui.encoder.probe import check_direction, is_packable, is_prunable
from zhihui.encoder.settings import Pooling
from zhihui.encoder.terms import register, unpack
from zhihui.encoder.tokens import ensure_eos
from zhihui.errors import InputError
from zhihui.records.hub import MODEL_FILES, model_folder

_FETCHED = (*MODEL_FILES, "*.py")  # code is run only where it is asked for
_TOKENIZER_FILES = ("tokenizer.json", "vocab.*", "*.model")


@progress.same_for_transformers()
def load(
    model: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype = "auto",
    max_length: int | None = None,
    pooling: Pooling | None = None,
    attention: Literal["bidirectional", "causal"] | None = None,
    prompts: dict[str, str] | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Encoder:
    """Load an embedding model.

    Args:
        model: folder or hub id of a sentence-transformers model or of a plain transformers model; or "nano", which is
            shipped inside.
        device: where to compute; None takes a GPU if there is one.
        dtype: "float32", "bfloat16", "float16", or "auto" for what the checkpoint is stored in.
        max_length: tokens a text is cut to; None takes the model's own, at most 512.
        pooling: None takes the model's own; a plain decoder's is its last token.
        attention: what a decoder's config should say; None leaves it. The model is probed either way.
        prompts: text before a text by role ("query", "document"); None takes the model's own.
        revision: of a hub id: branch, tag or commit.
        trust_remote_code: run code that comes with the model.

    Raises:
        InputError: no such model, weights that are pickled or incomplete, an unknown module or pooling, no usable
            tokenizer, or attention that is not what the config says.
    """
    folder = model_folder(model, files=_FETCHED, revision=revision)
    container = Container(folder, str(model))
    backbone = _load_backbone(container, dtype, attention, trust_remote_code)
    tokenizer = _load_tokenizer(container, trust_remote_code)
    settings = container.settings(backbone.config, tokenizer, pooling)
    settings = replace(
        settings,
        max_length=settings.max_length if max_length is None else max_length,
        prompts=settings.prompts if prompts is None else prompts,
    )
    room = positions(backbone.config)
    if room is not None and settings.max_length > room:
        raise InputError(f"{container.name}: max_length {settings.max_length} exceeds the model's {room} positions")
    if settings.pooling == "lasttoken" and (container.is_plain or container.adds_eos):
        ensure_eos(tokenizer)
    layered = has_layers(backbone.config)
    if not layered and backbone.config.packed:
        unpack(backbone)
    if layered:
        check_direction(backbone, claimed_open=claims_open(backbone.config), name=container.name)
    dense = container.dense(backbone.config.hidden_size)
    encoder = Encoder(
        backbone,
        tokenizer,
        settings,
        name=container.name,
        dense=dense if dense is None else dense.to(backbone.dtype),
        packable=layered and is_packable(backbone),
    )
    encoder.prunable = encoder.prunable and is_prunable(encoder)
    return encoder.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()


def _load_backbone(container: Container, dtype: str | torch.dtype, attention: str | None, trust: bool) -> Any:
    from transformers import AutoConfig

    register()
    folder = container.backbone_folder
    wanted = _dtype(dtype)
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust)
    except Exception as error:  # an unusable config fails in many ways, as do weights and tokenizers below
        raise InputError(f"{folder}: its config.json cannot be used ({first_line(error)})") from None
    if attention is not None:
        if attention not in ("bidirectional", "causal"):
            raise InputError(f"attention {attention!r} is unknown; choose bidirectional or causal")
        if not is_decoder(config):
            raise InputError(
                f"{folder}: {config.model_type} is an encoder and always bidirectional; leave out attention"
            )
        config.is_causal = attention == "causal"
    try:
        with _without_report():
            backbone, report = _from_pretrained(folder, config, wanted, trust)
    except Exception as error:
        raise InputError(f"{folder}: cannot be loaded ({first_line(error)})") from None
    missing = sorted(report["missing_keys"])
    if missing:
        raise InputError(
            f"{folder}: its weights lack {len(missing)} tensors that the config asks for, such as {missing[0]}; "
            "they would be random"
        )
    return backbone.eval()


def _from_pretrained(folder: Path, config: Any, dtype: str | torch.dtype, trust: bool) -> tuple[Any, dict[str, Any]]:
    from transformers import AutoModel

    options: dict[str, Any] = {
        "config": config,
        "dtype": dtype,
        "attn_implementation": "sdpa",
        "trust_remote_code": trust,
        "use_safetensors": True,
        "output_loading_info": True,
    }
    if is_decoder(config):
        return AutoModel.from_pretrained(folder, **options)
    try:
        # Its pooling layer serves classification only, and many a checkpoint lacks its weights.
        return AutoModel.from_pretrained(folder, add_pooling_layer=False, **options)
    except TypeError:  # some encoders have no such layer to leave out
        return AutoModel.from_pretrained(folder, **options)


@contextmanager
def _without_report() -> Iterator[None]:
    """Silence the table of tensors that transformers prints: what is in it is judged here, and told in one line."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _load_tokenizer(container: Container, trust: bool) -> Any:
    from tokenizers.normalizers import Lowercase, Sequence
    from transformers import AutoTokenizer

    folder = container.backbone_folder
    # Where there is no file at all, some classes make a tokenizer of no words without a warning.
    if not any(path for pattern in _TOKENIZER_FILES for path in folder.glob(pattern)):
        raise InputError(f"{folder}: no tokenizer.json; copy its files beside the weights")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust)
    except Exception as error:
        raise InputError(f"{folder}: no usable tokenizer ({first_line(error)})") from None
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(f"{folder}: no tokenizer.json (a fast tokenizer); convert it once with transformers")
    if container.transformer().get("do_lower_case"):
        own = tokenizer.backend_tokenizer.normalizer
        tokenizer.backend_tokenizer.normalizer = Sequence([Lowercase(), *([] if own is None else [own])])
    return tokenizer


def _dtype(dtype: str | torch.dtype) -> str | torch.dtype:
    if isinstance(dtype, torch.dtype) or dtype == "auto":
        return dtype
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype not in known:
        raise InputError(f"dtype {dtype!r} is unknown; choose auto, {', '.join(known)}")
    return known[dtype]
