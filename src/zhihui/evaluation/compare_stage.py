"""Comparison as a stage: from finished runs of `zhihui eval` to tables, drawings and a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zhihui.errors import InputError
from zhihui.evaluation import cmteb, sections
from zhihui.evaluation.charts import colour
from zhihui.evaluation.compare import LEVEL, Comparison, Published, compare
from zhihui.evaluation.compare_charts import average_bars, heat_map, set_bars, standalone
from zhihui.evaluation.compare_queries import difference_rows, telling_queries, won_and_lost
from zhihui.evaluation.compare_runs import EvaluationRun, read_run
from zhihui.evaluation.compare_tables import Table, as_json, as_markdown, make_table
from zhihui.evaluation.registry import systems
from zhihui.evaluation.report import render
from zhihui.evaluation.sets import set_folders, task_sets
from zhihui.records import RetrievalSet, read_beir, write_rows
from zhihui.runs import Manifest, atomic_open, fingerprint_path, run_stage, versions, write_json

REPORT = "report.html"
RESULTS = "results.json"
TABLE = "table.md"
QUERIES = "queries.jsonl"
DRAWINGS = ("heat", "averages", "sets")


def compare_files(
    runs: Sequence[Path],
    out: Path,
    *,
    data: Sequence[Path] = (),
    mirror: Path | None = None,
    references: bool = True,
    png: bool = False,
    seed: int = 0,
    overwrite: bool = False,
) -> Manifest:
    """Compare runs; `out` gets report.html, results.json, table.md, queries.jsonl and the drawings as .svg.

    Args:
        runs: folders that `zhihui eval` wrote.
        out: the stage's folder.
        data: BEIR folders the runs measured, or folders of such: their texts are shown in place of ids.
        mirror: folder of the data sets of C-MTEB, likewise.
        references: show published scores, where all shared sets are tasks of C-MTEB.
        png: write the drawings as .png too.
        seed: of the bootstrap and of the tests.
        overwrite: replace a finished comparison of other runs or settings.

    Raises:
        InputError: no runs or unusable ones, no set that all share, or `data` or a
            `mirror` that is not what was measured.
        MissingExtra: `png` without matplotlib.
    """
    read = [read_run(folder) for folder in runs]
    known = published_scores(read) if references else []
    found = compare(read, published=known, seed=seed)
    texts = _texts(found, data, mirror)

    def work(folder: Path) -> dict[str, Any]:
        write_comparison(folder, found, texts, png=png)
        return {
            "sets": len(found.sets),
            "systems": len(found.systems),
            "published": len(found.published),
            "queries": sum(len(one.query_ids) for one in found.sets),
        }

    settings = {"runs": [str(run.folder) for run in read], "published": known, "png": png, "seed": seed}
    inputs = _inputs(read, texts, found)
    return run_stage("compare", out, work, inputs=inputs, config=settings, overwrite=overwrite)


def published_scores(runs: Sequence[EvaluationRun]) -> list[Published]:
    """Return the systems of the registry, where every task of C-MTEB among the runs' sets was measured whole."""
    tasks = cmteb.tasks()
    for run in runs:
        for name, one in run.sets.items():
            # Scores on a part of a task are no match for scores on all of it.
            if name in tasks and (one.split, len(one.query_ids)) != (tasks[name].split, tasks[name].queries):
                return []
    return [
        Published(
            name=system.name,
            scores={task: score / 100 for task, score in system.scores.items()},
            average=system.average / 100,
        )
        for system in systems().values()
    ]


def write_comparison(folder: Path, found: Comparison, texts: dict[str, RetrievalSet], *, png: bool) -> None:
    """Write what a comparison says into a folder.

    Raises:
        MissingExtra: `png` without matplotlib.
    """
    table = make_table(found)
    drawings = {name: svg for name, svg in zip(DRAWINGS, _drawings(table), strict=True) if svg}
    for name, svg in drawings.items():
        with atomic_open(folder / f"{name}.svg") as stream:
            stream.write(standalone(svg) + "\n")
    if png:
        from zhihui.evaluation.compare_images import write_images

        write_images(folder, table)
    write_json(folder / RESULTS, as_json(found))
    with atomic_open(folder / TABLE) as stream:
        stream.write(as_markdown(table))
    write_rows(folder / QUERIES, difference_rows(found))
    with atomic_open(folder / REPORT) as stream:
        stream.write(_page(found, table, drawings, texts))


def _drawings(table: Table) -> tuple[str, str, str]:
    return heat_map(table), average_bars(table), set_bars(table)


def _page(found: Comparison, table: Table, drawings: dict[str, str], texts: dict[str, RetrievalSet]) -> str:
    names = ", ".join(one.name for one in found.sets)
    many = sum(len(one.query_ids) for one in found.sets)
    what = f"{len(found.sets)} sets" if len(found.sets) > 1 else names
    pairs = [(one, won_and_lost(found, one.a, one.b)) for one in found.differences]
    return render(
        "compare.html.j2",
        title=f"{len(found.systems)} systems on {what}" if len(found.systems) > 1 else f"One system on {what}",
        about=f"{names}: {many:,} queries",
        headline=headline(found),
        table=table,
        found=found,
        pairs=pairs,
        level=LEVEL,
        drawings=drawings,
        legend=[(colour(row.place), row.name) for row in table.rows if row.place is not None],
        queries=telling_queries(found, texts),
        missing=[one.name for one in found.sets if one.name not in texts],
        absent=sections.depth_note(),
        settings=[(f"run of {system.name}", system.run) for system in found.systems],
        facts=[
            *((f"fingerprint of {system.name}", system.fingerprint[:16]) for system in found.systems),
            *versions().items(),
        ],
    )


def headline(found: Comparison) -> str:
    """Say in a sentence which system is best and whether that is more than chance."""
    best, *rest = found.ranked
    where = "on average over the sets" if len(found.sets) > 1 else f"on {found.sets[0].name}"
    reached = f"{best.name} is best {where}: nDCG@10 {100 * best.average.value:.2f}"
    if not rest:
        reached = f"{best.name} reaches nDCG@10 {100 * best.average.value:.2f} {where}"
        return f"{reached} (95% interval {100 * best.average.low:.2f} to {100 * best.average.high:.2f})."
    first = next(one for one in found.differences if one.a == best.name and one.b == rest[0].name)
    gain = f"{sections.points(first.average.value)} over {rest[0].name}"
    range_ = f"({sections.points(first.average.low)} to {sections.points(first.average.high)}, query by query)"
    doubt = "" if first.significant else "; so small a difference may be chance"
    return f"{reached}, {gain} {range_}{doubt}."


def _texts(found: Comparison, data: Sequence[Path], mirror: Path | None) -> dict[str, RetrievalSet]:
    """Read the sets whose texts are at hand.

    Raises:
        InputError: a folder is no set, none of them was measured, or one holds other texts than were measured.
    """
    folders = set_folders(data) if data else {}
    wanted = {one.name: one for one in found.sets}
    if folders and not set(folders) & set(wanted):
        raise InputError(f"--data holds {', '.join(folders)}, and the runs share {', '.join(wanted)}; name those sets")
    texts = {}
    for name, folder in folders.items():
        if name in wanted:
            if fingerprint_path(folder) != wanted[name].fingerprint:
                raise InputError(f"{folder}: not the version of {name} that was measured; leave it out of --data")
            texts[name] = read_beir(folder)
    if mirror is not None:
        for one in task_sets([task for name, task in cmteb.tasks().items() if name in wanted], mirror):
            if one.fingerprint != wanted[one.name].fingerprint:
                raise InputError(f"{mirror}: holds another version of {one.name} than was measured; leave out --mirror")
            texts[one.name] = one.data
    return texts


def _inputs(runs: Sequence[EvaluationRun], texts: dict[str, RetrievalSet], found: Comparison) -> dict[str, Path | str]:
    inputs: dict[str, Path | str] = {f"run:{number}": run.key for number, run in enumerate(runs)}
    return inputs | {f"texts:{one.name}": one.fingerprint for one in found.sets if one.name in texts}
