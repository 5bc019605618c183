"""Container: what the files of a model folder say about modules, pooling, prompts and length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from zhihui.encoder.encoder import is_decoder, position_offset
from zhihui.encoder.settings import EncoderSettings, Pooling
from zhihui.errors import InputError
from zhihui.runs import read_json

DEFAULT_MAX_LENGTH = 512
_POOLING: dict[str, Pooling] = {"lasttoken": "lasttoken", "mean": "mean", "cls": "cls"}
_LEGACY_POOLING: dict[str, Pooling] = {
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
}
_ACTIVATIONS: dict[str, type[nn.Module]] = {"Identity": nn.Identity, "Tanh": nn.Tanh, "ReLU": nn.ReLU, "GELU": nn.GELU}
_PASSAGE_PROMPTS = ("document", "passage", "corpus")
"""Names under which a folder may keep the prompt of passages, the first found counting."""


class Container:
    """A folder of a sentence-transformers model, or of a plain transformers model."""

    def __init__(self, folder: Path, name: str) -> None:
        """Read the list of modules and check that all files are there.

        Raises:
            InputError: modules in an unknown order or of an unknown kind, no config, or no safetensors weights.
        """
        self.folder = folder
        self.name = folder.resolve().name if Path(name).is_dir() else name
        self.modules = self._read_modules()
        self.is_plain = not self.modules
        self.kinds = [str(module["type"]).rsplit(".", 1)[-1] for module in self.modules]
        self.backbone_folder = folder / self.modules[0]["path"] if self.modules else folder
        if not (self.backbone_folder / "config.json").is_file():
            raise InputError(f"{self.backbone_folder}: no config.json; this is not a model folder")
        if not any(self.backbone_folder.glob("*.safetensors")):
            pickled = sorted(p.name for p in self.backbone_folder.glob("*") if p.suffix in (".bin", ".pt", ".pth"))
            mend = "convert it to safetensors first: pickled weights can run any code"
            what = f"weights only as {pickled[0]}, which is a pickle; {mend}" if pickled else "no *.safetensors weights"
            raise InputError(f"{self.backbone_folder}: {what}")

    def _read_modules(self) -> list[dict[str, Any]]:
        path = self.folder / "modules.json"
        if not path.is_file():
            return []
        modules = read_json(path)
        if not isinstance(modules, list) or not all(
            isinstance(m, dict) and isinstance(m.get("type"), str) and isinstance(m.get("path"), str) for m in modules
        ):
            raise InputError(f'{path}: must be a list of modules, each with a "type" and a "path"')
        types = [module["type"] for module in modules]
        # A class of the same name from elsewhere is other code and may do anything.
        kinds = [t.rsplit(".", 1)[-1] if t.startswith("sentence_transformers.") else t for t in types]
        wanted = ["Transformer", "Pooling", *["Dense"] * kinds.count("Dense"), *["Normalize"] * ("Normalize" in kinds)]
        if kinds != wanted:
            raise InputError(
                f"{path}: its modules are {', '.join(kinds) or 'none'}; only Transformer, Pooling, Dense... and "
                "Normalize of sentence_transformers, in this order, are understood"
            )
        return modules

    def transformer(self) -> dict[str, Any]:
        """Return what the transformer module's own file says; older versions named it after the model's family."""
        if self.is_plain:
            return {}
        for path in sorted(self.backbone_folder.glob("sentence_*_config.json")):
            config = _read_object(path)
            if config.get("config_kwargs") or config.get("config_args"):
                raise InputError(f"{path}: it overrides config.json (config_kwargs); put the changes into config.json")
            return config
        return {}

    def settings(self, config: Any, tokenizer: Any, pooling: Pooling | None) -> EncoderSettings:
        """Read pooling, prompts and length; a plain decoder gets the defaults of this house.

        Args:
            config: of the backbone.
            tokenizer: of the backbone.
            pooling: None for the folder's own.

        Raises:
            InputError: the pooling is unknown or unsaid, or a file is not what it should be.
        """
        limits = [DEFAULT_MAX_LENGTH, tokenizer.model_max_length, positions(config)]
        if self.is_plain and is_decoder(config):
            return EncoderSettings(pooling=pooling or "lasttoken", max_length=_least(limits))
        if self.is_plain:
            if pooling is None:
                raise InputError(
                    f"{self.folder}: a plain {config.model_type} checkpoint does not say how it is pooled; "
                    "pass pooling: mean, cls or lasttoken"
                )
            # The prompt of this house is an instruction, which only models trained on such understand.
            return EncoderSettings(pooling=pooling, max_length=_least(limits), prompts={})
        prompts = self._prompts()
        return EncoderSettings(
            pooling=pooling or self._pooling(prompts),
            normalize="Normalize" in self.kinds,
            max_length=_least([*limits, self.transformer().get("max_seq_length")]),
            prompts=prompts,
        )

    @property
    def adds_eos(self) -> bool:
        """Whether the tokenizer is to end texts with EOS, which some repositories leave to code of their own."""
        path = self.backbone_folder / "tokenizer_config.json"
        return path.is_file() and bool(_read_object(path).get("add_eos_token"))

    def _prompts(self) -> dict[str, str]:
        path = self.folder / "config_sentence_transformers.json"
        given = (_read_object(path).get("prompts") or {}) if path.is_file() else {}
        if not isinstance(given, dict) or not all(text is None or isinstance(text, str) for text in given.values()):
            raise InputError(f'{path}: "prompts" must map names to texts')
        prompts = {role: text for role, text in given.items() if text is not None}
        passage = next((name for name in _PASSAGE_PROMPTS if name in prompts), "document")
        if passage != "document":
            prompts["document"] = prompts.pop(passage)
        return prompts

    def _pooling(self, prompts: dict[str, str]) -> Pooling:
        path = self.folder / self.modules[1]["path"] / "config.json"
        config = _read_object(path)
        mode = config.get("pooling_mode")
        modes = [mode] if isinstance(mode, str) else mode
        if modes is None:
            modes = [
                _LEGACY_POOLING.get(key, key) for key, on in config.items() if key.startswith("pooling_mode") and on
            ]
        if not isinstance(modes, list) or len(modes) != 1 or modes[0] not in _POOLING:
            what = "+".join(map(str, modes)) if isinstance(modes, list) else str(modes)
            raise InputError(f"{path}: pooling {what or 'none'}; one of lasttoken, mean, cls is needed")
        if not config.get("include_prompt", True) and any(prompts.values()) and modes[0] == "mean":
            raise InputError(f"{path}: its mean leaves the prompt out (include_prompt: false); this is not supported")
        return _POOLING[modes[0]]

    def dense(self, width: int) -> nn.Sequential | None:
        """Build the dense layers that follow pooling, if any; `width` is the backbone's.

        Raises:
            InputError: a layer that is pickled, does not fit, or is of an unknown kind.
        """
        layers: list[nn.Module] = []
        for module, kind in zip(self.modules, self.kinds, strict=True):
            if kind == "Dense":
                linear, activation = _dense(self.folder / module["path"], width)
                layers += [linear, activation]
                width = linear.out_features
        return nn.Sequential(*layers) if layers else None


def positions(config: Any) -> int | None:
    """Return how many tokens a backbone has positions for; None when its config does not say."""
    count = getattr(config, "max_position_embeddings", None)
    return int(count) - position_offset(config) if count and count > 0 else None


def _dense(folder: Path, width: int) -> tuple[nn.Linear, nn.Module]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = _read_object(folder / "config.json")
    if not (folder / "model.safetensors").is_file():
        raise InputError(f"{folder}: no model.safetensors; pickled weights are refused, convert them first")
    name = str(config.get("activation_function", "torch.nn.Tanh"))
    activation = _ACTIVATIONS.get(name.rsplit(".", 1)[-1]) if name.startswith("torch.nn.") else None
    if activation is None:
        raise InputError(f"{folder}: activation {name} is unknown; use torch.nn.{', '.join(_ACTIVATIONS)}")
    tied = {config.get("module_input_name"), config.get("module_output_name")} - {None, "sentence_embedding"}
    if tied or config.get("use_residual"):
        raise InputError(f"{folder}: only a dense layer on the sentence_embedding, without residual, is understood")
    if config.get("in_features") != width or not isinstance(config.get("out_features"), int):
        raise InputError(f"{folder}: in_features is {config.get('in_features')}, but {width} numbers come in")
    linear = nn.Linear(width, config["out_features"], bias=bool(config.get("bias", True)))
    try:
        weights = {name.removeprefix("linear."): t for name, t in load_file(folder / "model.safetensors").items()}
        linear.load_state_dict(weights)
    except (RuntimeError, SafetensorError) as error:
        raise InputError(f"{folder}: model.safetensors does not fit its config.json ({first_line(error)})") from None
    return linear, activation()


def _least(limits: list[Any]) -> int:
    return int(min(limit for limit in limits if limit))


def _read_object(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: must be a JSON object, not {type(content).__name__}")
    return content


def first_line(error: BaseException) -> str:
    """Return the first line of another library's message, to be quoted inside ours."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
