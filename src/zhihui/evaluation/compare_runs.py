"""Finished runs of `zhihui eval`, read back query by query without the sets they were measured on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zhihui.errors import InputError
from zhihui.evaluation import cmteb
from zhihui.evaluation.run import Found
from zhihui.records import read_rows
from zhihui.runs import read_json, read_manifest

STAGE = "evaluate"
"""The stage whose folders are compared."""
_SET = "set:"


@dataclass(frozen=True, kw_only=True)
class SystemScores:
    """One system on one set, as its run kept it."""

    fingerprint: str
    ndcg: NDArray[np.float64] = field(repr=False)
    """nDCG@10 of each query `[Q]`, in the order of `SetScores.query_ids`."""
    found: list[Found] = field(repr=False)
    """One entry a query."""
    metrics: dict[str, dict[str, float]] = field(repr=False)
    """Metric -> "value", "low", "high" over the queries."""


@dataclass(frozen=True, kw_only=True)
class SetScores:
    """The systems of one run on one set."""

    name: str
    split: str
    fingerprint: str
    """Of the set's content: two runs with one value measured the same texts and judgements."""
    query_ids: list[str] = field(repr=False)
    systems: dict[str, SystemScores]


@dataclass(frozen=True, kw_only=True)
class EvaluationRun:
    """A folder that `zhihui eval` wrote."""

    folder: Path
    key: str
    """The manifest's: changes with whatever changes the results."""
    sets: dict[str, SetScores]


def read_run(folder: Path) -> EvaluationRun:
    """Read a run, its scores query by query among them.

    Raises:
        InputError: the folder is no finished run of `zhihui eval`, or its files are not as written.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give one that zhihui eval wrote (its --out)")
    manifest = read_manifest(folder)
    if manifest is None or manifest.stage != STAGE:
        what = "not a finished run" if manifest is None else f"a {manifest.stage} run"
        raise InputError(f"{folder}: {what}; give a folder that zhihui eval wrote (its --out)")
    measured = {role.removeprefix(_SET) for role in manifest.inputs if role.startswith(_SET)}
    # Tasks of C-MTEB in the order of the published tables, then the user's own by name.
    official = [name for name in cmteb.tasks() if name in measured]
    names = [*official, *sorted(measured.difference(official))]
    sets = {name: _read_set(folder / "sets" / name, name, manifest.inputs[f"{_SET}{name}"]) for name in names}
    return EvaluationRun(folder=folder, key=manifest.key, sets=sets)


def _read_set(folder: Path, name: str, fingerprint: str) -> SetScores:
    measured: dict[str, Any] = read_json(folder / "results.json")
    heads: dict[str, dict[str, Any]] = {}
    rows: dict[str, list[dict[str, Any]]] = {}
    path = folder / "found.jsonl"
    for row in read_rows(path):
        try:
            system = row.data["system"]
            if "query_id" in row.data:
                rows[system].append(row.data)
            else:
                heads[system], rows[system] = row.data, []
        except KeyError:
            raise InputError(f"{row.where}: not a line of an evaluation; run zhihui eval again") from None
    orders = [[str(row["query_id"]) for row in listed] for listed in rows.values()]
    if not heads or any(order != orders[0] for order in orders):
        raise InputError(f"{path}: its systems do not share their queries; run zhihui eval again")
    systems = {
        system: _scores(path, str(head.get("fingerprint")), rows[system], measured.get(system, {}))
        for system, head in heads.items()
    }
    split = str(next(iter(heads.values())).get("split"))
    return SetScores(name=name, split=split, fingerprint=fingerprint, query_ids=orders[0], systems=systems)


def _scores(
    path: Path, fingerprint: str, rows: Iterable[dict[str, Any]], metrics: dict[str, dict[str, float]]
) -> SystemScores:
    try:
        kept = list(rows)
        return SystemScores(
            fingerprint=fingerprint,
            ndcg=np.array([float(row["ndcg_at_10"]) for row in kept]),
            found=[
                Found(
                    ranks={str(key): int(rank) for key, rank in row["ranks"].items()},
                    top=[(str(key), float(score)) for key, score in row["top"]],
                )
                for row in kept
            ],
            metrics=metrics,
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(f"{path}: a line is not one of an evaluation; run zhihui eval again") from None
