"""How much a quickstart trains: as many examples and passes as its budget of tokens allows."""

from __future__ import annotations

import random
from collections.abc import Sequence

from zhihui.encoder import Encoder
from zhihui.records import Example
from zhihui.training.batches import BatchConfig
from zhihui.training.config import TrainConfig
from zhihui.training.loss import LossConfig

_LARGEST_BATCH = 64
_NEGATIVES = 2
_PASSAGE_TOKENS = 256
"""Long passages are cut in training, so that more of them are seen; measuring uses the model's own length."""
_MOST_PASSES = 4
_EVALUATIONS = 5
"""Points on the curve over training, beside the one before it."""
_SAMPLE = 256
_OF_TERMS = LossConfig(temperature=0.02, terms=("passage_query",))


def choose(encoder: Encoder, examples: Sequence[Example], *, tokens: int, seed: int) -> list[Example]:
    """Return the examples to train on, in their order: all, or a seeded draw when one pass over all is too long."""
    affordable = max(2 * _LARGEST_BATCH, int(tokens / _tokens_each(encoder, examples, seed)))
    if affordable >= len(examples):
        return list(examples)
    return [examples[row] for row in sorted(random.Random(seed).sample(range(len(examples)), affordable))]


def settings(encoder: Encoder, examples: Sequence[Example], *, tokens: int, seed: int) -> TrainConfig:
    """Return how to train on the chosen examples within the budget; small sets get small batches, so that they step."""
    size = max(2, min(_LARGEST_BATCH, len(examples) // 8))
    passes = round(tokens / (_tokens_each(encoder, examples, seed) * len(examples)))
    epochs = max(1, min(_MOST_PASSES, passes))
    steps = max(1, epochs * (len(examples) // size))
    # A model of terms has a weight for each, of which a batch moves few: it takes larger steps (docs/lab-log.md).
    terms = not encoder.has_layers
    return TrainConfig(
        loss=_OF_TERMS if terms else LossConfig(temperature=0.05, hardness="importance", strength=1.0),
        batches=BatchConfig(size=size, negatives=_NEGATIVES, passage_tokens=_PASSAGE_TOKENS),
        epochs=epochs,
        learning_rate=2e-3 if terms else 3e-4,
        weight_decay=0.0 if terms else 0.01,
        eval_steps=-(-steps // _EVALUATIONS),
        keep="best",
        save_steps=max(1, steps // 10),
        seed=seed,
    )


def _tokens_each(encoder: Encoder, examples: Sequence[Example], seed: int) -> float:
    """Return the tokens of an example with its negatives, on average over a sample."""
    sample = random.Random(seed).sample(list(examples), min(_SAMPLE, len(examples)))
    passages = [text for example in sample for text in (example.pos[0], *example.neg[:_NEGATIVES])]
    tokens = sum(min(len(ids), _PASSAGE_TOKENS) for ids in encoder.tokenize(passages, role="document"))
    tokens += sum(map(len, encoder.tokenize([example.query for example in sample], role="query")))
    return tokens / len(sample)
