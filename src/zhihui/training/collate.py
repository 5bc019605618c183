"""Collating: a batch's rows become this process's token sequences and the layout that says who is who among all."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.data import Dataset

from zhihui.encoder.encoder import Encoder
from zhihui.encoder.settings import Role
from zhihui.encoder.tokens import tokenize
from zhihui.records import Example
from zhihui.training.batches import BatchConfig, draw
from zhihui.training.loss import Layout, equality_keys
from zhihui.training.processes import Processes
from zhihui.training.refresh import Reserves


@dataclass(frozen=True)
class Batch:
    """One step's data as one process sees it. Queries and passages are ordered by process; B and N count all."""

    rows: list[int]
    """Which examples `[B]`."""
    sequences: list[list[int]]
    """Token ids, unpadded: those of this process's queries first, then those of its passages."""
    layout: Layout
    """Of all processes."""
    queries: list[int]
    """Queries of each process."""
    passages: list[int]
    """Passages of each process."""
    planned: Tensor
    """The passages in the order of the plan, whatever the number of processes `[N]`."""
    slot: Tensor
    """Which hard negative of its query a passage is `[N]`; -1 for a positive."""
    source: str
    """The data set."""

    def to(self, device: torch.device) -> Batch:
        """Return the same batch with its layout on a device; token ids follow chunk by chunk."""
        return replace(self, layout=self.layout.to(device), planned=self.planned.to(device), slot=self.slot.to(device))

    @property
    def own_keys(self) -> Tensor:
        """The key of each passage's own text `[N]`."""
        return self.layout.passage_key[:, 0]


@dataclass(frozen=True)
class _Passage:
    text: str
    owner: int
    slot: int
    grade: float
    keys: list[int]
    place: int
    """In the order of the plan."""


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
        processes: Processes | None = None,
        graded: bool = False,
        reserves: Reserves | None = None,
    ) -> None:
        """Keep what the batches are made of.

        Args:
            encoder: whose tokenizer and settings make the token ids.
            examples: all rows.
            plan: that of `zhihui.training.batches.plan`.
            config: what is drawn of an example, and where it is cut.
            seed: of the draws.
            processes: those that share a batch; None for one.
            graded: whether the layout gets the teacher's grades.
            reserves: which negatives are in use; None draws among all.
        """
        self.tokenizer, self.settings = encoder.tokenizer, encoder.settings
        self.examples, self.plan, self.config, self.seed = examples, plan, config, seed
        self.processes = processes or Processes()
        self.graded, self.reserves = graded, reserves

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, step: int) -> Batch:
        planned = self.plan[step]
        source = self.examples[planned[0]].source or ""
        drawn = [self._draw(row, step) for row in planned]
        dealt = deal([self._cost(row, *each) for row, each in zip(planned, drawn, strict=True)], self.processes.size)
        order = [place for share in dealt for place in share]
        rows = [planned[place] for place in order]
        passages = self._passages(rows, [drawn[place] for place in order], order)
        bounds = _bounds([len(share) for share in dealt])
        first, stop = bounds[self.processes.rank]
        mine = [passage.text for passage in passages if first <= passage.owner < stop]
        examples = [self.examples[row] for row in rows]
        queries = [example.query for example in examples]
        own = self.config.sets.get(source)
        instruction = None if own is None else own.instruction
        instructions = [instruction if example.prompt is None else example.prompt for example in examples]
        owner = torch.tensor([passage.owner for passage in passages])
        return Batch(
            rows=rows,
            sequences=[
                *self._tokenize(queries[first:stop], "query", self.config.query_tokens, instructions[first:stop]),
                *self._tokenize(mine, "document", self.config.passage_tokens),
            ],
            layout=Layout(
                owner=owner,
                is_positive=torch.tensor([passage.slot < 0 for passage in passages]),
                passage_key=torch.tensor([passage.keys for passage in passages]),
                query_key=equality_keys(queries),
                query_weight=None if own is None else torch.full((len(rows),), own.loss_weight),
                grade=torch.tensor([passage.grade for passage in passages]) if self.graded else None,
            ),
            queries=[len(share) for share in dealt],
            passages=[int(((owner >= a) & (owner < b)).sum()) for a, b in bounds],
            planned=torch.tensor([passage.place for passage in passages]).argsort(),
            slot=torch.tensor([passage.slot for passage in passages]),
            source=source,
        )

    def _draw(self, row: int, step: int) -> tuple[list[int], list[int]]:
        positives, negatives = draw(self.examples[row], self.config, seed=self.seed, step=step)
        return positives, negatives if self.reserves is None else self.reserves.active(row)

    def _cost(self, row: int, positives: list[int], negatives: list[int]) -> int:
        """Estimate the tokens of a row by its characters, which takes no tokenizer."""
        example, longest = self.examples[row], self.settings.max_length
        texts = [example.query, *(example.pos[i] for i in positives), *(example.neg[i] for i in negatives)]
        return sum(min(len(text), longest) for text in texts)

    def _passages(self, rows: list[int], drawn: list[tuple[list[int], list[int]]], order: list[int]) -> list[_Passage]:
        """Return the passages of some rows; `order` is each row's place in the plan's batch."""
        found: list[_Passage] = []
        width = max(len(self.examples[row].pos) for row in rows)
        stride = 1 + max(len(positives) + len(negatives) for positives, negatives in drawn)
        for owner, (row, (positives, negatives), place) in enumerate(zip(rows, drawn, order, strict=True)):
            example = self.examples[row]
            answers = equality_keys(example.pos).tolist()
            count = 0
            for i in positives:
                # All positives of a query count as one text, so that those not drawn are no negatives either.
                keys = [answers[i], *answers[:i], *answers[i + 1 :]]
                keys += keys[:1] * (width - len(keys))
                grade = example.pos_scores[i] if example.pos_scores else math.nan
                found.append(_Passage(example.pos[i], owner, -1, grade, keys, place * stride + count))
                count += 1
            own = equality_keys([example.neg[i] for i in negatives]).tolist()
            for slot, (i, key) in enumerate(zip(negatives, own, strict=True)):
                grade = example.neg_scores[i] if example.neg_scores else math.nan
                found.append(_Passage(example.neg[i], owner, slot, grade, [key] * width, place * stride + count))
                count += 1
        return found

    def _tokenize(
        self, texts: list[str], role: Role, length: int | None, instructions: list[str | None] | None = None
    ) -> list[list[int]]:
        settings = self.settings
        if length is not None:
            settings = replace(settings, max_length=min(length, settings.max_length))
        return tokenize(self.tokenizer, settings, texts, role=role, instruction=instructions)


def deal(costs: Sequence[int], hands: int) -> list[list[int]]:
    """Deal out as many items to each of some hands, and nearly as much cost; each hand is in ascending order.

    Args:
        costs: of each item; their number is a multiple of `hands`.
        hands: how many.
    """
    room = len(costs) // hands
    dealt: list[list[int]] = [[] for _ in range(hands)]
    free = [(0, hand) for hand in range(hands)]
    for item in sorted(range(len(costs)), key=lambda i: -costs[i]):
        total, hand = heapq.heappop(free)
        dealt[hand].append(item)
        if len(dealt[hand]) < room:
            heapq.heappush(free, (total + costs[item], hand))
    return [sorted(hand) for hand in dealt]


def _bounds(counts: list[int]) -> list[tuple[int, int]]:
    """Return where each of some runs, end to end, begins and ends."""
    ends = [sum(counts[: i + 1]) for i in range(len(counts))]
    return [(end - count, end) for end, count in zip(ends, counts, strict=True)]
