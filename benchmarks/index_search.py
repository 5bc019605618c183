"""What a large index costs in the LanceDB backend: to write, to search, and to bring up to date.

    python benchmarks/index_search.py
    python benchmarks/index_search.py --passages 200000 --threads 1

Passages are made: words of two characters, drawn from one of a thousand subjects, 30 to 100 characters each, a thousand
to a file. Vectors are sums of a random vector for each word, rare words weighing more, so that encoding costs next to
nothing and the index is what is measured. Queries are a few words of a passage with a word of any subject. Each part
runs in a process of its own, whose peak memory is the operating system's figure (ru_maxrss: everything, mapped files
that were read and the libraries included).

A hybrid query is timed as `Index.search` answers it, ten hits with their highlights. Recall is the share of the ten
exactly best passages by vectors that a dense query finds; one that ties with the tenth counts as found.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import peak_memory
from numpy.typing import NDArray
from report import write_report

from zhihui import progress
from zhihui.ranking import exact
from zhihui.records import write_rows
from zhihui.runs import fingerprint
from zhihui.search import IndexConfig, IndexReport, open_index, update_index

HERE = Path(__file__).parent
WORDS, SUBJECTS, OF_SUBJECT = 40_000, 1_000, 60
COMMON = 300
"""Words that all subjects share; a third of each passage."""
FILE = 1_000
MODEL = "nano"
"""Whose tokens passages would be measured in, were they cut."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", nargs="+", type=int, default=[50_000, 200_000])
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--backend", choices=["lancedb", "flat"], default="lancedb")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--changed", type=int, default=100, help="documents that are added, and deleted again")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "index_search.json")
    parser.add_argument("--part", choices=[*PARTS], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    progress.quiet()
    if options.part:
        print(json.dumps(PARTS[options.part](options.folder, options)))
        return
    results = {}
    for count in options.passages:
        with tempfile.TemporaryDirectory() as name:
            write_passages(Path(name) / "docs", count, options.seed)
            results[f"{count:,} passages"] = found = {part: in_own_process(part, name, options) for part in PARTS}
        for part, figures in found.items():
            print(f"{count:8,} {part:7} " + ", ".join(f"{key} {value}" for key, value in figures.items()))
    write_report(
        "what a large index costs to write, to search and to bring up to date",
        options,
        results,
        unsaid=["part", "folder"],
        peers=["lancedb", "pyarrow", "bm25s"],
    )


def in_own_process(part: str, folder: str, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--part", part, "--folder", folder]
    for name in ("dimensions", "backend", "queries", "changed", "threads", "seed"):
        command += [f"--{name}", str(getattr(options, name))]
    # Before the libraries are loaded: each asks once.
    names = ("OMP_NUM_THREADS", "LANCE_CPU_THREADS", "TOKIO_WORKER_THREADS", "RAYON_NUM_THREADS")
    environment = os.environ | dict.fromkeys(names, str(options.threads))
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    return json.loads(out.splitlines()[-1])


# --------------------------------------------------------------------------- what is indexed


class Language:
    """Words, and which of them a subject is spoken of with."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)
        codes = self._generator.choice(3000**2, WORDS, replace=False)
        self.words = [chr(0x4E00 + code // 3000) + chr(0x4E00 + code % 3000) for code in codes.tolist()]
        self._subjects = self._generator.integers(COMMON, WORDS, (SUBJECTS, OF_SUBJECT))

    def text(self, generator: np.random.Generator) -> str:
        """Return a passage."""
        count = int(generator.integers(15, 51))
        own = self._subjects[generator.integers(SUBJECTS)]
        shared = generator.random(count) < 1 / 3
        drawn = np.where(shared, generator.integers(0, COMMON, count), generator.choice(own, count))
        return "".join(self.words[word] for word in drawn)


def write_passages(folder: Path, count: int, seed: int, *, name: str = "part") -> None:
    """Write passages as rows, a thousand to a file."""
    language = Language(seed)
    generator = np.random.default_rng([seed, *name.encode()])
    folder.mkdir(exist_ok=True)
    for start in range(0, count, FILE):
        rows = range(start, min(start + FILE, count))
        write_rows(
            folder / f"{name}-{start:07}.jsonl",
            ({"_id": f"{name}{row}", "text": language.text(generator)} for row in rows),
        )


class WordSums:
    """An encoder: the sum of a text's words, which are two characters each; a stranger's say nothing."""

    name = "word sums"

    def __init__(self, dimension: int, seed: int) -> None:
        self.dimension, self._seed = dimension, seed
        self.fingerprint = fingerprint([self.name, dimension, seed])

    @cached_property
    def _vectors(self) -> NDArray[np.float32]:
        vectors = np.random.default_rng([self._seed, 1]).standard_normal((WORDS, self.dimension), dtype=np.float32)
        vectors[:COMMON] *= 0.3
        return vectors

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(Language(self._seed).words)}

    def encode_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors `[N, D]`."""
        found = np.empty((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            words = [text[place : place + 2] for place in range(0, len(text), 2)]
            found[row] = self._vectors[[self._numbers[word] for word in words if word in self._numbers]].sum(axis=0)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    def encode_queries(self, texts: Sequence[str], *, instruction: str | None = None) -> NDArray[np.float32]:
        """Return unit vectors `[N, D]`."""
        return self.encode_documents(texts)


def queries(folder: Path, count: int, seed: int) -> list[str]:
    """Return three to six words of a passage and one of any subject, for passages all over the index."""
    generator = np.random.default_rng([seed, 2])
    language = Language(seed)
    found = []
    with open_index(folder / "index") as index:
        for number in generator.choice(len(index), count, replace=False).tolist():
            text = index.row(number)["text"]
            words = [text[place : place + 2] for place in range(0, len(text), 2)]
            chosen = generator.choice(words, int(generator.integers(3, 7)))
            found.append("".join([*chosen, language.words[int(generator.integers(COMMON, WORDS))]]))
    return found


# --------------------------------------------------------------------------- what is measured


def build(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Write the index."""
    report, figures = update(folder, options)
    figures["bytes"] = sum(path.stat().st_size for path in (folder / "index").rglob("*") if path.is_file())
    return figures | {"ann": report.description.ann}


def search(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Time warm queries, and compare what is found by vectors with what is there."""
    encoder = WordSums(options.dimensions, options.seed)
    asked = queries(folder, options.queries, options.seed)
    start = time.perf_counter()
    with open_index(folder / "index") as index:
        index.search(asked[0], encoder=encoder)
        figures: dict[str, Any] = {"first_query_seconds": round(time.perf_counter() - start, 2)}
        for mode in ("hybrid", "dense", "bm25"):
            took = []
            for query in asked:
                start = time.perf_counter()
                index.search(query, encoder=encoder, mode=mode)
                took.append(1000 * (time.perf_counter() - start))
            figures[f"{mode}_median_ms"] = round(statistics.median(took), 1)
            figures[f"{mode}_p95_ms"] = round(float(np.percentile(took, 95)), 1)
        figures["peak_memory_gb"] = round(peak_memory() / 1e9, 3)  # before all vectors are read for the comparison
        best = exact.search(encoder.encode_queries(asked), index.vectors(0, len(index)), 10, scan="float32")
        found = [[hit.score for hit in index.search(query, encoder=encoder, mode="dense")] for query in asked]
    listed = [np.sum(np.array(row) >= last - 1e-6) for row, last in zip(found, best.scores[:, -1], strict=True)]
    return figures | {"recall_at_10": round(float(np.mean(listed)) / 10, 4)}


def add(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Bring the index up to date with documents that came."""
    write_passages(folder / "docs", options.changed, options.seed, name="more")
    return update(folder, options)[1]


def delete(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Bring the index up to date with documents that went."""
    for path in (folder / "docs").glob("more-*"):
        path.unlink()
    return update(folder, options)[1]


def update(folder: Path, options: argparse.Namespace) -> tuple[IndexReport, dict[str, Any]]:
    config = IndexConfig(whole=True, backend=options.backend)
    encoder = WordSums(options.dimensions, options.seed)
    start, cpu = time.perf_counter(), time.process_time()
    report = update_index([folder / "docs"], folder / "index", config, model=MODEL, encoder=encoder)
    figures = {
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "peak_memory_gb": round(peak_memory() / 1e9, 3),
        "added": report.added,
        "removed": report.removed,
        "embedded": report.embedded,
    }
    return report, figures


PARTS = {"build": build, "search": search, "add": add, "delete": delete}

if __name__ == "__main__":
    main()
