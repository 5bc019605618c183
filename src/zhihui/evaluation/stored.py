"""An evaluation on disk: one line a query and system, readable by eye and enough to rebuild every number."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zhihui.errors import InputError
from zhihui.evaluation.run import Evaluation, Found, SystemResult, measure
from zhihui.records import RetrievalSet, read_rows, write_rows


def write_found(path: Path, evaluation: Evaluation) -> None:
    """Write what each system found: `ranks` of relevant passages, the `top` ones, nDCG@10 for the reader."""

    def rows() -> Iterable[dict[str, Any]]:
        for result in evaluation.systems:
            yield {
                "system": result.name,
                "fingerprint": result.fingerprint,
                "seconds": result.seconds,
                "split": evaluation.split,
            }
            for query_id, found, ndcg in zip(
                evaluation.query_ids, result.found, result.scores["ndcg_at_10"].tolist(), strict=True
            ):
                yield {
                    "system": result.name,
                    "query_id": query_id,
                    "ndcg_at_10": ndcg,
                    "ranks": found.ranks,
                    "top": found.top,
                }

    write_rows(path, rows())


def read_found(path: Path, data: RetrievalSet, *, seed: int = 0) -> Evaluation:
    """Read an evaluation that `write_found` wrote, of the set it was made on.

    Raises:
        InputError: the file is not of this kind, or its queries are not those of the set's split.

    """
    heads: dict[str, dict[str, Any]] = {}
    found: dict[str, dict[str, Found]] = {}
    for row in read_rows(path):
        record = row.data
        try:
            if "query_id" not in record:
                heads[record["system"]] = record
                found[record["system"]] = {}
            else:
                found[record["system"]][record["query_id"]] = Found(
                    ranks={str(key): int(rank) for key, rank in record["ranks"].items()},
                    top=[(str(key), float(score)) for key, score in record["top"]],
                )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise InputError(f"{row.where}: not a line of an evaluation; run it again") from None
    splits = {head.get("split") for head in heads.values()}
    if len(splits) != 1:
        raise InputError(f"{path}: holds {len(splits)} splits; an evaluation is of one, run it again")
    split = str(splits.pop())
    query_ids = list(data.judged(split))
    if any(list(rows) != query_ids for rows in found.values()):
        raise InputError(f"{path}: its queries are not those of {data.name}, split {split!r}; run it again")
    results: list[SystemResult] = [
        measure(
            data,
            split,
            found=list(found[name].values()),
            name=name,
            fingerprint=str(head["fingerprint"]),
            seconds=float(head["seconds"]),
            seed=seed,
        )
        for name, head in heads.items()
    ]
    return Evaluation(data=data, split=split, query_ids=query_ids, systems=results)
