"""An ablation as a stage: numbers, a table in Markdown, a forest plot and a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from zhihui.errors import InputError
from zhihui.evaluation.ablation import Ablation, Effect, Plan, measure_ablation
from zhihui.evaluation.ablation_charts import forest_plot
from zhihui.evaluation.compare_charts import standalone
from zhihui.evaluation.report import markdown_table, render, write_pages
from zhihui.evaluation.sections import points
from zhihui.runs import Manifest, atomic_open, read_manifest, run_stage, versions

RESULTS, TABLE, REPORT, FOREST = "results.json", "table.md", "report.html", "forest.svg"
_SAYS = {"better": "better", "worse": "worse", "unclear": "nothing shown"}


def ablation_files(plan: Plan, out: Path, *, seed: int = 0, overwrite: bool = False) -> Manifest:
    """Compare variants with their baseline; `out` gets report.html, table.md, results.json and forest.svg.

    Args:
        plan: the runs; those that are None are left out.
        out: the stage's folder.
        seed: of the bootstrap.
        overwrite: replace a finished comparison of other runs or settings.

    Raises:
        InputError: as `measure_ablation` has it, or no variant is measured.
    """
    runs = {"baseline": plan.baseline, **plan.variants}
    folders = {f"{name}.{place}": one for name, each in runs.items() for place, one in enumerate(each) if one}

    def work(folder: Path) -> dict[str, Any]:
        found = measure_ablation(plan, seed=seed)
        if not found.effects:
            raise InputError("no variant is measured yet with a seed of the baseline's; run the recipe until one is")
        write_pages(folder, as_json(found), table=as_markdown(found), page=_page(found, seed))
        with atomic_open(folder / FOREST) as stream:
            stream.write(standalone(forest_plot(found)) + "\n")
        return {
            "variants": len(found.effects),
            "unfinished": len(found.missing),
            "seeds": len(found.baseline.seeds),
            "sets": len(found.sets),
            "queries": sum(found.queries),
        }

    inputs: dict[str, Path | str] = {f"run:{name}": _key(folder) for name, folder in folders.items()}
    settings = {"changes": plan.changes, "seed": seed}
    return run_stage("ablate", out, work, inputs=inputs, config=settings, overwrite=overwrite)


def _key(folder: Path) -> str:
    manifest = read_manifest(folder)
    if manifest is None:
        raise InputError(f"{folder}: not a finished run; run the recipe until it is")
    return manifest.key


# --------------------------------------------------------------------------- what is shown


def as_json(found: Ablation) -> dict[str, Any]:
    """Return everything, variants with their verdicts."""
    whole = asdict(found)
    for shown, one in zip(whole["effects"], found.effects, strict=True):
        shown["verdict"] = one.verdict
    return whole


def as_markdown(found: Ablation) -> str:
    """Return the table: the baseline's level, then each variant's difference in points of 100."""
    lines = [["point", "variant", "nDCG@10", "difference", "95% interval", "of the seeds", "verdict", *found.sets]]
    levels = [f"{100 * value:.1f}" for value in found.baseline.per_set]
    spread = f"{100 * min(found.baseline.seeds):.2f} to {100 * max(found.baseline.seeds):.2f}"
    lines.append(["baseline", "", f"{100 * found.baseline.average.value:.2f}", "", "", spread, "", *levels])
    lines += [_line(one) for one in found.effects]
    note = f"\nNot finished: {', '.join(found.missing)}.\n" if found.missing else ""
    return markdown_table(lines) + note


def _line(one: Effect) -> list[str]:
    return [
        one.point,
        one.variant,
        f"{100 * one.level.average.value:.2f}",
        points(one.average.value),
        f"{points(one.average.low)} to {points(one.average.high)}",
        f"{points(min(one.seeds))} to {points(max(one.seeds))}",
        _SAYS[one.verdict],
        *(points(each.value) for each in one.per_set),
    ]


def headline(found: Ablation) -> str:
    """Say in a sentence or two what helps, what hurts and how much is unclear."""
    said = []
    for verdict, word in (("better", "Better than the baseline"), ("worse", "Worse")):
        chosen = [one for one in found.effects if one.verdict == verdict]
        if chosen:
            chosen.sort(key=lambda one: -abs(one.average.value))
            listed = ", ".join(f"{one.point} {one.variant} ({points(one.average.value)})" for one in chosen)
            said.append(f"{word}: {listed}.")
    unclear = sum(one.verdict == "unclear" for one in found.effects)
    if unclear:
        said.append(f"{unclear} of {len(found.effects)} variants show{'s' if unclear == 1 else ''} nothing.")
    return " ".join(said)


def _page(found: Ablation, seed: int) -> str:
    queries = sum(found.queries)
    shown: Mapping[str, Any] = {"seeds of the baseline": len(found.baseline.seeds), "seed of the bootstrap": seed}
    return render(
        "ablation.html.j2",
        title="Ablation",
        about=f"{', '.join(found.sets)}: {queries:,} queries",
        headline=headline(found),
        found=found,
        forest=forest_plot(found),
        says=_SAYS,
        settings=list(shown.items()),
        facts=list(versions().items()),
    )
