"""Which examples go: those whose text an evaluation holds, and those that repeat an earlier one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from zhihui.mining.dedup.config import DedupConfig
from zhihui.mining.dedup.protected import Protected
from zhihui.progress import track
from zhihui.ranking.near import NearIndex
from zhihui.ranking.shingles import bare, jaccard, shingles
from zhihui.records import Example

REASONS = (
    "query_in_evaluation",
    "positive_in_evaluation",
    "query_near_evaluation",
    "positive_near_evaluation",
    "duplicate",
    "near_duplicate",
)
"""Why an example goes, in the order of the report."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Why an example goes."""

    reason: str
    id: str
    """Of what it matches: a text of an evaluation set, or the kept example by its id or place."""
    set: str | None
    """Evaluation set of the match; None within the data."""
    text: str
    """The example's text that matches; within the data its query."""
    matched: str
    """What it matches."""
    similarity: float
    """Jaccard of the two; within the data the lowest over the query and all positives."""


def judge(
    examples: Sequence[Example], places: Sequence[str], protected: Sequence[Protected], config: DedupConfig
) -> Iterator[Verdict | None]:
    """Yield for each example why it goes, or None if it stays.

    Queries and positives are compared with all protected texts, whatever their role: a title may be a query here and
    a passage there. Of examples that repeat one another the first stays.

    Args:
        examples: in the order in which the first is kept.
        places: of each example, for those without an id.
        protected: texts of evaluation sets.
        config: the threshold and what is compared.

    Raises:
        MissingExtra: rensa or OpenCC is not installed.
    """
    contamination = _Contamination(examples, protected, config)
    repetition = _Repetition(examples, config) if config.within else None
    for number, example in enumerate(track(examples, total=len(examples), label="compare")):
        verdict = contamination.of(example)
        if verdict is None and repetition is not None:
            verdict = repetition.of(number, places)
        yield verdict


class _Contamination:
    """Protected texts, and the examples' texts that are looked for among them."""

    def __init__(self, examples: Sequence[Example], protected: Sequence[Protected], config: DedupConfig) -> None:
        self._protected = protected
        own = dict.fromkeys(text for example in examples for text in (example.query, *example.pos)) if protected else {}
        self._texts = [*(each.text for each in protected), *own]
        self._number = {text: len(protected) + place for place, text in enumerate(own)}
        self._index = NearIndex(self._texts, config.threshold, seed=config.seed)
        for number in range(len(protected)):
            self._index.enter(number)

    def of(self, example: Example) -> Verdict | None:
        if not self._protected:
            return None
        for role, text in (("query", example.query), *(("positive", text) for text in example.pos)):
            near = self._index.near(self._number[text])
            if near:
                match, similarity = self._protected[near[0].number], near[0].similarity
                how = "in" if bare(text) == bare(match.text) else "near"
                return Verdict(
                    reason=f"{role}_{how}_evaluation",
                    id=f"{match.set}/{match.role}/{match.id}",
                    set=match.set,
                    text=text,
                    matched=match.text,
                    similarity=similarity,
                )
        return None


class _Repetition:
    """The examples kept so far, found by their positives: many queries share a passage, and they are not the same."""

    def __init__(self, examples: Sequence[Example], config: DedupConfig) -> None:
        self._examples = examples
        self._threshold = config.threshold
        texts = list(dict.fromkeys(text for example in examples for text in example.pos))
        self._number = {text: place for place, text in enumerate(texts)}
        self._index = NearIndex(texts, config.threshold, seed=config.seed)
        self._holders: dict[int, list[int]] = {}
        """Kept examples that have a positive."""

    def of(self, number: int, places: Sequence[str]) -> Verdict | None:
        example = self._examples[number]
        own = sorted({self._number[text] for text in example.pos})
        # For each positive, what is near it, itself included.
        near = [{positive: 1.0, **dict(self._index.near(positive))} for positive in own]
        query = shingles(bare(example.query))
        best: tuple[float, int] | None = None
        for kept in sorted({holder for each in near[0] for holder in self._holders.get(each, ())}):
            similarity = self._similarity(query, near, self._examples[kept])
            if similarity >= self._threshold and (best is None or similarity > best[0]):
                best = similarity, kept
        if best is None:
            for positive in own:
                if positive not in self._holders:
                    self._index.enter(positive)
                self._holders.setdefault(positive, []).append(number)
            return None
        similarity, kept = best
        matched = self._examples[kept]
        same = bare(matched.query) == bare(example.query) and set(map(bare, example.pos)) <= set(map(bare, matched.pos))
        return Verdict(
            reason="duplicate" if same else "near_duplicate",
            id=matched.id or places[kept],
            set=None,
            text=example.query,
            matched=matched.query,
            similarity=similarity,
        )

    def _similarity(self, query: frozenset[str], near: Sequence[dict[int, float]], kept: Example) -> float:
        """Return the lowest similarity of the query and of any positive to what the kept example has."""
        others = [self._number[text] for text in kept.pos]
        lowest = min(max(each.get(other, 0.0) for other in others) for each in near)
        return lowest and min(lowest, jaccard(query, shingles(bare(kept.query))))
