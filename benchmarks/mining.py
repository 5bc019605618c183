"""Exact search for mining, against faiss's flat index: speed, memory, the same ids; and what an inverted file misses.

    python benchmarks/mining.py                                  # 100,000 x 100,000 x 1024, top 200: about an hour
    python benchmarks/mining.py --queries 20000 --passages 20000

Each side is a process of its own, so that its peak memory is the operating system's figure; all make the same vectors
from the seed: around a thousand centres, as those of texts on a thousand subjects are. They take turns, and a round's
order is drawn anew. The ids are compared: where the sides differ, the scores must be equal to rounding. On a machine
that others use, the seconds of processor time are the steadier measure: give --threads 1 and read those.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import peak_memory, timed
from numpy.typing import NDArray
from report import write_report

from zhihui import progress
from zhihui.ranking import TopK, exact

HERE = Path(__file__).parent
OURS, FLAT, INVERTED = "zhihui exact", "faiss flat", "zhihui inverted file"
CENTRES = 1000
NOISE = 0.5
"""Length of what sets a vector apart from its centre, as a share of the centre's: their cosine is about 0.9."""
BLOCK = 10000
"""Vectors made at once, so that making them takes no memory worth mentioning."""
ROUNDING = 1e-5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=100_000)
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=1024)
    parser.add_argument("--top", type=int, default=200)
    parser.add_argument("--sides", nargs="+", default=[OURS, FLAT, INVERTED])
    parser.add_argument("--rounds", type=int, default=2, help="at least 2: ours must give the same ids again")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "mining.json")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--found", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    progress.quiet()
    if options.work:
        print(json.dumps(work(options)))
        return
    with tempfile.TemporaryDirectory() as name:
        results = measure(options, Path(name))
    write_report(
        "exact search for mining against faiss flat: speed, memory, ids",
        options,
        results,
        unsaid=["work", "found"],
        peers=["faiss-cpu"],
    )


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run all sides by turns and compare what they found."""
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in options.sides}
    order, generator = list(options.sides), random.Random(options.seed)
    for number in range(options.rounds):
        generator.shuffle(order)
        for side in order:
            runs[side].append(in_own_process(side, options, folder / f"{side}.npz"))
            print(f"round {number + 1}: {side:22} " + ", ".join(f"{k} {v}" for k, v in runs[side][-1].items()))
    results: dict[str, Any] = {side: {"runs": found, **middle(found)} for side, found in runs.items()}
    for side, found in runs.items():
        results[side]["same_ids_each_round"] = len({one["ids"] for one in found}) == 1
    if OURS in runs and FLAT in runs:
        for kind in ("seconds", "cpu_seconds"):
            ratios = [theirs[kind] / ours[kind] for theirs, ours in zip(runs[FLAT], runs[OURS], strict=True)]
            results[f"{kind}: times faster than {FLAT}"] = round(statistics.median(ratios), 3)
        results["agreement"] = agreement(folder)
    return results


def in_own_process(side: str, options: argparse.Namespace, found: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--work", side, "--found", str(found)]
    for name in ("queries", "passages", "dimensions", "top", "threads", "seed"):
        command += [f"--{name}", str(getattr(options, name))]
    # Before the libraries are loaded: numpy's and faiss's OpenBLAS ask once.
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    return json.loads(out.splitlines()[-1])


def middle(found: list[dict[str, Any]]) -> dict[str, float]:
    return {
        kind: round(statistics.median(one[kind] for one in found), 3)
        for kind in ("seconds", "cpu_seconds", "peak_memory_gb", "memory_beyond_vectors_gb")
    }


def agreement(folder: Path) -> dict[str, Any]:
    """Compare the ids; ranks may differ only between scores that are equal to rounding."""
    with np.load(folder / f"{OURS}.npz") as ours, np.load(folder / f"{FLAT}.npz") as flat:
        gap = float(np.abs(ours["scores"] - flat["scores"]).max())
        same = float((ours["indices"] == flat["indices"]).mean())
        sets = [np.isin(a, b).mean() for a, b in zip(ours["indices"], flat["indices"], strict=True)]
    assert gap < ROUNDING, f"the sides do not find passages of the same scores: {gap}"
    return {"largest_gap_of_scores": gap, "same_id_at_same_rank": same, "same_ids_whatever_rank": float(np.mean(sets))}


# --------------------------------------------------------------------------- in a process of its own


def work(options: argparse.Namespace) -> dict[str, Any]:
    """Search by one side; to be called in a fresh process."""
    queries = vectors(options.queries, options.dimensions, options.seed, "queries")
    passages = vectors(options.passages, options.dimensions, options.seed, "passages")
    kept: list[TopK] = []
    report: dict[str, Any] = {}
    took = timed(lambda: kept.append(search(options, queries, passages, report)))
    peak = peak_memory()
    np.savez(options.found, indices=kept[0].indices, scores=kept[0].scores)
    return {
        "seconds": round(took.seconds, 1),
        "cpu_seconds": round(took.cpu_seconds, 1),
        "peak_memory_gb": round(peak / 1e9, 3),
        "memory_beyond_vectors_gb": round((peak - queries.nbytes - passages.nbytes) / 1e9, 3),
        "ids": hashlib.sha256(kept[0].indices.tobytes()).hexdigest()[:16],
        **report,
    }


def search(
    options: argparse.Namespace, queries: NDArray[np.float32], passages: NDArray[np.float32], report: dict[str, Any]
) -> TopK:
    if options.work == OURS:
        return exact.search(queries, passages, options.top)
    import faiss

    faiss.omp_set_num_threads(options.threads)
    if options.work == FLAT:
        index = faiss.IndexFlatIP(options.dimensions)
        index.add(passages)
        scores, indices = index.search(queries, options.top)
        return TopK(indices=indices, scores=scores)
    from zhihui.ranking.inverted import InvertedFile

    inverted = InvertedFile(passages, seed=options.seed)
    report |= inverted.report(queries, options.top)
    return inverted.search(queries, options.top)


def vectors(count: int, dimensions: int, seed: int, what: str) -> NDArray[np.float32]:
    """Make unit vectors `[count, D]`, each near one of the centres, which queries and passages share."""
    centres = np.random.default_rng(seed).standard_normal((CENTRES, dimensions), dtype=np.float32)
    generator = np.random.default_rng([seed, len(what)])
    made = np.empty((count, dimensions), dtype=np.float32)
    for start in range(0, count, BLOCK):
        part = made[start : start + BLOCK]
        part[:] = centres[generator.integers(0, CENTRES, len(part))]
        part += NOISE * generator.standard_normal(part.shape, dtype=np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return made


if __name__ == "__main__":
    main()
