"""Export: a folder that transformers and sentence-transformers load without this package, to the same vectors."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from zhihui import __version__, progress
from zhihui.encoder import modeling_terms
from zhihui.encoder.encoder import Encoder, is_decoder
from zhihui.errors import InputError
from zhihui.runs import read_json, replace_folder, write_json

MODELING = "modeling_zhihui"
OPENED = {"qwen2": "Qwen2Model", "qwen3": "Qwen3Model", "llama": "LlamaModel", "mistral": "MistralModel"}
"""Decoders whose export brings code that opens their attention in transformers before 5.2."""
_PASSING = ("auto_map", "is_local", "local_files_only")
"""Entries of a tokenizer's config that tell of where it was loaded from."""


def export(encoder: Encoder, out: Path, *, name: str | None = None, overwrite: bool = False) -> None:
    """Write a model as a sentence-transformers folder with a model card; weights in the encoder's dtype.

    The folder appears whole or not at all. It serves transformers from 4.40 and sentence-transformers from 3.0 on:
    settings that were renamed since are written under both names, or under the one that all versions read.

    Args:
        encoder: the model.
        out: the folder to make.
        name: what the card's code loads, such as a hub id; None for the folder.
        overwrite: replace a folder that holds such a model; never anything else.

    Raises:
        InputError: `out` is taken, the model's code is its own, or its tokenizer has no token to pad with.
    """
    with staged(out, overwrite=overwrite) as folder:
        write(encoder, folder, name=name or shown_name(out))


@contextmanager
def staged(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give an empty folder to write a model into, which takes the place of `out` when the block ends without an error.

    Raises:
        InputError: as `check_free` has it.
    """
    check_free(out, overwrite=overwrite)
    partial = out.with_name(f".{out.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)  # what a killed attempt left
    partial.mkdir(parents=True)
    try:
        yield partial
        replace_folder(out, partial)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write(encoder: Encoder, folder: Path, *, name: str) -> None:
    """Write a model's files into an empty folder; `name` is what the card's code loads.

    Raises:
        InputError: the model's code is its own, or its tokenizer has no token to pad with.
    """
    _check_exportable(encoder)
    _write_backbone(encoder, folder)
    _write_tokenizer(encoder, folder)
    _write_modules(encoder, folder)
    (folder / "README.md").write_text(usage_card(encoder, name), encoding="utf-8")


def shown_name(out: Path) -> str:
    """Return what the card calls a model by default: its folder, without where it lies on this machine."""
    return out.name if out.is_absolute() else out.as_posix()


def check_free(out: Path, *, overwrite: bool) -> None:
    """Refuse a place where a model cannot or must not be written.

    Raises:
        InputError: `out` is no folder of its own, or holds anything but a model that may be replaced.
    """
    if out.name in ("", ".."):
        raise InputError(f"{out}: a model is a folder of its own; give it a name")
    blocked = next((parent for parent in out.parents if parent.exists() and not parent.is_dir()), None)
    if blocked is not None:
        raise InputError(f"{out}: {blocked} is a file; choose another folder")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / "modules.json").is_file():
        raise InputError(f"{out}: exists and is not an exported model; choose another folder")
    if not overwrite:
        raise InputError(f"{out}: already holds a model; choose another folder, or pass --overwrite to replace it")


def _check_exportable(encoder: Encoder) -> None:
    model, tokenizer = type(encoder.backbone), encoder.tokenizer
    ours = model.__module__.startswith("transformers_modules.") and model.__module__.endswith(f".{MODELING}")
    if not (model.__module__.startswith("transformers.") or not encoder.has_layers or ours):
        raise InputError(
            f"{encoder.name}: its code is its own ({model.__module__}.{model.__qualname__}); only a model of "
            "transformers can be exported"
        )
    if tokenizer.pad_token is None and tokenizer.eos_token is None:
        raise InputError(
            f"{encoder.name}: its tokenizer has neither a padding token nor EOS to pad with; name one in "
            "tokenizer_config.json"
        )


# --------------------------------------------------------------------------- transformers


@progress.same_for_transformers()
def _write_backbone(encoder: Encoder, folder: Path) -> None:
    encoder.backbone.save_pretrained(folder)
    path = folder / "config.json"
    config = read_json(path)
    config.pop("auto_map", None)  # of code that the model was loaded without
    config |= _older_names(config)
    family = OPENED.get(config["model_type"])
    if family is not None:
        # Servers choose their own implementation by this name, and know none of ours.
        config["architectures"] = [family]
    if not encoder.has_layers:
        shutil.copyfile(modeling_terms.__file__, folder / "modeling_terms.py")
        config["auto_map"] = {"AutoConfig": "modeling_terms.TermsConfig", "AutoModel": "modeling_terms.TermsModel"}
    elif has_code(encoder):
        source = (Path(__file__).parent / f"{MODELING}.py").read_text(encoding="utf-8")
        stock = f"import {OPENED['qwen2']} as Base"
        assert source.count(stock) == 1, "the class to open is named in one place"
        (folder / f"{MODELING}.py").write_text(source.replace(stock, f"import {family} as Base"), encoding="utf-8")
        config["auto_map"] = {"AutoModel": f"{MODELING}.BidirectionalModel"}
    else:
        (folder / f"{MODELING}.py").unlink(missing_ok=True)
    write_json(path, config)


def has_code(encoder: Encoder) -> bool:
    """Tell whether an export of this model brings code: its own, or what opens its attention in older transformers."""
    config = encoder.backbone.config
    return not encoder.has_layers or (config.model_type in OPENED and not encoder.is_causal)


def _older_names(config: dict[str, Any]) -> dict[str, Any]:
    """Return what transformers 4 calls by other names: there, an unknown rotary base is 10000 without a word."""
    older: dict[str, Any] = {}
    if config.get("dtype"):
        older["torch_dtype"] = config["dtype"]
    rope = config.get("rope_parameters")
    if rope and "rope_theta" in rope:
        older["rope_theta"] = rope["rope_theta"]
        scaling = {key: value for key, value in rope.items() if key != "rope_theta"}
        kind = scaling.get("rope_type", "default")
        older["rope_scaling"] = None if kind == "default" else {**scaling, "type": kind}
    return older


def _write_tokenizer(encoder: Encoder, folder: Path) -> None:
    # Encoding leaves truncation set in the tokenizer; a loaded one begins with none.
    tokenizer = copy.deepcopy(encoder.tokenizer)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # pooling goes by the mask, never by token id
    if encoder.settings.pooling == "cls" or not is_decoder(encoder.backbone.config):
        # sentence-transformers before 6 takes column 0 for the first token, and BERT counts positions from there.
        tokenizer.padding_side = "right"
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer.json"
    content = read_json(path)
    merges = content["model"].get("merges")
    if merges and all(isinstance(merge, list) and not any(" " in part for part in merge) for merge in merges):
        # Pairs as lists are unknown to tokenizers before 0.20; pairs as text are known to all.
        content["model"]["merges"] = [" ".join(merge) for merge in merges]
        path.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
    path = folder / "tokenizer_config.json"
    config = {key: value for key, value in read_json(path).items() if key not in _PASSING}
    if isinstance(config.get("extra_special_tokens"), list):
        # A list under this name stops transformers 4.51 to 4.57; all versions read the older name.
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    if is_decoder(encoder.backbone.config) or not encoder.has_layers:
        # The families' own classes rebuild the template in some versions, and lose EOS; the general one has had two
        # names, of which this one is known to all.
        config |= {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": ["input_ids", "attention_mask"]}
    write_json(path, config)


# --------------------------------------------------------------------------- sentence-transformers


def _write_modules(encoder: Encoder, folder: Path) -> None:
    settings = encoder.settings
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    pooling = {
        "word_embedding_dimension": encoder.backbone.config.hidden_size,
        "pooling_mode_cls_token": settings.pooling == "cls",
        "pooling_mode_mean_tokens": settings.pooling == "mean",
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
        "pooling_mode_weightedmean_tokens": False,
        "pooling_mode_lasttoken": settings.pooling == "lasttoken",
        "include_prompt": True,
    }
    write_json(folder / "1_Pooling" / "config.json", pooling)
    if encoder.dense is not None:
        layers = list(encoder.dense)
        for linear, activation in zip(layers[::2], layers[1::2], strict=True):
            path = f"{len(modules)}_Dense"
            _write_dense(folder / path, linear, activation)
            modules.append((path, "Dense"))
    if settings.normalize:
        path = f"{len(modules)}_Normalize"
        (folder / path).mkdir()
        modules.append((path, "Normalize"))
    listed = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (path, kind) in enumerate(modules)
    ]
    write_json(folder / "modules.json", listed)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": settings.max_length, "do_lower_case": False})
    about = {
        "__version__": {"zhihui": __version__},
        "prompts": {"query": "", "document": "", **settings.prompts},
        "default_prompt_name": None,
        "similarity_fn_name": "cosine",
    }
    write_json(folder / "config_sentence_transformers.json", about)


def _write_dense(folder: Path, linear: nn.Module, activation: nn.Module) -> None:
    from safetensors.torch import save_file

    assert isinstance(linear, nn.Linear)
    folder.mkdir()
    config = {
        "in_features": linear.in_features,
        "out_features": linear.out_features,
        "bias": linear.bias is not None,
        "activation_function": f"{type(activation).__module__}.{type(activation).__name__}",
    }
    write_json(folder / "config.json", config)
    weights = {f"linear.{name}": tensor.detach().cpu().contiguous() for name, tensor in linear.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


# --------------------------------------------------------------------------- model card


def usage_card(encoder: Encoder, name: str) -> str:
    """Return the model card of an export: what the model is, and code that uses it under this name."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("zhihui.encoder"), undefined=StrictUndefined, trim_blocks=True)
    environment.filters["code"] = lambda value: json.dumps(value, ensure_ascii=False)
    config, settings = encoder.backbone.config, encoder.settings
    return environment.get_template("card.md.j2").render(
        name=name,
        title=name.rsplit("/", 1)[-1],
        settings=settings,
        dimension=encoder.dimension,
        dense=encoder.dense is not None,
        family=config.model_type,
        attention="causal" if encoder.is_causal else "bidirectional",
        own_code=not encoder.has_layers,
        needs_code=has_code(encoder),
        needs_current=is_decoder(config) and not encoder.is_causal and not has_code(encoder),
        parameters=sum(p.numel() for p in encoder.parameters()),
        dtype=str(encoder.dtype).removeprefix("torch."),
        query_prompt=settings.prompt("query"),
        document_prompt=settings.prompt("document"),
    )
