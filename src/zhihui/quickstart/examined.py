"""What to show of a finished run of the data engine: counts of its stages, and for each method a few real decisions.

Which ones is fixed by their order, so the same run shows the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from zhihui.quickstart.shown import Document, Engine, Judged, JudgedExample, Step, Topic, WrittenQuery
from zhihui.records import REJECTED, Example, Passage, read_examples, read_rows
from zhihui.records.shipped import ENGINE
from zhihui.runs import read_manifest
from zhihui.synthesis.stage import TRAIN

_STEPS = (
    ("queries", "Query distillation: the writer reads a passage and writes queries that it answers"),
    ("topics", "Query expansion: a long document is split into topics, and each gets its own queries"),
    ("triplets", "Triplet distillation: query, positive and hard negative without a corpus"),
    ("label", "Label distillation: the judge grades both passages of the triplets"),
    ("refine", "Refinement: the judge grades given positives and negatives"),
    ("rewrite", "Query rewriting: a query that the positives answer and the negatives do not"),
)
_FATES = ("promoted", "borderline")
_COLOURS = 6


def examine(out: Path) -> Engine:
    """Return what to show of a finished run of the data engine in the folder `out`."""
    counts = _counts(out / "dedup")
    return Engine(
        steps=[_step(out, name, does) for name, does in _STEPS],
        passages=_passages(out),
        triplets=[_triplet(example) for example in islice(read_examples(out / "label" / TRAIN), 1)],
        refined=_refined(out),
        rewritten=[_rewritten(each) for each in islice(_of_log(read_examples(out / "rewrite" / TRAIN)), 3)],
        documents=_documents(out, 1),
        examples=counts["kept"],
        protected=sum(counts["protected"].values()),
        contaminated=sum(counts["removed_against"].values()),
    )


def _counts(folder: Path) -> dict[str, Any]:
    manifest = read_manifest(folder)
    assert manifest is not None, f"{folder} is finished"
    return manifest.counts


def _step(out: Path, name: str, does: str) -> Step:
    counts = _counts(out / name)
    tried = counts["accepted"] + sum(counts["rejected"].values())
    return Step(
        name=name,
        does=does,
        wanted=counts.get("wanted", counts.get("examples", tried)),
        accepted=counts["accepted"],
        answers=counts["teacher"]["cached"],
        rejected=counts["rejected"],
    )


# --------------------------------------------------------------------------- query distillation


def _passages(out: Path) -> list[tuple[str, list[WrittenQuery]]]:
    """Return two passages, the first with a query that was refused."""
    texts = {row.data["_id"]: row.data["text"] for row in read_rows(ENGINE / "passages.jsonl")}
    written: dict[str, list[WrittenQuery]] = {key: [] for key in texts}
    for example in read_examples(out / "queries" / TRAIN):
        retrieved = example.meta["retrieved"]
        verdict = f"kept: finds its passage at rank {retrieved['rank']} by {retrieved['by']}"
        query = WrittenQuery(text=example.query, wanted=_wanted(example.meta), verdict=verdict, accepted=True)
        written[example.meta["pos_ids"][0]].append(query)
    for row in _rejected(out / "queries"):
        verdict = f"not kept: {row['detail']}"
        query = WrittenQuery(
            text=row["row"].get("query", ""), wanted=_wanted(row["row"]), verdict=verdict, accepted=False
        )
        written[row["row"]["passage"]].append(query)
    mixed = [key for key, queries in written.items() if len({query.accepted for query in queries}) == 2]
    whole = [key for key, queries in written.items() if len(queries) == 2 and all(query.accepted for query in queries)]
    return [(texts[key], written[key]) for key in (*whole[:1], *mixed[:1])]


def _wanted(drawn: dict[str, Any]) -> str:
    return f"{drawn['persona']} · {drawn['type']} · {drawn['difficulty']} · {drawn['length']}"


# --------------------------------------------------------------------------- grades


def _triplet(example: Example) -> JudgedExample:
    return JudgedExample(query=example.query, passages=_graded(example), task=example.meta["task"])


def _rewritten(example: Example) -> JudgedExample:
    meta = example.meta
    return JudgedExample(
        query=example.query,
        passages=_graded(example),
        original=meta["original"],
        difference=meta["difference"],
    )


def _of_log(examples: Iterable[Example]) -> Iterable[Example]:
    """Return the examples whose passages are of one subject: there a query has something to tell apart."""
    return (example for example in examples if example.source == "log")


def _graded(example: Example) -> list[Judged]:
    grades = example.meta["grades"]
    return [
        Judged(text=text, was=side, to=side, why="kept", grade=score, reason=note["reason"])
        for side, texts, scores in (
            ("pos", example.pos, example.pos_scores),
            ("neg", example.neg, example.neg_scores),
        )
        for text, score, note in zip(texts, scores or [], grades[side], strict=True)
    ]


def _refined(out: Path) -> list[JudgedExample]:
    """Return for each fate the first example that met it and is not shown yet, then the first that was given up."""
    before = {example.id: example for example in read_examples(out / "doubtful" / TRAIN)}
    refined = [
        _decided(before[example.id], example.meta["refinement"]["decisions"], kept=True)
        for example in read_examples(out / "refine" / TRAIN)
    ]
    found: list[JudgedExample] = []
    for fate in _FATES:
        met = (each for each in refined if each not in found and any(one.why == fate for one in each.passages))
        found += islice(met, 1)
    given_up = [
        _decided(before[row["row"]["id"]], row["row"]["decisions"], kept=False)
        for row in _rejected(out / "refine")
        if row["reason"] == "no_positive"
    ]
    return [*found, *given_up[:1]]


def _decided(before: Example, decisions: Sequence[dict[str, Any]], *, kept: bool) -> JudgedExample:
    sides = {"pos": before.pos, "neg": before.neg}
    passages = [
        Judged(
            text=sides[each["from"]][each["place"]],
            was=each["from"],
            to=each["to"],
            why=each["why"],
            grade=each["grade"],
            reason=each["reason"],
        )
        for each in decisions
    ]
    return JudgedExample(query=before.query, passages=passages, kept=kept)


# --------------------------------------------------------------------------- expansion


def _documents(out: Path, count: int) -> list[Document]:
    examples = list(read_examples(out / "topics" / TRAIN))
    rows = islice(read_rows(ENGINE / "documents.jsonl"), count)
    return [
        _document(row.data, [each for each in examples if each.meta["document"] == row.data["_id"]]) for row in rows
    ]


def _document(row: dict[str, Any], examples: Sequence[Example]) -> Document:
    whole = Passage(text=row["text"], title=row["title"]).full  # spans are places in what the teacher was shown
    topics: dict[str, Topic] = {}
    spans: list[tuple[int, int, str]] = []
    for example in examples:
        title = example.meta["topic"]
        if title not in topics:
            topics[title] = Topic(title=title, colour=f"t{len(topics) % _COLOURS + 1}", queries=[])
            spans += [(start, end, topics[title].colour) for start, end in example.meta["spans"]]
        topics[title].queries.append(example.query)
    pieces, reached = [], len(row["title"]) + 1
    for start, end, colour in sorted(spans):
        pieces += [("", whole[reached:start]), (colour, whole[max(start, reached) : end])]
        reached = max(reached, end)
    pieces.append(("", whole[reached:]))
    covered = sum(len(text) for colour, text in pieces if colour)
    return Document(
        title=row["title"],
        pieces=[piece for piece in pieces if piece[1]],
        coverage=covered / len(whole),
        topics=list(topics.values()),
    )


def _rejected(folder: Path) -> list[dict[str, Any]]:
    path = folder / REJECTED
    return [row.data for row in read_rows(path)] if path.is_file() else []
