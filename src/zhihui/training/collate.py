"""Collating: a batch's rows become token sequences and the layout that says who is who among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch.utils.data import Dataset

from zhihui.encoder.encoder import Encoder
from zhihui.encoder.settings import Role
from zhihui.encoder.tokens import tokenize
from zhihui.records import Example
from zhihui.training.batches import BatchConfig, draw
from zhihui.training.loss import Layout, equality_keys


@dataclass(frozen=True)
class Batch:
    """One step's data."""

    rows: list[int]
    """Which examples."""
    sequences: list[list[int]]
    """Token ids, unpadded: those of the queries first, then those of the passages."""
    layout: Layout


class Batches(Dataset[Batch]):
    """Batch n of a plan, drawn and tokenized when it is asked for; the same whoever asks, and when."""

    def __init__(
        self,
        encoder: Encoder,
        examples: Sequence[Example],
        plan: Sequence[list[int]],
        config: BatchConfig,
        *,
        seed: int,
    ) -> None:
        """Keep what the batches are made of; `plan` is that of `zhihui.training.batches.plan`."""
        self.encoder, self.examples, self.plan, self.config, self.seed = encoder, examples, plan, config, seed

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, step: int) -> Batch:
        examples = [self.examples[row] for row in self.plan[step]]
        passages: list[str] = []
        owner: list[int] = []
        positive: list[bool] = []
        for place, example in enumerate(examples):
            chosen, negatives = draw(example, self.config, seed=self.seed, step=step)
            passages += [example.pos[i] for i in chosen] + [example.neg[i] for i in negatives]
            owner += [place] * (len(chosen) + len(negatives))
            positive += [True] * len(chosen) + [False] * len(negatives)
        queries = [example.query for example in examples]
        instructions = [example.prompt for example in examples]
        return Batch(
            rows=self.plan[step],
            sequences=[
                *self._tokenize(queries, "query", self.config.query_tokens, instructions),
                *self._tokenize(passages, "document", self.config.passage_tokens),
            ],
            layout=Layout(
                owner=torch.tensor(owner),
                is_positive=torch.tensor(positive),
                passage_key=equality_keys(passages),
                query_key=equality_keys(queries),
            ),
        )

    def _tokenize(
        self, texts: list[str], role: Role, length: int | None, instructions: list[str | None] | None = None
    ) -> list[list[int]]:
        settings = self.encoder.settings
        if length is not None:
            settings = replace(settings, max_length=min(length, settings.max_length))
        return tokenize(self.encoder.tokenizer, settings, texts, role=role, instruction=instructions)
