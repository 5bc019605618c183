"""Batches: each of one data set, without texts alike, the same for a seed whatever happens around them.

The plan of a whole run is a list of batches of row numbers, a function of the data, the config and the seed alone. So
resuming at step n means taking batch n, and every process of a distributed run knows every batch.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from zhihui.errors import InputError
from zhihui.records import Example
from zhihui.runs import fingerprint
from zhihui.training.near import Alike, Sketch, folded, sketch


@dataclass(frozen=True, kw_only=True)
class SetConfig:
    """What is different for one data set; None leaves a setting to the whole run."""

    size: int | None = None
    """Queries a step, over all processes."""
    negatives: int | None = None
    """Hard negatives a query."""
    positives: int | None = None
    """Positives a query."""
    instruction: str | None = None
    """Task in words put before a query that has no prompt of its own; "" for none, None for the model's own."""
    loss_weight: float = 1.0
    """Factor on the loss of this data set's queries."""

    def __post_init__(self) -> None:
        if not self.loss_weight > 0:
            raise InputError(f"loss_weight {self.loss_weight} is not above 0; leave the data set out instead")


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """How examples are put into batches."""

    size: int = 256
    """Queries a step, over all processes."""
    negatives: int = 4
    """Hard negatives a query; a query with fewer keeps what it has."""
    positives: int = 1
    """Positives a query, drawn anew each epoch."""
    query_tokens: int | None = None
    """Tokens a query is cut to, prompt and EOS included; None for the model's own length."""
    passage_tokens: int | None = None
    """Tokens a passage is cut to, EOS included; None for the model's own length."""
    mixing: float = 1.0
    """Exponent on a data set's size that gives its share of the batches: 1 proportional, 0 equal."""
    weights: dict[str, float] = field(default_factory=dict)
    """Explicit shares by data set, in place of `mixing`; all data sets must be named."""
    near_duplicates: float | None = 0.9
    """Positives of which this share of three-character sequences agrees do not meet in a batch, at a cost of about
    0.1 ms a row and pass; None compares whole texts only."""
    sets: dict[str, SetConfig] = field(default_factory=dict)
    """What is different for a data set, by its name (`source`); "" names rows without one."""

    def __post_init__(self) -> None:
        if self.size < 2:
            raise InputError(f"batch size {self.size} has no in-batch negatives; use at least 2")
        if self.negatives < 0 or self.positives < 1:
            raise InputError(
                f"negatives {self.negatives} and positives {self.positives}; use at least 0 and at least 1"
            )
        for name in ("query_tokens", "passage_tokens"):
            tokens = getattr(self, name)
            if tokens is not None and tokens < 2:
                raise InputError(f"{name} {tokens} leaves no room for a token and EOS; use at least 2, or none")
        if not 0.0 <= self.mixing <= 1.0:
            raise InputError(f"mixing {self.mixing} is out of range; use 0 (equal) to 1 (proportional)")
        if any(weight <= 0 for weight in self.weights.values()):
            raise InputError("weights holds a share of 0 or less; leave the data set out of the data instead")
        if self.near_duplicates is not None and not 0.0 < self.near_duplicates <= 1.0:
            raise InputError(
                f"near_duplicates {self.near_duplicates} is no share; use more than 0 and at most 1, or none"
            )
        for name in self.sets:
            try:
                self.of(name)
            except InputError as error:
                raise InputError(f"sets.{name}: {error}") from None

    def of(self, source: str | None) -> BatchConfig:
        """Return the settings of one data set, with what is different for it."""
        own = self.sets.get(source or "")
        if own is None:
            return self
        given = {name: getattr(own, name) for name in ("size", "negatives", "positives")}
        return replace(self, sets={}, **{name: value for name, value in given.items() if value is not None})


def plan(examples: Sequence[Example], config: BatchConfig, *, epochs: int, seed: int) -> list[list[int]]:
    """Return the batches of a run, each a list of row numbers of one data set.

    An example whose query or positive equals another's in the batch but for script, case, width and white space, or
    whose positive is a near-duplicate, waits for the next. What is left at the end of a pass over a data set and fills
    no batch is left out of that pass; each pass has its own order.

    Raises:
        InputError: a data set does not fill one batch, `weights` does not name the data sets, or `sets` names another.
    """
    sources: dict[str, list[int]] = {}
    for number, example in enumerate(examples):
        sources.setdefault(example.source or "", []).append(number)
    if config.weights and set(config.weights) != set(sources):
        raise InputError(f"weights names {sorted(config.weights)}, the data sets are {sorted(sources)}; name each once")
    if strangers := sorted(set(config.sets) - set(sources)):
        raise InputError(f"sets names {strangers[0]!r}, the data sets are {sorted(sources)}; mend the name")
    texts = _Texts(examples, config.near_duplicates)

    def one_pass(name: str, number: int) -> list[list[int]]:
        size = config.of(name).size
        batches = _cut(sources[name], texts, size, _generator(seed, name, number))
        if not batches:
            raise InputError(
                f"data set {name or '(unnamed)'}: its {len(sources[name])} rows give no batch of {size} with "
                "distinct texts; make the batch smaller or leave the data set out"
            )
        return batches

    passes = dict.fromkeys(sources, 0)
    whole: list[list[int]] = []
    for epoch in range(epochs):
        first = {name: one_pass(name, passes[name]) for name in sources}
        passes = {name: number + 1 for name, number in passes.items()}
        wanted = _shares({name: len(batches) for name, batches in first.items()}, config)
        part: list[list[int]] = []
        for name, batches in first.items():
            while len(batches) < wanted[name]:
                batches += one_pass(name, passes[name])
                passes[name] += 1
            part += batches[: wanted[name]]
        _generator(seed, "order", epoch).shuffle(part)
        whole += part
    return whole


def check_fill(config: BatchConfig, rows: Mapping[str, int]) -> None:
    """Check that data sets of so many rows can fill a batch each.

    Raises:
        InputError: one cannot.
    """
    for name, count in rows.items():
        size = config.of(name).size
        if count < size:
            raise InputError(
                f"data set {name or '(unnamed)'}: its {count} rows give no batch of {size}; make the batch smaller or "
                "leave the data set out"
            )


class _Texts:
    """The texts of all rows, as they are compared."""

    def __init__(self, examples: Sequence[Example], threshold: float | None) -> None:
        self.examples, self.threshold = examples, threshold
        self.equal = [frozenset(hash(folded(text)) for text in (e.query, *e.pos)) for e in examples]

    def sketches(self, row: int) -> list[Sketch]:
        """Return the sketches of a row's positives, made anew: kept for all rows they would fill the memory."""
        return [] if self.threshold is None else [sketch(folded(text)) for text in self.examples[row].pos]


def _cut(rows: list[int], texts: _Texts, size: int, generator: random.Random) -> list[list[int]]:
    """Cut one data set's shuffled rows into full batches without texts alike."""
    order = list(rows)
    generator.shuffle(order)
    queue = deque(order)
    sketches: dict[int, list[Sketch]] = {}
    batches: list[list[int]] = []
    while True:
        batch: list[int] = []
        seen: set[int] = set()
        alike = Alike(texts.threshold or 1.0)
        waiting: list[int] = []
        while queue and len(batch) < size:
            row = queue.popleft()
            mine = sketches.pop(row, None) or texts.sketches(row)
            if seen.isdisjoint(texts.equal[row]) and not alike.has(mine):
                batch.append(row)
                seen |= texts.equal[row]
                alike.add(mine)
            else:
                waiting.append(row)
                sketches[row] = mine
        if len(batch) < size:
            return batches
        batches.append(batch)
        queue.extendleft(reversed(waiting))


def _shares(counts: dict[str, int], config: BatchConfig) -> dict[str, int]:
    """Return how many batches each data set gives to an epoch, which keeps its length; each gives at least one."""
    raw = config.weights or {name: count**config.mixing for name, count in counts.items()}
    total, mass = sum(counts.values()), sum(raw.values())
    return {name: max(1, round(total * raw[name] / mass)) for name in counts}


def _generator(seed: int, *parts: object) -> random.Random:
    return random.Random(fingerprint([seed, *map(str, parts)]))


def draw(example: Example, config: BatchConfig, *, seed: int, step: int) -> tuple[list[int], list[int]]:
    """Return the indices of the positives and of the hard negatives of an example that a step uses, none twice."""
    config = config.of(example.source)
    generator = _generator(seed, step, example.query)
    positives = generator.sample(range(len(example.pos)), min(config.positives, len(example.pos)))
    negatives = generator.sample(range(len(example.neg)), min(config.negatives, len(example.neg)))
    return positives, negatives
