"""Size curves as a stage: numbers, a table in Markdown and a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zhihui.encoder.protocol import TextEncoder
from zhihui.evaluation.charts import Curve, line_charts
from zhihui.evaluation.curves import CurvesConfig, SizeCurves, measure_curves
from zhihui.evaluation.registry_models import InstructedEncoder
from zhihui.evaluation.report import markdown_table, render, write_pages
from zhihui.evaluation.sections import flatten, points
from zhihui.evaluation.sets import MeasuredSet
from zhihui.runs import Manifest, run_stage, versions

REPORT, RESULTS = "report.html", "results.json"


def curves_files(
    measured: MeasuredSet,
    out: Path,
    encoder: TextEncoder,
    config: CurvesConfig,
    *,
    instruction: str | None = None,
    overwrite: bool = False,
) -> Manifest:
    """Measure what smaller vectors cost; `out` gets results.json, table.md and report.html.

    Args:
        measured: the set, see `zhihui.evaluation.sets.one_set`.
        out: the stage's folder.
        encoder: the model.
        config: what is tried.
        instruction: the task in words for the queries; None takes the set's if the model takes one, or else the
            model's own.
        overwrite: replace a finished run of other inputs or settings.

    Raises:
        InputError: `out` is taken, or a length beyond that of the model's vectors.
    """
    whole, split = measured.data, measured.split
    told = InstructedEncoder(encoder, forced=instruction is not None)
    instruction = instruction or measured.instruction
    settings = {"curves": config, "split": split, "instruction": instruction}

    def work(folder: Path) -> dict[str, Any]:
        found = measure_curves(
            whole,
            split,
            told,
            config,
            instruction=instruction,
            ignore_identical_ids=measured.ignore_identical_ids,
        )
        write_pages(folder, found, table=_table(found), page=_page(found, settings, told.fingerprint))
        return {"queries": len(whole.judged(split)), "points": len(found.points)}

    inputs: dict[str, Path | str] = {"data": measured.fingerprint, "model": told.fingerprint}
    return run_stage("curves", out, work, inputs=inputs, config=settings, overwrite=overwrite)


def headline(found: SizeCurves) -> str:
    """Say in a sentence what the smallest vectors are that cost no more than 2% of the whole ones' nDCG@10."""
    whole = found.points[0]
    start = f"{found.model} reaches nDCG@10 {whole.value.value:.3f} with {whole.bytes:,.0f} bytes a vector"
    good = [one for one in found.points if one.value.value >= 0.98 * whole.value.value]
    least = min(good, key=lambda one: (one.bytes, -one.value.value))
    if least is whole:
        return f"{start}; every smaller way of storing costs more than 2% of that."
    share = 100 * least.value.value / whole.value.value
    return (
        f"{start}. The smallest that keep 98% of it take {least.bytes:,.0f}: {least.precision}, "
        f"{least.dimensions} dimensions, nDCG@10 {least.value.value:.3f} ({share:.1f}%)."
    )


def _table(found: SizeCurves) -> str:
    lines = [["stored as", "dimensions", "bytes", "nDCG@10 × 100", "change"]]
    for one in found.points:
        change = "" if one.change is None else points(one.change.value)
        cells = [f"{one.dimensions:,}", f"{one.bytes:,.0f}", f"{100 * one.value.value:.2f}", change]
        lines.append([one.precision, *cells])
    return markdown_table(lines)


def _page(found: SizeCurves, settings: Mapping[str, Any], fingerprint: str) -> str:
    kinds = list(dict.fromkeys(one.precision for one in found.points))
    curves = [
        Curve(
            label=kind,
            x=[one.bytes for one in found.of(kind)],
            y=[one.value.value for one in found.of(kind)],
            x_label="bytes a vector",
            y_label="nDCG@10",
            x_scale="log2",
        )
        for kind in kinds
    ]
    config = settings["curves"]
    shown = {"split": settings["split"], "instruction": settings["instruction"], "rescored": config.rescored}
    return render(
        "curves.html.j2",
        title=f"Vector size on {found.set_name}",
        about=f"{found.set_name} ({found.split}), model {found.model}",
        headline=headline(found),
        found=found,
        charts=line_charts(curves),
        settings=flatten(shown),
        facts=[(f"fingerprint of {found.model}", fingerprint[:16]), *versions().items()],
    )
