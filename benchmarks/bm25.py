"""Chinese BM25: segmentation speed and ranking quality against jieba, and near-duplicates found on planted ones.

    python benchmarks/bm25.py --sets FOLDER...       # BEIR folders; without any, the starter set

Needs jieba (pip install jieba).

Speed: both segment the same passages, by turns, in one thread: the cutting of folded text alone, and all that BM25
needs, folding (NFKC, case, simplified script) and the dropping of signs included. Quality: nDCG@10 and recall@100 of
our BM25, with and without stop words, and of bm25s fed by jieba with the same parameters; the difference has a
bootstrap interval over queries. Near-duplicates: copies of passages with 1 to 8% of their characters changed, in the
other script, or with other punctuation, are planted among the passages; what comparing each with its original would
find is what is to be found.
"""

from __future__ import annotations

import argparse
import logging
import random
import statistics
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jieba
import numpy as np
import rjieba
import torch
from common import timed
from report import write_report

from zhihui import progress
from zhihui.ranking import BM25, STOP_WORDS, TopK, segment_all
from zhihui.ranking.folding import fold_all
from zhihui.ranking.near import NearIndex
from zhihui.ranking.shingles import bare, jaccard, shingles
from zhihui.records import RetrievalSet, read_beir

HERE = Path(__file__).parent
STARTER = Path(str(files("zhihui") / "starter" / "data"))
DEPTH = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="*", type=Path, default=[STARTER], help="BEIR folders")
    parser.add_argument("--split", default="test")
    parser.add_argument("--characters", type=int, default=2_000_000, help="to segment a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--planted", type=int, default=2000, help="near-duplicates, at most; 0 leaves them out")
    parser.add_argument("--threshold", type=float, default=0.8)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "bm25.json")
    options = parser.parse_args()
    progress.quiet()
    torch.set_num_threads(1)
    sets = [read_beir(folder) for folder in options.sets]
    texts = [passage.full for data in sets for passage in data.corpus.values()]
    results: dict[str, Any] = {"segmentation": segmentation(texts, options), "ranking": {}}
    for data in sets:
        results["ranking"][data.name] = ranking(data, options)
    if options.planted:
        results["near_duplicates"] = near_duplicates(texts, options)
    write_report(
        "Chinese BM25 against jieba: segmentation speed, ranking quality; near-duplicates found",
        options,
        results,
        unsaid=["sets"],
        peers=["rjieba", "jieba", "bm25s", "rensa"],
    )


# --------------------------------------------------------------------------- segmentation


def segmentation(texts: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """Time both segmenters by turns on a sample of the passages."""
    sample = random.Random(options.seed).sample(texts, len(texts))
    total = 0
    for count, text in enumerate(sample, start=1):
        total += len(text)
        if total >= options.characters:
            sample = sample[:count]
            break
    folded = fold_all(sample)
    runs: dict[str, Callable[[], Any]] = {
        "rjieba, cutting alone": lambda: [rjieba.cut(text) for text in folded],
        "jieba, cutting alone": lambda: [jieba.lcut(text) for text in folded],
        "zhihui, all": lambda: segment_all(sample),
        "jieba, all": lambda: jieba_all(sample),
    }
    jieba.setLogLevel(logging.ERROR)
    for run in (segment_all, jieba_all):
        run(sample[:1])  # dictionaries are read now, not in the first round
    rates: dict[str, list[float]] = {name: [] for name in runs}
    order, generator = list(runs), random.Random(options.seed)
    for _ in range(options.rounds):
        generator.shuffle(order)
        for name in order:
            rates[name].append(total / timed(runs[name]).cpu_seconds)
    same = [ours == theirs for ours, theirs in zip(segment_all(sample), jieba_all(sample), strict=True)]

    def times_faster(ours: str, theirs: str) -> float:
        return round(statistics.median(a / b for a, b in zip(rates[ours], rates[theirs], strict=True)), 1)

    found = {
        "characters": total,
        "characters_a_cpu_second": {name: round(statistics.median(each)) for name, each in rates.items()},
        "times_faster": {
            "cutting alone": times_faster("rjieba, cutting alone", "jieba, cutting alone"),
            "all": times_faster("zhihui, all", "jieba, all"),
        },
        "passages_segmented_identically": round(statistics.mean(same), 4),
    }
    print(found)
    return found


def jieba_all(texts: Sequence[str]) -> list[list[str]]:
    """Fold, cut by jieba and drop signs, as `segment_all` does with rjieba."""
    is_word = cache(lambda word: any(sign.isalnum() for sign in word))
    return [list(filter(is_word, jieba.lcut(text))) for text in fold_all(texts)]


# --------------------------------------------------------------------------- ranking


def ranking(data: RetrievalSet, options: argparse.Namespace) -> dict[str, Any]:
    """Measure our BM25 and bm25s fed by jieba on one set."""
    split = options.split if options.split in data.qrels else min(data.qrels)
    judged = data.judged(split)
    queries = [data.queries[query] for query in judged]
    passages = [passage.full for passage in data.corpus.values()]
    systems = {
        "zhihui": lambda: BM25(passages).search(queries, DEPTH),
        "zhihui, stop words out": lambda: BM25(passages, stop_words=STOP_WORDS).search(queries, DEPTH),
        "bm25s and jieba": lambda: jieba_bm25(passages, queries),
    }
    place = {key: number for number, key in enumerate(data.corpus)}
    values: dict[str, dict[str, np.ndarray]] = {}
    seconds = {}
    for name, run in systems.items():
        kept: list[TopK] = []
        seconds[name] = round(timed(lambda run=run, kept=kept: kept.append(run())).cpu_seconds, 1)  # type: ignore[misc]
        rows = zip(judged.values(), kept[0].indices.tolist(), strict=True)
        scored = [of_query({place[k]: g for k, g in grades.items()}, listed) for grades, listed in rows]
        values[name] = {"ndcg@10": np.array([n for n, _ in scored]), "recall@100": np.array([r for _, r in scored])}
    found: dict[str, Any] = {"split": split, "queries": len(queries), "passages": len(passages), "cpu_seconds": seconds}
    for metric in ("ndcg@10", "recall@100"):
        found[metric] = {name: round(float(each[metric].mean()), 4) for name, each in values.items()}
        gap = values["zhihui"][metric] - values["bm25s and jieba"][metric]
        found[f"{metric}: zhihui minus jieba, 95%"] = interval(gap, options)
    print(data.name, found)
    return found


def jieba_bm25(passages: Sequence[str], queries: Sequence[str]) -> TopK:
    import bm25s

    vocabulary: dict[str, int] = {}
    numbered = [[vocabulary.setdefault(word, len(vocabulary)) for word in words] for words in jieba_all(passages)]
    index = bm25s.BM25(k1=1.5, b=0.75, method="lucene", backend="numpy")
    index.index((numbered, vocabulary), create_empty_token=False, show_progress=False)
    found = TopK.empty(len(queries), DEPTH)
    for row, words in enumerate(jieba_all(queries)):
        known = [vocabulary[word] for word in words if word in vocabulary]
        if known:
            scores = index.get_scores_from_ids(known)
            chosen = np.lexsort((np.arange(len(scores)), -scores))[:DEPTH]
            found.indices[row, : len(chosen)] = chosen
    return found


def of_query(grades: dict[int, int], listed: Sequence[int]) -> tuple[float, float]:
    """Return nDCG@10 (linear gains) and recall@100 of one query."""
    gains = [max(0, grades.get(passage, 0)) for passage in listed[:10]]
    ideal = sorted((grade for grade in grades.values() if grade > 0), reverse=True)
    discounts = 1 / np.log2(np.arange(2, 12))
    best = float(np.dot(ideal[:10], discounts[: len(ideal[:10])]))
    relevant = {passage for passage, grade in grades.items() if grade > 0}
    return float(np.dot(gains, discounts[: len(gains)])) / best, len(relevant & set(listed)) / len(relevant)


def interval(gaps: np.ndarray, options: argparse.Namespace) -> list[float]:
    generator = np.random.default_rng(options.seed)
    means = [gaps[generator.integers(0, len(gaps), len(gaps))].mean() for _ in range(options.resamples)]
    return [round(float(edge), 4) for edge in np.percentile(means, [2.5, 97.5])]


# --------------------------------------------------------------------------- near-duplicates


def near_duplicates(texts: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """Plant changed copies and see how many of those at the threshold are found, and how long it takes."""
    from opencc import OpenCC

    draw, traditional = random.Random(options.seed), OpenCC("s2t").convert
    originals = draw.sample(texts, min(options.planted, len(texts)))
    signs = sorted({sign for text in originals for sign in text})

    def edited(text: str, share: float) -> str:
        letters = list(text)
        for place in draw.sample(range(len(letters)), max(1, round(share * len(letters)))):
            letters[place] = draw.choice([draw.choice(signs), "", letters[place] + draw.choice(signs)])
        return "".join(letters)

    kinds: dict[str, Callable[[str], str]] = {
        **{f"{share}% edited": lambda text, share=share: edited(text, share / 100) for share in (1, 2, 4, 8)},
        "other script": traditional,
        "other punctuation": lambda text: text.replace("，", " ").replace("。", "；"),
    }
    chosen = [(draw.choice([*kinds]), number) for number in range(len(originals))]
    planted = [(kind, number, kinds[kind](originals[number])) for kind, number in chosen]
    everything = [*texts, *(text for _, _, text in planted)]
    index = NearIndex(everything, options.threshold, seed=options.seed)
    found: list[set[str]] = []

    def search() -> None:
        for number in range(len(texts)):
            index.enter(number)
        copies = range(len(texts), len(everything))
        found.extend({everything[near.number] for near in index.near(number)} for number in copies)

    took = timed(search)
    report: dict[str, Any] = {
        "texts": len(everything),
        "cpu_seconds": round(took.cpu_seconds, 1),
        "texts_a_cpu_second": round(len(everything) / took.cpu_seconds),
    }
    for kind in kinds:
        pairs = [
            (originals[number] in near, jaccard(shingles(bare(originals[number])), shingles(bare(text))))
            for (name, number, text), near in zip(planted, found, strict=True)
            if name == kind
        ]
        due = [was_found for was_found, similarity in pairs if similarity >= options.threshold]
        report[kind] = {
            "planted": len(pairs),
            "at_the_threshold": len(due),
            "recall_of_these": round(statistics.mean(due), 4) if due else None,
            "found_below_the_threshold": sum(hit for hit, similarity in pairs if similarity < options.threshold),
        }
    print(report)
    return report


if __name__ == "__main__":
    main()
