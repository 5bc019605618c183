"""Search for an evaluation, T2Retrieval's size at 7B, against mteb's default search.

    python benchmarks/evaluation_search.py                             # 22,812 × 118,605 × 3,584, top 1,000
    python benchmarks/evaluation_search.py --queries 4000 --passages 30000 --dimension 1024

Both sides get the same random unit vectors, which lie on the disk and are read as they are asked for: nothing is
encoded. mteb's is its own `SearchEncoderWrapper`, as `mteb.evaluate` uses it; ours is `zhihui.ranking.exact`, as
`zhihui eval` uses it. Each is a process of its own, so that its peak memory is the operating system's figure, vectors
and Python included; they take turns. The rankings are compared: a side that finds other passages stops the run.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import hardware, peak_memory
from numpy.typing import NDArray

from zhihui import progress
from zhihui.runs import versions, write_json

HERE = Path(__file__).parent
TOP = 1000
COMPARED = 200
"""Queries whose rankings are compared."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=22_812)
    parser.add_argument("--passages", type=int, default=118_605)
    parser.add_argument("--dimension", type=int, default=3584)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=None, help="of the processor; by default all cores")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "evaluation_search.json")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work is not None:
        print(json.dumps(work(json.loads(options.work))))
        return
    found: dict[str, list[dict[str, float]]] = {"zhihui": [], "mteb": []}
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        write_vectors(Path(folder), options)
        for _ in range(options.rounds):
            for who in draw.sample(list(found), len(found)):
                found[who].append(in_a_process(who, Path(folder), options))
                print(who, found[who][-1], flush=True)
        same = compared(Path(folder))
    medians = {
        who: {key: statistics.median(run[key] for run in runs) for key in ("seconds", "cpu_seconds", "peak_gb")}
        for who, runs in found.items()
    }
    ours, peer = medians["zhihui"], medians["mteb"]
    ratios = {
        "times_faster": peer["seconds"] / ours["seconds"],
        "times_faster_by_cpu": peer["cpu_seconds"] / ours["cpu_seconds"],
        "share_of_its_memory": ours["peak_gb"] / peer["peak_gb"],
    }
    print({name: round(value, 3) for name, value in ratios.items()}, f"{same} rankings compared")
    write_json(
        options.out,
        {
            "question": "search for an evaluation, against mteb's default",
            "settings": {key: value for key, value in vars(options).items() if key not in ("out", "work")},
            "hardware": hardware(),
            "versions": versions(),
            "runs": found,
            "medians": medians,
            "ratios": ratios,
            "rankings_compared": same,
        },
    )
    print(options.out)


def write_vectors(folder: Path, options: argparse.Namespace) -> None:
    """Write random unit vectors, a block at a time."""
    generator = np.random.default_rng(options.seed)
    for name in ("queries", "passages"):
        count = getattr(options, name)
        whole = np.lib.format.open_memmap(
            folder / f"{name}.npy", mode="w+", dtype=np.float32, shape=(count, options.dimension)
        )
        for start in range(0, count, 8192):
            block = generator.standard_normal((min(8192, count - start), options.dimension), dtype=np.float32)
            whole[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
        whole.flush()


def in_a_process(who: str, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    job = {"who": who, "folder": str(folder), "threads": options.threads}
    command = [sys.executable, __file__, "--work", json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{who} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def work(job: dict[str, Any]) -> dict[str, float]:
    import torch

    if job["threads"] is not None:
        torch.set_num_threads(job["threads"])
    progress.quiet()
    folder = Path(job["folder"])
    queries, passages = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("queries", "passages"))
    run: Callable[..., tuple[float, float, NDArray[np.int64]]] = {"zhihui": ours, "mteb": peer}[job["who"]]
    seconds, cpu, first = run(queries, passages)
    np.save(folder / f"{job['who']}.npy", first)
    return {"seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2), "peak_gb": round(peak_memory() / 1e9, 3)}


def ours(queries: Any, passages: Any) -> tuple[float, float, NDArray[np.int64]]:
    from zhihui.ranking import exact

    start, used = time.perf_counter(), time.process_time()
    found = exact.search(np.asarray(queries), passages, min(TOP, len(passages)))
    return time.perf_counter() - start, time.process_time() - used, found.indices[:COMPARED]


def peer(queries: Any, passages: Any) -> tuple[float, float, NDArray[np.int64]]:
    from zhihui.evaluation.mteb_tasks import load_mteb, model_meta

    load_mteb()
    import torch
    from datasets import Dataset
    from mteb.models.search_wrappers import SearchEncoderWrapper
    from mteb.types import PromptType

    class Given:
        """An encoder whose vectors are there already; a text is the number of its vector."""

        mteb_model_meta = model_meta("given", "0")

        def encode(self, inputs: Any, *, prompt_type: Any, **_: Any) -> Any:
            rows = [int(text) for batch in inputs for text in batch["text"]]
            source = queries if prompt_type == PromptType.query else passages
            return torch.from_numpy(np.array(source[rows[0] : rows[-1] + 1]))

        def similarity(self, one: Any, other: Any) -> Any:
            return one @ other.T

    def numbered(count: int) -> Any:
        names = [str(number) for number in range(count)]
        return Dataset.from_dict({"id": names, "text": names})

    from mteb.abstasks.task_metadata import TaskMetadata

    about = TaskMetadata(
        name="given",
        description="Vectors.",
        dataset={"path": "given", "revision": "0"},
        type="Retrieval",
        category="t2t",
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=["cmn-Hans"],
        main_score="ndcg_at_10",
    )
    where = {"task_metadata": about, "hf_split": "test", "hf_subset": "default"}
    settings = {"batch_size": 1024, "show_progress_bar": False}
    start, used = time.perf_counter(), time.process_time()
    wrapper = SearchEncoderWrapper(Given())
    wrapper.index(numbered(len(passages)), encode_kwargs=settings, **where)
    found = wrapper.search(numbered(len(queries)), top_k=TOP, encode_kwargs=settings, **where)
    seconds, cpu = time.perf_counter() - start, time.process_time() - used
    rows = [sorted(found[str(number)].items(), key=lambda pair: -pair[1]) for number in range(COMPARED)]
    return seconds, cpu, np.array([[int(name) for name, _ in row] for row in rows])


def compared(folder: Path) -> int:
    """Return how many rankings were compared; equal but for the order of equal scores."""
    one, other = (np.load(folder / f"{who}.npy") for who in ("zhihui", "mteb"))
    apart = sum(len(set(a) ^ set(b)) for a, b in zip(one.tolist(), other.tolist(), strict=True))
    if apart > 1e-4 * one.size:
        raise SystemExit(f"the two searches disagree in {apart} of {one.size} places")
    return len(one)


if __name__ == "__main__":
    main()
