"""HardnessInfoNCE: our loss in sentence-transformers' own trainer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from zhihui.errors import InputError
from zhihui.training.loss import Layout, LearnedTemperature, LossConfig, Masked, info_nce


class HardnessInfoNCE(nn.Module):
    """Hardness-weighted InfoNCE for a `SentenceTransformerTrainer`.

    Columns are (anchor, positive) or (anchor, positive, negative_1, ..., negative_n). With `distillation`, the labels
    are the teacher's grades `[B, 1 + n]` of positive and negatives, NaN where there is none. Texts are equal when their
    token ids are; an input without token ids (an image) equals no other. Each process contrasts its own batch.

    `masked` counts what was dropped from the last batch.

    Example:
        loss = HardnessInfoNCE(model, LossConfig(hardness="additive", strength=5.0))
        SentenceTransformerTrainer(model=model, train_dataset=dataset, loss=loss).train()
    """

    def __init__(self, model: Any, config: LossConfig | None = None) -> None:
        """Take a `SentenceTransformer` and the settings; None for the defaults.

        Raises:
            InputError: the temperature is to be learned from below the lowest.
        """
        super().__init__()
        self.model = model
        self.config = config or LossConfig()
        self.learned = LearnedTemperature(self.config.temperature) if self.config.learn_temperature else None
        self.masked: Masked | None = None

    @property
    def temperature(self) -> float:
        """τ as it is now."""
        return self.config.temperature if self.learned is None else float(self.learned().detach())

    def forward(self, sentence_features: Iterable[Mapping[str, Any]], labels: Tensor | None = None) -> Tensor:
        """Return the loss of a batch, a scalar.

        Raises:
            InputError: there is no positive column, or there are no grades and `distillation` needs them.
        """
        columns = [dict(features) for features in sentence_features]
        if len(columns) < 2:
            raise InputError(f"the data has {len(columns)} text column; give at least an anchor and a positive")
        # Before the model is called, which may change its features in place.
        keys = [_keys(features, number) for number, features in enumerate(columns)]
        vectors = [normalize(self.model(features)["sentence_embedding"].float(), dim=-1) for features in columns]
        layout = self._layout(keys, labels).to(vectors[0].device)
        temperature = vectors[0].new_tensor(self.config.temperature) if self.learned is None else self.learned()
        apply: Any = _ClosedForm.apply
        loss, self.masked = apply(vectors[0], torch.cat(vectors[1:]), temperature, layout, self.config)
        return loss

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings, for sentence-transformers' model card."""
        return {name: getattr(self.config, name) for name in self.config.__dataclass_fields__}

    def _layout(self, keys: list[list[int]], labels: Tensor | None) -> Layout:
        count, columns = len(keys[0]), len(keys) - 1
        grade = None
        if self.config.distillation:
            if labels is None or labels.shape != (count, columns):
                given = "none" if labels is None else f"of shape {list(labels.shape)}"
                raise InputError(
                    f"distillation needs the teacher's grades of all {columns} passages as labels "
                    f"[{count}, {columns}]; they are {given}: add a column `label`, or set distillation to 0"
                )
            grade = labels.T.flatten()
        return Layout(
            owner=torch.arange(count).repeat(columns),
            is_positive=torch.arange(count * columns) < count,
            passage_key=torch.tensor([key for column in keys[1:] for key in column]),
            query_key=torch.tensor(keys[0]),
            grade=grade,
        )


class _ClosedForm(torch.autograd.Function):
    """The closed form as one node of autograd's graph."""

    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, passages: Tensor, temperature: Tensor, layout: Layout, config: LossConfig
    ) -> tuple[Tensor, Masked]:
        found = info_nce(queries, passages, layout, config, temperature=temperature)
        ctx.save_for_backward(found.queries, found.passages, found.temperature)
        return found.loss, found.masked

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, by_loss: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        queries, passages, temperature = ctx.saved_tensors
        return by_loss * queries, by_loss * passages, by_loss * temperature, None, None


def _keys(features: Mapping[str, Any], column: int) -> list[int]:
    """Return keys that are equal where the token ids are, whatever the padding."""
    ids, mask = features.get("input_ids"), features.get("attention_mask")
    if not (isinstance(ids, Tensor) and isinstance(mask, Tensor) and ids.dim() == 2 and mask.shape == ids.shape):
        first = next(value for value in features.values() if isinstance(value, Tensor))
        return [-(1 + column * len(first) + row) for row in range(len(first))]
    rows = zip(ids.cpu().long().numpy(), mask.cpu().bool().numpy(), strict=True)
    # Half of 64 bits' range is left to inputs without token ids.
    return [
        int.from_bytes(hashlib.blake2b(row[kept].tobytes(), digest_size=8).digest(), "big") >> 1 for row, kept in rows
    ]
