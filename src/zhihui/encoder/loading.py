"""Loading: a sentence-transformers folder or hub id, or a plain transformers model, checked before it is trusted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from zhihui.encoder.encoder import Encoder, is_decoder
from zhihui.encoder.probe import check_direction, claims_open, is_packable
from zhihui.encoder.settings import EncoderSettings, Pooling
from zhihui.encoder.tokens import ensure_eos
from zhihui.errors import InputError
from zhihui.runs import read_json

DEFAULT_MAX_LENGTH = 512
_POOLING: dict[str, Pooling] = {"lasttoken": "lasttoken", "mean": "mean", "cls": "cls"}
_LEGACY_POOLING: dict[str, Pooling] = {
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
}
_FETCHED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.py", "*.jinja"]


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
        model: folder or hub id of a sentence-transformers model or of a plain transformers model.
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
    folder = _resolve(model, revision)
    container = _Container(folder, str(model))
    backbone = _load_backbone(container, dtype, attention, trust_remote_code)
    tokenizer = _load_tokenizer(container, trust_remote_code)
    settings = container.settings(backbone.config, tokenizer, pooling)
    settings = replace(
        settings,
        max_length=max_length or settings.max_length,
        prompts=settings.prompts if prompts is None else prompts,
    )
    if container.is_plain and settings.pooling == "lasttoken":
        ensure_eos(tokenizer)
    if is_decoder(backbone.config):
        check_direction(backbone, claimed_open=claims_open(backbone.config), name=container.name)
    dense = container.dense()
    encoder = Encoder(
        backbone,
        tokenizer,
        settings,
        name=container.name,
        dense=dense if dense is None else dense.to(backbone.dtype),
        packable=is_packable(backbone),
    )
    return encoder.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()


def _resolve(model: str | Path, revision: str | None) -> Path:
    """Return a local folder: the one named, or a fetched copy of a hub id."""
    folder = Path(model)
    if folder.is_dir():
        if revision is not None:
            raise InputError(f"{folder}: a local folder has no revisions; leave out revision {revision!r}")
        return folder
    looks_local = folder.is_absolute() or str(model).startswith((".", "~")) or str(model).count("/") != 1
    if looks_local or folder.exists():
        raise InputError(f"{model}: no such model folder; give a folder or a hub id such as org/name")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        return Path(snapshot_download(str(model), revision=revision, allow_patterns=_FETCHED))
    except (HFValidationError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise InputError(f"{model}: no such folder, and the hub does not know it ({_first_line(error)})") from None
    except Exception as error:  # the network fails in many ways; to the user they are one
        raise InputError(f"{model}: no such folder, and it cannot be fetched ({_first_line(error)})") from None


class _Container:
    """A model folder: what its files say about modules, pooling, prompts and length."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = Path(name).name if Path(name).is_dir() else name
        self.modules: list[dict[str, Any]] = []
        if (folder / "modules.json").is_file():
            self.modules = read_json(folder / "modules.json")
        self.is_plain = not self.modules
        kinds = [self._kind(module) for module in self.modules]
        unknown = [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Dense", "Normalize")]
        if unknown or (kinds and kinds[:2] != ["Transformer", "Pooling"]):
            raise InputError(
                f"{folder}: its modules are {', '.join(kinds)}; only Transformer, Pooling, Dense... and Normalize "
                "in this order are understood"
            )
        self.kinds = kinds
        self.backbone_folder = folder / self.modules[0].get("path", "") if self.modules else folder
        if not (self.backbone_folder / "config.json").is_file():
            raise InputError(f"{self.backbone_folder}: no config.json; this is not a model folder")
        if not any(self.backbone_folder.glob("*.safetensors")):
            pickled = sorted(p.name for p in self.backbone_folder.glob("*") if p.suffix in (".bin", ".pt", ".pth"))
            mend = "convert it to safetensors first: pickled weights can run any code"
            what = f"weights only as {pickled[0]}, which is a pickle; {mend}" if pickled else "no *.safetensors weights"
            raise InputError(f"{self.backbone_folder}: {what}")

    @staticmethod
    def _kind(module: dict[str, Any]) -> str:
        return str(module["type"]).rsplit(".", 1)[-1]

    def _module_folder(self, kind: str) -> Path | None:
        for module in self.modules:
            if self._kind(module) == kind:
                return self.folder / module["path"]
        return None

    def settings(self, config: Any, tokenizer: Any, pooling: Pooling | None) -> EncoderSettings:
        """Read pooling, prompts and length; a plain decoder gets the defaults of this house."""
        limits = [DEFAULT_MAX_LENGTH, tokenizer.model_max_length]
        if not is_decoder(config):
            limits.append(config.max_position_embeddings - (2 if "roberta" in config.model_type else 0))
        if self.is_plain:
            if pooling is None and not is_decoder(config):
                raise InputError(
                    f"{self.folder}: a plain {config.model_type} checkpoint does not say how it is pooled; "
                    "pass pooling: mean, cls or lasttoken"
                )
            return EncoderSettings(pooling=pooling or "lasttoken", max_length=int(min(limits)))
        stored = self._optional(self.backbone_folder / "sentence_bert_config.json").get("max_seq_length")
        given = self._optional(self.folder / "config_sentence_transformers.json").get("prompts") or {}
        prompts = {role: text for role, text in given.items() if text is not None}
        if "document" not in prompts and "passage" in prompts:
            prompts["document"] = prompts.pop("passage")
        return EncoderSettings(
            pooling=pooling or self._pooling(prompts),
            normalize="Normalize" in self.kinds,
            max_length=int(min([*limits, stored] if stored else limits)),
            prompts=prompts,
        )

    def _pooling(self, prompts: dict[str, str]) -> Pooling:
        folder = self._module_folder("Pooling")
        assert folder is not None, "checked when the container was read"
        config = read_json(folder / "config.json")
        mode = config.get("pooling_mode")
        modes = [mode] if isinstance(mode, str) else mode
        if modes is None:
            modes = [
                _LEGACY_POOLING.get(key, key) for key, on in config.items() if key.startswith("pooling_mode") and on
            ]
        if len(modes) != 1 or modes[0] not in _POOLING:
            raise InputError(
                f"{folder}: pooling {'+'.join(map(str, modes)) or 'none'}; one of lasttoken, mean, cls is needed"
            )
        if not config.get("include_prompt", True) and any(prompts.values()) and modes[0] == "mean":
            raise InputError(f"{folder}: its mean leaves the prompt out (include_prompt: false); this is not supported")
        return _POOLING[modes[0]]

    def dense(self) -> nn.Sequential | None:
        """Build the dense layers that follow pooling, if any."""
        from safetensors.torch import load_file

        layers: list[nn.Module] = []
        for module, kind in zip(self.modules, self.kinds, strict=True):
            if kind != "Dense":
                continue
            folder = self.folder / module["path"]
            if not (folder / "model.safetensors").is_file():
                raise InputError(f"{folder}: no model.safetensors; pickled weights are refused, convert them first")
            config = read_json(folder / "config.json")
            linear = nn.Linear(config["in_features"], config["out_features"], bias=config.get("bias", True))
            weights = {name.removeprefix("linear."): t for name, t in load_file(folder / "model.safetensors").items()}
            linear.load_state_dict(weights)
            activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rsplit(".", 1)[-1]
            if activation not in ("Identity", "Tanh", "ReLU", "GELU"):
                raise InputError(f"{folder}: activation {activation} is unknown; use Identity, Tanh, ReLU or GELU")
            layers += [linear, getattr(nn, activation)()]
        return nn.Sequential(*layers) if layers else None

    @staticmethod
    def _optional(path: Path) -> dict[str, Any]:
        return read_json(path) if path.is_file() else {}


def _load_backbone(container: _Container, dtype: str | torch.dtype, attention: str | None, trust: bool) -> Any:
    from transformers import AutoConfig, AutoModel

    folder = container.backbone_folder
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust)
    except (ValueError, KeyError, OSError, json.JSONDecodeError) as error:
        raise InputError(f"{folder}: its config.json cannot be used ({_first_line(error)})") from None
    if attention is not None:
        if not is_decoder(config):
            raise InputError(
                f"{folder}: {config.model_type} is an encoder and always bidirectional; leave out attention"
            )
        config.is_causal = attention == "causal"
    extra = {} if is_decoder(config) else {"add_pooling_layer": False}
    try:
        backbone, report = AutoModel.from_pretrained(
            folder,
            config=config,
            dtype=_dtype(dtype),
            attn_implementation="sdpa",
            trust_remote_code=trust,
            use_safetensors=True,
            output_loading_info=True,
            **extra,
        )
    except (ValueError, OSError, RuntimeError) as error:
        raise InputError(f"{folder}: cannot be loaded ({_first_line(error)})") from None
    missing = sorted(report["missing_keys"])
    if missing:
        raise InputError(
            f"{folder}: its weights lack {len(missing)} tensors that the config asks for, such as {missing[0]}; "
            "they would be random"
        )
    return backbone.eval()


def _load_tokenizer(container: _Container, trust: bool) -> Any:
    from transformers import AutoTokenizer

    folder = container.backbone_folder
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust)
    except Exception as error:  # a missing or broken tokenizer fails in many ways
        raise InputError(f"{folder}: no usable tokenizer ({_first_line(error)})") from None
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(f"{folder}: no tokenizer.json (a fast tokenizer); convert it once with transformers")
    return tokenizer


def _dtype(dtype: str | torch.dtype) -> str | torch.dtype:
    if isinstance(dtype, torch.dtype) or dtype == "auto":
        return dtype
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype not in known:
        raise InputError(f"dtype {dtype!r} is unknown; choose auto, {', '.join(known)}")
    return known[dtype]


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
