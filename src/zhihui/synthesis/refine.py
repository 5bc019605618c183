"""Refinement: the judge grades given positives and negatives; each stays, moves or goes (point 2 of the method)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from zhihui.errors import InputError
from zhihui.records import Example
from zhihui.synthesis.grading import BEST, Graded, Grader, GradingConfig
from zhihui.synthesis.label import item_of
from zhihui.synthesis.tools import Made, Tools, check_least, id_of

Place = Literal["pos", "neg", "removed"]
_ALIGNED: dict[str, tuple[str, ...]] = {"pos": ("pos_ids",), "neg": ("neg_ids", "negatives")}
"""Lists in `meta` that speak of each positive, or of each negative, in turn."""


@dataclass(frozen=True, kw_only=True)
class RefineConfig(GradingConfig):
    """Which grades make a positive, which a negative, and what becomes of those on the wrong side.

    Raises:
        InputError: a value out of bounds.
    """

    method: ClassVar[str] = "refine"
    positive_at: float = 3.0
    """Least grade of a positive, 0 to 4."""
    negative_at: float = 1.5
    """Highest grade of a negative; what lies between the two is borderline and goes."""
    positives: int | None = None
    """The best so many stay positives, the others go; None keeps all."""
    false_positives: Literal["demote", "remove"] = "demote"
    """Whether positives graded as negatives become negatives: someone took them for answers, so they are hard ones."""
    false_negatives: Literal["promote", "remove"] = "promote"
    """Whether negatives graded as positives become positives."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.negative_at < self.positive_at <= BEST:
            bounds = f"negative_at {self.negative_at:g}, positive_at {self.positive_at:g}"
            raise InputError(f"{bounds}: give grades from 0 to {BEST}, negative_at below positive_at")
        if self.positives is not None:
            check_least(1, positives=self.positives)
        for name, known in (("false_positives", ("demote", "remove")), ("false_negatives", ("promote", "remove"))):
            if getattr(self, name) not in known:
                raise InputError(f"{name} is {getattr(self, name)!r}; use {' or '.join(known)}")


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What becomes of a passage."""

    was: Literal["pos", "neg"]
    place: int
    """Its place among these, from 0."""
    grade: float
    to: Place
    why: str
    reason: str
    """The judge's."""

    def noted(self) -> dict[str, Any]:
        """Return what is kept of it in `meta`."""
        return {
            "from": self.was,
            "place": self.place,
            "to": self.to,
            "why": self.why,
            "grade": self.grade,
            "reason": self.reason,
        }


def refine(examples: Sequence[Example], config: RefineConfig, tools: Tools) -> Made:
    """Refine examples; one that is left without a positive, or could not be graded, is in the log."""
    grader = Grader(tools.teacher, tools.book, config)
    made, passages = Made(), Counter[str]()
    graded = grader.grade(map(item_of, examples), label="grade passages")
    for example, found in zip(examples, graded, strict=True):
        where = f"example {id_of(example)}"
        if found.failure is not None:
            tools.rejects.add(example.to_row(), found.failure, where, detail=found.detail)
            continue
        decisions = _decided(example, found, config)
        passages.update(f"{each.was}_{each.why}" for each in decisions)
        if not any(each.to == "pos" for each in decisions):
            best = max(each.grade for each in decisions)
            row = {**example.to_row(), "decisions": [each.noted() for each in decisions]}
            detail = f"no passage is graded {config.positive_at:g} or more; the best is {best:g}"
            tools.rejects.add(row, "no_positive", where, detail=detail)
        else:
            made.examples.append(_refined(example, found, decisions))
    made.counts = {
        "examples": len(examples),
        "accepted": len(made.examples),
        "passages_by_fate": dict(sorted(passages.items())),
        **grader.counts(),
    }
    return made


def _decided(example: Example, graded: Graded, config: RefineConfig) -> list[Decision]:
    count = len(example.pos)
    sides: list[tuple[Literal["pos", "neg"], int]] = [("pos", place) for place in range(count)]
    sides += [("neg", place) for place in range(len(example.neg))]
    texts = [*example.pos, *example.neg]
    fates = [_fate(was, grade.mean, config) for (was, _), grade in zip(sides, graded.grades, strict=True)]
    # The best first; of equal ones those given as positives, in their order.
    wanted = sorted((n for n, fate in enumerate(fates) if fate[0] == "pos"), key=lambda n: (-graded.grades[n].mean, n))
    seen: set[str] = set()
    kept = 0
    for number in wanted:
        if texts[number] in seen:
            fates[number] = ("removed", "repeated")
        elif config.positives is not None and kept >= config.positives:
            fates[number] = ("removed", "not_among_best")
        else:
            kept += 1
        seen.add(texts[number])
    for number, fate in enumerate(fates):
        if fate[0] == "neg":
            # A text on both sides is graded twice, and must not end on both.
            if texts[number] in seen:
                fates[number] = ("removed", "repeated")
            seen.add(texts[number])
    return [
        Decision(was=was, place=place, grade=grade.mean, to=to, why=why, reason=grade.reasons[0])
        for (was, place), grade, (to, why) in zip(sides, graded.grades, fates, strict=True)
    ]


def _fate(was: Literal["pos", "neg"], grade: float, config: RefineConfig) -> tuple[Place, str]:
    if grade >= config.positive_at:
        if was == "pos":
            return "pos", "kept"
        return ("pos", "promoted") if config.false_negatives == "promote" else ("removed", "false_negative")
    if grade <= config.negative_at:
        if was == "neg":
            return "neg", "kept"
        return ("neg", "demoted") if config.false_positives == "demote" else ("removed", "false_positive")
    return "removed", "borderline"


def _refined(example: Example, graded: Graded, decisions: Sequence[Decision]) -> Example:
    positives = sorted((each for each in decisions if each.to == "pos"), key=lambda each: -each.grade)
    negatives = sorted((each for each in decisions if each.to == "neg"), key=lambda each: each.was == "pos")
    notes = {
        "teacher": graded.teachers,
        "template": graded.template,
        "decisions": [each.noted() for each in decisions],
    }
    return replace(
        example,
        id=id_of(example),
        pos=[_text(example, each) for each in positives],
        neg=[_text(example, each) for each in negatives],
        pos_scores=[each.grade for each in positives],
        neg_scores=[each.grade for each in negatives],
        meta={**_moved(example, positives, negatives), "refinement": notes},
    )


def _text(example: Example, decision: Decision) -> str:
    return (example.pos if decision.was == "pos" else example.neg)[decision.place]


def _moved(example: Example, positives: Sequence[Decision], negatives: Sequence[Decision]) -> dict[str, Any]:
    """Return `meta` with the lists about passages in the passages' new order; one that cannot be kept true goes."""
    aligned = {
        (side, name): example.meta[name]
        for side, names in _ALIGNED.items()
        for name in names
        if isinstance(example.meta.get(name), list) and len(example.meta[name]) == len(getattr(example, side))
    }
    replaced = {"grades", *(name for _, name in aligned)}  # the decisions have the grades of now
    meta = {key: value for key, value in example.meta.items() if key not in replaced}
    ids = {side: aligned.get((side, f"{side}_ids")) for side in ("pos", "neg")}
    for side, kept in (("pos", positives), ("neg", negatives)):
        found = [own[each.place] for each in kept if (own := ids[each.was]) is not None]
        if found and len(found) == len(kept):
            meta[f"{side}_ids"] = found
    if (origins := aligned.get(("neg", "negatives"))) is not None:
        demoted = {"miner": "demoted", "rank": None, "score": None}
        meta["negatives"] = [origins[each.place] if each.was == "neg" else demoted for each in negatives]
    return meta
