"""Label distillation: the judge grades the passages of examples, for soft targets (point 1 of the method)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from zhihui.records import Example
from zhihui.synthesis.grading import Graded, Grader, GradingConfig, Item
from zhihui.synthesis.tools import Made, Tools, id_of


@dataclass(frozen=True, kw_only=True)
class LabelConfig(GradingConfig):
    """How examples are graded."""

    method: ClassVar[str] = "label"


def distil_labels(examples: Sequence[Example], config: LabelConfig, tools: Tools) -> Made:
    """Grade all passages of examples; an example ends with all its grades or in the log."""
    grader = Grader(tools.teacher, tools.book, config)
    made = Made()
    graded = grader.grade(map(item_of, examples), label="grade passages")
    for example, found in zip(examples, graded, strict=True):
        if found.failure is not None:
            tools.rejects.add(example.to_row(), found.failure, f"example {id_of(example)}", detail=found.detail)
        else:
            made.examples.append(labelled(example, found))
    made.counts = {"examples": len(examples), "accepted": len(made.examples), **grader.counts()}
    return made


def item_of(example: Example) -> Item:
    """Return what is graded of an example: its positives, then its negatives."""
    return Item(id=id_of(example), query=example.query, passages=[*example.pos, *example.neg])


def labelled(example: Example, graded: Graded) -> Example:
    """Return an example with its grades as scores, each one's reason in `meta["grades"]`."""
    grades, count = graded.grades, len(example.pos)
    return replace(
        example,
        id=id_of(example),
        pos_scores=[grade.mean for grade in grades[:count]],
        neg_scores=[grade.mean for grade in grades[count:]],
        meta={**example.meta, "grades": noted(graded, count)},
    )


def noted(graded: Graded, positives: int) -> dict[str, Any]:
    """Return what is kept of grades in `meta`: teacher, template, and grades and reason of each passage."""
    notes = [grade.noted() for grade in graded.grades]
    return {
        "teacher": graded.teachers,
        "template": graded.template,
        "pos": notes[:positives],
        "neg": notes[positives:],
    }
