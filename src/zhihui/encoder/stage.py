"""Models as stages: one built fresh on a data set's text, and one written out anew with what is to change in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from zhihui.encoder.encoder import Encoder
from zhihui.encoder.export_check import export_checked
from zhihui.encoder.fresh import SHAPES, build
from zhihui.encoder.loading import load
from zhihui.encoder.settings import EncoderSettings, Pooling, query_prompt
from zhihui.encoder.terms import TERMS, pack
from zhihui.encoder.terms import build as build_terms
from zhihui.errors import InputError
from zhihui.records import is_beir, read_beir, read_examples
from zhihui.runs import Manifest, run_stage

MODEL = "model"
Attention = Literal["bidirectional", "causal"]
Dtype = Literal["auto", "float32", "bfloat16", "float16", "int4"]


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """A fresh model."""

    shape: str = "nano"
    """A key of `SHAPES`, or `terms` for a model of weighted terms."""
    vocabulary: int | None = None
    """Most tokens to learn (terms: most characters to keep); None for what the amount of text supports."""
    attention: Attention = "bidirectional"
    """Which tokens a token sees: all, or those before it."""
    settings: EncoderSettings = field(default_factory=EncoderSettings)
    seed: int = 0
    """Of the weights."""

    def __post_init__(self) -> None:
        _check_choice("shape", self.shape, (*SHAPES, TERMS))
        _check_choice("attention", self.attention, get_args(Attention))
        if self.shape == TERMS and self.attention == "causal":
            raise InputError("attention causal: a model of terms has none, each of its states sees the whole text")

    def build(self, texts: Sequence[str]) -> Encoder:
        """Build the model on these texts.

        Raises:
            InputError: no text, or a vocabulary too small.
        """
        if self.shape == TERMS:
            return build_terms(texts, seed=self.seed, settings=self.settings, vocabulary=self.vocabulary)
        return build(
            self.shape,
            texts,
            seed=self.seed,
            settings=self.settings,
            vocabulary=self.vocabulary,
            bidirectional=self.attention == "bidirectional",
        )


def build_files(
    data: Path, out: Path, config: BuildConfig, *, split: str = "train", overwrite: bool = False
) -> Manifest:
    """Build a model on a data set's text; `out` gets `model/`, as exported.

    Args:
        data: BEIR folder, or file or folder of examples. Their passages and queries are what the tokenizer learns
            from and token frequencies are counted in.
        out: the stage's folder.
        config: shape, vocabulary, attention, settings, seed.
        split: of a BEIR folder: whose queries are read; those of the others are kept for measuring.
        overwrite: replace a finished run of other inputs or settings.

    Raises:
        InputError: unusable data, or a vocabulary too small.
    """

    def work(folder: Path) -> dict[str, Any]:
        encoder = config.build(_texts(data, split))
        return {"tokens": len(encoder.tokenizer), **_write(encoder, folder, MODEL)}

    settings = {"build": config, "split": split if is_beir(data) else None}
    return run_stage("build", out, work, inputs={"data": data}, config=settings, overwrite=overwrite)


def _texts(data: Path, split: str) -> list[str]:
    if is_beir(data):
        whole = read_beir(data)
        return [
            *(passage.full for passage in whole.corpus.values()),
            *(whole.queries[key] for key in whole.judged(split)),
        ]
    examples = list(read_examples(data))
    # A passage that answers many queries is one text.
    passages = dict.fromkeys(text for example in examples for text in (*example.pos, *example.neg))
    return [*passages, *(example.query for example in examples)]


# --------------------------------------------------------------------------- export


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """What is changed in a model as it is written out; None leaves the model's own."""

    name: str | None = None
    """What the model card's code loads, such as a hub id; None for the folder."""
    dtype: Dtype = "auto"
    """What the weights are written in; auto is what they are stored in (once loaded, int4 is bfloat16). int4: models of
    terms, whose embeddings take four bits a number beside weights in bfloat16."""
    max_length: int | None = None
    """Tokens a text is cut to, prompt included."""
    pooling: Pooling | None = None
    """Which hidden states make the vector."""
    attention: Attention | None = None
    """Decoders: which tokens a token sees."""
    instruction: str | None = None
    """The task in words, as the query prompt; empty for bare queries."""
    query_prompt: str | None = None
    """Whole text before a query, in place of `instruction`."""
    document_prompt: str | None = None
    """Text before a document."""

    def __post_init__(self) -> None:
        for name, choices in (("dtype", Dtype), ("pooling", Pooling), ("attention", Attention)):
            _check_choice(name, getattr(self, name), (None, *get_args(choices)))
        if self.max_length is not None and self.max_length < 2:
            raise InputError(f"max_length {self.max_length} leaves no room for a token and EOS; use at least 2")
        if self.instruction is not None and self.query_prompt is not None:
            raise InputError("instruction and query_prompt exclude each other; both are what stands before a query")

    def load(self, model: str, *, device: str | None = None) -> Encoder:
        """Load a model with these changes.

        Raises:
            InputError: as `zhihui.encoder.load` has it.
        """
        encoder = load(
            model,
            device=device,
            dtype="bfloat16" if self.dtype == "int4" else self.dtype,
            max_length=self.max_length,
            pooling=self.pooling,
            attention=self.attention,
        )
        if self.dtype == "int4":
            if encoder.has_layers:
                raise InputError(f"{encoder.name}: dtype int4 is for models of terms; use bfloat16 or float16")
            pack(encoder.backbone)
        query = self.query_prompt if self.instruction is None else query_prompt(self.instruction)
        given = {"query": query, "document": self.document_prompt}
        prompts = encoder.settings.prompts | {role: text for role, text in given.items() if text is not None}
        encoder.settings = replace(encoder.settings, prompts=prompts)
        return encoder


def export_files(
    model: str, out: Path, config: ExportConfig, *, device: str | None = None, overwrite: bool = False
) -> Manifest:
    """Write a model out anew; `out` gets `model/`, checked in transformers and sentence-transformers.

    Args:
        model: folder or hub id.
        out: the stage's folder.
        config: what is changed.
        device: where the check is computed; None for a GPU if any.
        overwrite: replace a finished run of another model or other settings.

    Raises:
        InputError: the model cannot be loaded, or not be exported.
        RunFailure: the export does not give the model's vectors.
    """
    encoder = config.load(model, device=device)

    def work(folder: Path) -> dict[str, Any]:
        return _write(encoder, folder, config.name or MODEL)

    return run_stage(
        "export", out, work, inputs={"model": encoder.fingerprint}, config={"name": config.name}, overwrite=overwrite
    )


def _write(encoder: Encoder, folder: Path, name: str) -> dict[str, Any]:
    difference = export_checked(encoder, folder / MODEL, name=name, overwrite=True)
    return {
        "parameters": sum(weights.numel() for weights in encoder.parameters()),
        "dimension": encoder.dimension,
        "export_difference": difference,
    }


def _check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    if value not in choices:
        known = ", ".join(choice for choice in choices if choice is not None)
        raise InputError(f"{name} {value!r} is unknown; choose {known}")
