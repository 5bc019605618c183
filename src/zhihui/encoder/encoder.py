"""Encoder: a backbone, a tokenizer and settings, together one function from text to vector."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from zhihui import progress
from zhihui.encoder import pruning
from zhihui.encoder.attention import PACKED
from zhihui.encoder.modeling_terms import TermsConfig
from zhihui.encoder.packing import Packed, pack, plan_batches
from zhihui.encoder.pooling import pool_packed, pool_padded, pooled_rows
from zhihui.encoder.settings import EncoderSettings, Role
from zhihui.encoder.tokens import tokenize
from zhihui.encoder.weights import WeightsDigest
from zhihui.errors import InputError
from zhihui.runs import fingerprint

_WINDOW = 8192
"""Texts tokenized and sorted together: bounds memory, and is far more than a batch needs to sort well."""
_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet")
"""Families whose position ids begin after the padding id."""
_MUTE_CONFIG = (
    "_name_or_path",
    "transformers_version",
    "architectures",
    "auto_map",
    "dtype",
    "torch_dtype",
    "matryoshka_dimensions",
)
"""Entries of a config that no vector depends on, or that are told by the weights."""


class Encoder(nn.Module):
    """A text-embedding model: `encode_queries` and `encode_documents` for use, `forward` for training.

    Built by `zhihui.load` or `zhihui.encoder.build`, not by hand.
    """

    def __init__(
        self,
        backbone: Any,
        tokenizer: Any,
        settings: EncoderSettings,
        *,
        name: str,
        dense: nn.Sequential | None = None,
        packable: bool = True,
    ) -> None:
        """Put the parts together.

        Args:
            backbone: a transformers model that returns `last_hidden_state`.
            tokenizer: its fast tokenizer.
            settings: prompts, pooling, length, normalisation.
            name: for tables and messages.
            dense: layers between pooling and normalisation.
            packable: whether the backbone takes packed sequences; else batches are padded.
        """
        super().__init__()
        self.backbone = backbone
        self.dense = dense
        self.tokenizer = tokenizer
        self.settings = settings
        self.name = name
        self.packable = packable
        self._weights = WeightsDigest()
        self.token_budget: int | None = None
        """Tokens computed together where a call does not say; None suits the device."""
        self.prunable = packable and pruning.prepare(backbone)
        """Whether encoding may leave out what is not pooled of the last layer; the same vectors, sooner."""
        if packable:
            backbone.set_attn_implementation(PACKED)

    # ----------------------------------------------------------------------- properties

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are stored and computed in."""
        return next(self.backbone.parameters()).dtype

    @property
    def dimension(self) -> int:
        """Length D of a vector."""
        if self.dense is not None:
            return int([layer for layer in self.dense if isinstance(layer, nn.Linear)][-1].out_features)
        return int(self.backbone.config.hidden_size)

    @property
    def has_layers(self) -> bool:
        """Whether the backbone computes a state for each token, as `has_layers` tells it by the config."""
        return has_layers(self.backbone.config)

    @property
    def is_causal(self) -> bool:
        """Whether a token is blind to those after it."""
        return not claims_open(self.backbone.config)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over weights, configuration, tokenizer and settings: whatever can change a vector changes it."""
        config = {k: v for k, v in self.backbone.config.to_dict().items() if k not in _MUTE_CONFIG}
        # Every call sets its own truncation and padding in the tokenizer; they are no part of what it is.
        tokenizer = json.loads(self.tokenizer.backend_tokenizer.to_str()) | {"truncation": None, "padding": None}
        parts = [self._weights.of(self.state_dict()), config, self.is_causal, tokenizer, self.tokenizer.truncation_side]
        # A prompt that is empty and one that is not there are the same.
        settings = replace(self.settings, prompts={role: text for role, text in self.settings.prompts.items() if text})
        return fingerprint([*parts, settings, repr(self.dense)])

    # ----------------------------------------------------------------------- vectors

    def forward(self, packed: Packed) -> Tensor:
        """Return the vectors of packed sequences `[B, D]`, fp32, of unit norm if the settings say so."""
        rows = pooled_rows(packed, self.settings.pooling) if self.prunable and not self._checkpoints() else None
        last = self.settings.pooling == "lasttoken"
        with nullcontext() if rows is None else pruning.only(rows, len(packed.ids), last=last):
            vectors = self._pooled(packed)
        if self.dense is not None:
            vectors = self.dense(vectors.to(next(self.dense.parameters()).dtype)).float()
        return normalize(vectors, dim=-1) if self.settings.normalize else vectors

    def _checkpoints(self) -> bool:
        """Tell whether layers are recomputed in the backward pass, which knows nothing of what is pooled."""
        if not self.training:
            return False
        found = getattr(self.backbone, "is_activation_checkpointing", None)  # its name since transformers 5.2x
        return bool(getattr(self.backbone, "is_gradient_checkpointing", False) if found is None else found)

    def _pooled(self, packed: Packed) -> Tensor:
        """Return one fp32 vector per sequence `[B, D]`, as the backbone and pooling make it."""
        pooling = self.settings.pooling
        if self.packable:
            return pool_packed(packed_states(self.backbone, packed)[0], packed, pooling)
        ids, mask = packed.padded(self.tokenizer.pad_token_id or 0)
        if not self.has_layers:  # its states are all alike: none has to be looked for
            vectors: Tensor = self.backbone.vectors(ids, mask)
            return vectors
        return pool_padded(self.backbone(input_ids=ids, attention_mask=mask).last_hidden_state, mask, pooling)

    def tokenize(
        self, texts: Sequence[str], *, role: Role, instruction: str | Sequence[str | None] | None = None
    ) -> list[list[int]]:
        """Return token ids by `zhihui.encoder.tokens.tokenize` with this model's tokenizer and settings."""
        return tokenize(self.tokenizer, self.settings, texts, role=role, instruction=instruction)

    # ----------------------------------------------------------------------- encoding

    def encode_queries(
        self, texts: Sequence[str], *, instruction: str | None = None, token_budget: int | None = None
    ) -> NDArray[np.float32]:
        """Return the vectors of queries `[N, D]`, in the order given.

        Args:
            texts: bare queries; the model's query prompt is put before them.
            instruction: a task in words that replaces the prompt; "" encodes the queries bare.
            token_budget: tokens computed together; None suits the device.
        """
        return self.encode(texts, role="query", instruction=instruction, token_budget=token_budget)

    def encode_documents(self, texts: Sequence[str], *, token_budget: int | None = None) -> NDArray[np.float32]:
        """Return the vectors of passages `[N, D]`, in the order given."""
        return self.encode(texts, role="document", token_budget=token_budget)

    def encode(
        self,
        texts: Sequence[str],
        *,
        role: Role,
        instruction: str | None = None,
        token_budget: int | None = None,
    ) -> NDArray[np.float32]:
        """Return the vectors of texts in one role `[N, D]`, in the order given.

        Raises:
            ValueError: `texts` is a single string, or an instruction was given for documents.
            InputError: the budget is not positive, or the prompt leaves no room for a text.
        """
        if isinstance(texts, str):
            raise ValueError("texts is a single string; pass a list of strings")
        if token_budget is not None and token_budget < 1:
            raise InputError(f"token_budget {token_budget} is not positive; use a few thousand tokens")
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        with progress.bar(len(texts), "Encoding") as bar:
            for indices, batch in self._encoded(texts, role, instruction, token_budget or self.budget()):
                vectors[indices] = batch
                bar.advance(len(indices))
        return vectors

    def _encoded(
        self, texts: Sequence[str], role: Role, instruction: str | None, budget: int
    ) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
        """Yield the vectors of one batch at a time and where they belong."""
        training = self.training
        if training:
            self.eval()
        try:
            for start in range(0, len(texts), _WINDOW):
                ids = self.tokenize(texts[start : start + _WINDOW], role=role, instruction=instruction)
                for batch in plan_batches([len(i) for i in ids], budget, padded=not self.packable):
                    with torch.inference_mode():
                        vectors = self(pack([ids[i] for i in batch]).to(self.device))
                    yield [start + i for i in batch], vectors.cpu().numpy()
        finally:
            if training:
                self.train()

    def budget(self) -> int:
        """Return the tokens computed together where a call does not say.

        `token_budget` if that is set; else on a CPU what fits its caches, on a GPU what fills it (measured,
        docs/lab-log.md).
        """
        if self.token_budget is not None:
            return self.token_budget
        return 65536 if self.device.type == "cuda" else 1024


def packed_states(backbone: Any, packed: Packed) -> Tensor:
    """Return the last hidden states `[1, T, D]` of packed sequences; the backbone's attention must be `PACKED`."""
    config = backbone.config
    # Any other attention would ignore the lengths, and sequences would see one another.
    assert config._attn_implementation == PACKED, f"attention was set to {config._attn_implementation!r}"
    ids, positions = packed.ids[None], packed.positions[None]
    extra: dict[str, Any] = {}
    if is_decoder(config):
        extra["use_cache"] = False
    else:
        # BERT keeps a buffer of token types as long as its longest text; a packed row is longer.
        extra["token_type_ids"] = torch.zeros_like(ids)
    positions = positions + position_offset(config)
    return backbone(input_ids=ids, position_ids=positions, packed_lengths=packed.lengths, **extra).last_hidden_state


def position_offset(config: Any) -> int:
    """Return the position id of a text's first token."""
    return int(config.pad_token_id) + 1 if config.model_type in _OFFSET_POSITIONS else 0


def is_decoder(config: Any) -> bool:
    """Tell a decoder's config from an encoder's."""
    # BERT and its kin can be run as language models too, but a config with token types is an encoder's.
    return config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not hasattr(config, "type_vocab_size")


def has_layers(config: Any) -> bool:
    """Tell whether layers compute a state for each token, from a config.

    A model of terms (`zhihui.encoder.terms`) has none: it makes one vector of a text's terms. So there is no attention
    to probe, nothing to pack, no last token to read, and no class of transformers that could load it: its code is
    zhihui's own and travels with it.
    """
    return bool(config.model_type != TermsConfig.model_type)


def claims_open(config: Any) -> bool:
    """Tell whether a config says that every token sees every other."""
    if getattr(config, "use_bidirectional_attention", False):
        return True
    closed = is_decoder(config) or bool(getattr(config, "is_decoder", False))
    return not getattr(config, "is_causal", closed)
