"""Robustness: the same queries asked in other ways, and the scores of groups of them.

The queries of all variants are searched together, so that a corpus is encoded once.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from zhihui.errors import InputError
from zhihui.evaluation import slices_texts as texts
from zhihui.evaluation.bootstrap import Interval, interval, paired_difference
from zhihui.evaluation.run import evaluate, without_identical
from zhihui.evaluation.systems import RetrievalSystem
from zhihui.ranking import TopK
from zhihui.records import RetrievalSet

DEPTH = 10
"""Passages ranked for each query: what nDCG@10 sees."""
MAIN = "ndcg_at_10"
_TERCILES = ("short", "middle", "long")


@dataclass(frozen=True, kw_only=True)
class SliceScore:
    """One system on one slice."""

    value: Interval
    """Mean nDCG@10 over the slice's queries."""
    change: Interval | None
    """Against the same queries as they were, query by query; None for a group of unchanged queries."""


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Some of the queries, or all that a change has an effect on."""

    name: str
    kind: str
    """"all", "length", "passage" (groups of unchanged queries) or "variant" (queries changed)."""
    about: str
    queries: int
    example: tuple[str, str] | None
    """A query as it was and changed; None for a group."""
    scores: dict[str, SliceScore]
    """By system."""


@dataclass(frozen=True, kw_only=True)
class Truncation:
    """How much of the passages a model reads."""

    max_length: int
    """Tokens a passage is cut to, prompt and EOS included."""
    passages: int
    cut: int
    """Passages that are longer."""
    tokens_lost: float
    """Share of all tokens that are cut off."""


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """What was found."""

    set_name: str
    split: str
    systems: list[str]
    slices: list[Slice]
    truncation: dict[str, Truncation] = field(default_factory=dict)
    """By model."""


@runtime_checkable
class Tokenizing(Protocol):
    """A model whose passages can be counted in tokens, as `zhihui.encoder.Encoder` is."""

    tokenizer: Any
    settings: Any


_CHANGES: dict[str, tuple[texts.Change, str]] = {
    "characters swapped": (texts.swapped, "neighbouring characters change places, one pair in ten characters"),
    "characters dropped": (texts.dropped, "a character is missing, one in ten"),
    "homophones": (texts.misheard, "a character is replaced by another of the same sound, one in ten"),
    "punctuation removed": (texts.unpunctuated, "no punctuation"),
    "punctuation added": (texts.punctuated, "a comma in the middle, question marks at the end"),
    "small talk": (texts.chatty, "what people say around a question"),
}


def measure_slices(
    data: RetrievalSet,
    split: str,
    systems: Sequence[RetrievalSystem],
    *,
    truncation: dict[str, Truncation] | None = None,
    cut_passages: set[str] | None = None,
    seed: int = 0,
    ignore_identical_ids: bool = False,
) -> Robustness:
    """Measure systems on a split's queries, on groups of them, and on the queries changed.

    Args:
        data: the set.
        split: which judgements count.
        systems: what is measured.
        truncation: what is known of the models' lengths, passed on.
        cut_passages: ids of passages that are cut; queries whose relevant passages all are make a group.
        seed: of the changes and of the bootstrap.
        ignore_identical_ids: drop a passage that has the query's id from what is found, changed queries included.

    Raises:
        InputError: no such split.
        MissingExtra: OpenCC is not installed.
    """
    judged = data.judged(split)
    queries = {query_id: data.queries[query_id] for query_id in judged}
    target, converted = texts.other_script(list(queries.values()))
    changes = {f"{target} script": (converted, f"the query in {target} characters"), **_CHANGES}
    variants = {name: _changed(queries, name, change, seed) for name, (change, _) in changes.items()}
    measured = [_WithoutOwn(one) for one in systems] if ignore_identical_ids else systems
    scores = _scores(data, split, measured, queries, variants, seed)
    place = {query_id: number for number, query_id in enumerate(queries)}

    def group(name: str, kind: str, about: str, chosen: Sequence[str]) -> Slice:
        rows = [place[query_id] for query_id in chosen]
        found = {
            system: SliceScore(value=interval(own[""][rows], seed=seed), change=None) for system, own in scores.items()
        }
        return Slice(name=name, kind=kind, about=about, queries=len(rows), example=None, scores=found)

    slices = [group("all queries", "all", "as they are", list(queries))]
    for name, chosen in zip(_TERCILES, _terciles(queries), strict=True):
        if chosen:
            lengths = [len(queries[query_id]) for query_id in chosen]
            slices.append(group(f"{name} queries", "length", f"{min(lengths)} to {max(lengths)} characters", chosen))
    if cut_passages:
        slices += _by_cut(judged, cut_passages, group)
    for name, (_, about) in changes.items():
        changed = variants[name]
        if not changed:
            continue  # such as punctuation to remove, where no query has any
        rows = [place[query_id] for query_id in changed]
        first = next(iter(changed))
        slices.append(
            Slice(
                name=name,
                kind="variant",
                about=about,
                queries=len(rows),
                example=(queries[first], changed[first]),
                scores={
                    system: SliceScore(
                        value=interval(own[name], seed=seed),
                        change=paired_difference(own[name], own[""][rows], seed=seed),
                    )
                    for system, own in scores.items()
                },
            )
        )
    return Robustness(
        set_name=data.name,
        split=split,
        systems=[system.name for system in systems],
        slices=slices,
        truncation=truncation or {},
    )


def count_truncation(model: Tokenizing, data: RetrievalSet) -> tuple[Truncation, set[str]]:
    """Return how many passages a model cuts, and their ids.

    Raises:
        InputError: the set has no passages.
    """
    if not data.corpus:
        raise InputError(f"{data.name}: no passages to count")
    prompt = model.settings.prompt("document")
    whole = model.tokenizer(
        [prompt + passage.full for passage in data.corpus.values()],
        truncation=False,
        padding=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,  # that a text is long is what is counted here
    )["input_ids"]
    lengths = np.array([len(ids) for ids in whole])
    limit = int(model.settings.max_length)
    lost = np.maximum(lengths - limit, 0)
    cut = {key for key, more in zip(data.corpus, lost.tolist(), strict=True) if more}
    share = float(lost.sum() / lengths.sum())
    return Truncation(max_length=limit, passages=len(lengths), cut=len(cut), tokens_lost=share), cut


def _changed(queries: dict[str, str], name: str, change: texts.Change, seed: int) -> dict[str, str]:
    """Return the queries that a change has an effect on, changed."""
    changed = {}
    for query_id, text in queries.items():
        new = change(text, random.Random(f"{seed}:{name}:{text}"))
        if new != text:
            changed[query_id] = new
    return changed


def _scores(
    data: RetrievalSet,
    split: str,
    systems: Sequence[RetrievalSystem],
    queries: dict[str, str],
    variants: dict[str, dict[str, str]],
    seed: int,
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Return system -> variant -> nDCG@10 of each of its queries; "" is the variant of the queries as they are."""
    everything = {"": queries, **variants}
    asked = {f"{name}/{query_id}": text for name, chosen in everything.items() for query_id, text in chosen.items()}
    judged = data.judged(split)
    merged = RetrievalSet(
        name=data.name,
        corpus=data.corpus,
        queries=asked,
        qrels={split: {f"{name}/{key}": judged[key] for name, chosen in everything.items() for key in chosen}},
    )
    evaluation = evaluate(merged, split, systems, k=DEPTH, seed=seed)
    ends = np.cumsum([len(chosen) for chosen in everything.values()])[:-1]
    return {
        result.name: dict(zip(everything, np.split(result.scores[MAIN], ends), strict=True))
        for result in evaluation.systems
    }


class _WithoutOwn:
    """A system that does not find the passage with a query's id; variants are named `VARIANT/QUERY`."""

    def __init__(self, system: RetrievalSystem) -> None:
        self.name = system.name
        self.fingerprint = system.fingerprint
        self._system = system

    def rank(self, data: RetrievalSet, query_ids: Sequence[str], k: int) -> TopK:
        """Rank one passage more, for the one that may go."""
        found = self._system.rank(data, query_ids, k + 1)
        left = without_identical(found, [name.partition("/")[2] for name in query_ids], list(data.corpus))
        return TopK(indices=left.indices[:, :k], scores=left.scores[:, :k])


def _terciles(queries: dict[str, str]) -> list[list[str]]:
    """Return the thirds of the queries by length, in characters."""
    order = sorted(queries, key=lambda query_id: (len(queries[query_id]), query_id))
    ends = [round(len(order) * share / 3) for share in range(4)]
    return [order[start:end] for start, end in pairwise(ends)]


def _by_cut(judged: dict[str, dict[str, int]], cut: set[str], group: Any) -> list[Slice]:
    answers = {key: {passage for passage, grade in grades.items() if grade >= 1} for key, grades in judged.items()}
    parts = {
        "answer cut": (
            "every relevant passage is longer than the model reads",
            [k for k, a in answers.items() if a <= cut],
        ),
        "answer whole": ("some relevant passage is read whole", [k for k, a in answers.items() if not a <= cut]),
    }
    return [group(name, "passage", about, chosen) for name, (about, chosen) in parts.items() if chosen]
