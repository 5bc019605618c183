"""Robustness as a stage: numbers, a table in Markdown and a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zhihui.encoder.protocol import TextEncoder
from zhihui.evaluation.bootstrap import Interval
from zhihui.evaluation.charts import colour
from zhihui.evaluation.registry_models import InstructedEncoder
from zhihui.evaluation.report import markdown_table, render, write_pages
from zhihui.evaluation.sections import flatten, points
from zhihui.evaluation.sets import MeasuredSet
from zhihui.evaluation.slices import Robustness, Slice, Tokenizing, count_truncation, measure_slices
from zhihui.evaluation.slices_charts import change_chart
from zhihui.evaluation.systems import Bm25System, DenseSystem, RetrievalSystem
from zhihui.runs import Manifest, run_stage, versions

REPORT, RESULTS = "report.html", "results.json"
BASELINE = "bm25"


def slices_files(
    measured: MeasuredSet,
    out: Path,
    encoders: Mapping[str, TextEncoder],
    *,
    baseline: bool = True,
    instruction: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Manifest:
    """Measure how models bear other ways of asking; `out` gets results.json, table.md and report.html.

    Args:
        measured: the set, see `zhihui.evaluation.sets.one_set`.
        out: the stage's folder.
        encoders: models by the names they are shown under.
        baseline: measure BM25 over Chinese words too.
        instruction: the task in words for the queries; None takes the set's for models that take one, or else the
            models' own.
        seed: of the changes and of the bootstrap.
        overwrite: replace a finished run of other inputs or settings.

    Raises:
        InputError: `out` is taken.
        MissingExtra: OpenCC is not installed.
    """
    whole, split = measured.data, measured.split
    told = {name: InstructedEncoder(one, forced=instruction is not None) for name, one in encoders.items()}
    instruction = instruction or measured.instruction
    systems: list[RetrievalSystem] = [Bm25System(name=BASELINE)] if baseline else []
    systems += [DenseSystem(one, name=name, instruction=instruction) for name, one in told.items()]

    def work(folder: Path) -> dict[str, Any]:
        counted = {name: count_truncation(one, whole) for name, one in encoders.items() if isinstance(one, Tokenizing)}
        # Groups by what is cut make sense for one model's length; with several models it is the shortest.
        cut = max((ids for _, ids in counted.values()), key=len, default=set())
        found = measure_slices(
            whole,
            split,
            systems,
            truncation={name: one for name, (one, _) in counted.items()},
            cut_passages=cut,
            seed=seed,
            ignore_identical_ids=measured.ignore_identical_ids,
        )
        write_pages(folder, found, table=_table(found), page=_page(found, settings))
        return {"queries": found.slices[0].queries, "slices": len(found.slices), "systems": len(systems)}

    settings = {"split": split, "systems": [one.name for one in systems], "instruction": instruction, "seed": seed}
    inputs: dict[str, Path | str] = {"data": measured.fingerprint}
    inputs |= {f"system:{one.name}": one.fingerprint for one in systems}
    return run_stage("slices", out, work, inputs=inputs, config=settings, overwrite=overwrite)


def headline(found: Robustness) -> str:
    """Say in a sentence what costs the best model most; BM25 where there is no model."""
    everything = found.slices[0].scores
    name = max(found.systems, key=lambda system: (system != BASELINE, everything[system].value.value))
    whole = everything[name].value
    start = f"{name} reaches nDCG@10 {whole.value:.3f} on the queries as they are"
    changes = [(one, change) for one in found.slices if (change := one.scores[name].change) is not None]
    clear = [(one, change) for one, change in changes if change.high < 0]
    if not clear:
        return f"{start}; none of the changes takes away more than chance might."
    worst, loss = min(clear, key=lambda pair: pair[1].value)
    range_ = f"{points(loss.low)} to {points(loss.high)}"
    return f"{start}. What costs it most is “{worst.name}”: {points(loss.value)} points ({range_}, query by query)."


def _table(found: Robustness) -> str:
    head = ["slice", "queries", *(label for name in found.systems for label in (name, "change"))]
    lines = [head]
    for one in found.slices:
        cells = []
        for name in found.systems:
            score = one.scores[name]
            cells += [f"{100 * score.value.value:.2f}", "" if score.change is None else points(score.change.value)]
        lines.append([one.name, f"{one.queries:,}", *cells])
    return markdown_table(lines)


def _page(found: Robustness, settings: Mapping[str, Any]) -> str:
    variants = [one for one in found.slices if one.kind == "variant"]
    return render(
        "slices.html.j2",
        title=f"Robustness on {found.set_name}",
        about=f"{found.set_name} ({found.split}): {found.slices[0].queries:,} queries",
        headline=headline(found),
        found=found,
        groups=[one for one in found.slices if one.kind != "variant"],
        variants=variants,
        chart=change_chart(found.systems, [(one.name, _changes(one)) for one in variants]),
        legend=[(colour(place), name) for place, name in enumerate(found.systems)],
        settings=flatten(settings),
        facts=list(versions().items()),
    )


def _changes(one: Slice) -> dict[str, Interval]:
    return {name: score.change for name, score in one.scores.items() if score.change is not None}
