"""The loss stage alone: speed against sentence-transformers' cached loss, and the cost of a batch of 65,536.

    python benchmarks/loss.py

Peer and ours compute loss and gradients of the same vectors in the same process, by turns; a round's order is drawn
anew. Their losses and gradients are compared first. The large batch runs in a process of its own, whose peak memory is
the operating system's figure (ru_maxrss: everything, torch and the vectors included).
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import Times, peak_memory, timed
from report import write_report
from torch import Tensor
from torch.nn.functional import normalize

from zhihui.training.loss import Gradients, Layout, LossConfig, info_nce

HERE = Path(__file__).parent
TEMPERATURE = 0.02
NOISE = 5.0
"""Norm of what is added to a query to make its passages: their cosine is about 0.2."""
PLAIN = LossConfig(temperature=TEMPERATURE, false_negative_margin=None)
CONFIGS = {
    "zhihui, plain InfoNCE": PLAIN,
    "zhihui, hardness and margin": LossConfig(temperature=TEMPERATURE, hardness="additive", false_negative_margin=0.1),
    "zhihui, importance weights, margin": LossConfig(
        temperature=TEMPERATURE, hardness="importance", false_negative_margin=0.1
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--dimensions", type=int, default=1024)
    parser.add_argument("--negatives", type=int, default=1, help="hard negatives a query")
    parser.add_argument("--mini-batches", nargs="+", type=int, default=[8, 256], help="of sentence-transformers")
    parser.add_argument("--large", type=int, default=65536, help="pairs of the large batch; 0 leaves it out")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "loss.json")
    parser.add_argument("--only-large", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.only_large:
        print(json.dumps(large(options.large, options.dimensions, options.seed)))
        return
    results = {"against_peer": against_peer(options)}
    if options.large:
        command = [sys.executable, __file__, "--only-large", "--large", str(options.large)]
        command += ["--dimensions", str(options.dimensions), "--seed", str(options.seed)]
        command += ["--threads", str(options.threads)]
        found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        results["large"] = json.loads(found.splitlines()[-1])
        print(
            "{pairs:,} pairs: {seconds:.0f} s, peak {peak_memory_gb:.2f} GB, "
            "{share_of_products:.0%} of the bare matrix products' rate".format(**results["large"])
        )
    write_report(
        "the loss stage against sentence-transformers', and a very large batch",
        options,
        results,
        unsaid=["only_large"],
    )


def against_peer(options: argparse.Namespace) -> dict[str, Any]:
    """Time the peer and ours by turns."""
    q, p, layout = batch(options.batch, options.dimensions, options.negatives, options.seed)
    runs: dict[str, Callable[[], Any]] = {
        f"sentence-transformers, mini-batch {size}": lambda size=size: peer(q, p, size) for size in options.mini_batches
    }
    runs |= {name: lambda config=config: info_nce(q, p, layout, config) for name, config in CONFIGS.items()}
    runs["bare matrix products"] = lambda: products(q, p)
    first, *_ = runs
    difference = compare(peer(q, p, options.mini_batches[0]), info_nce(q, p, layout, PLAIN), q, p)
    print("largest differences:", difference)
    order = list(runs)
    generator = random.Random(options.seed)
    times: dict[str, list[Times]] = {name: [] for name in runs}
    for _ in range(options.rounds):
        generator.shuffle(order)
        for name in order:
            times[name].append(timed(runs[name]))
    report: dict[str, Any] = {"largest_difference": difference}
    for number, kind in enumerate(Times._fields):
        each = {name: [one[number] for one in found] for name, found in times.items()}
        medians = {name: statistics.median(found) for name, found in each.items()}
        report[kind] = {
            "median": {name: round(found, 4) for name, found in medians.items()},
            "all": {name: [round(one, 4) for one in found] for name, found in each.items()},
            f"times faster than {first}": {name: round(ratio(each[first], each[name]), 2) for name in CONFIGS},
            "share of the bare matrix products' rate": {
                name: round(ratio(each["bare matrix products"], each[name]), 3) for name in CONFIGS
            },
        }
        for name, found in medians.items():
            print(f"{name:40} {found:8.3f} {kind:12} {ratio(each[first], each[name]):7.1f} x")
    return report


def ratio(theirs: list[float], ours: list[float]) -> float:
    """Return the median of the rounds' ratios."""
    return statistics.median(their / our for their, our in zip(theirs, ours, strict=True))


def batch(count: int, dimensions: int, negatives: int, seed: int) -> tuple[Tensor, Tensor, Layout]:
    """Make queries and their passages: positives, then one column of hard negatives after the other."""
    generator = torch.Generator().manual_seed(seed)
    q = normalize(torch.randn(count, dimensions, generator=generator), dim=-1)
    p = torch.randn(count * (1 + negatives), dimensions, generator=generator).mul_(NOISE / dimensions**0.5)
    p.view(1 + negatives, count, dimensions).add_(q)
    p.div_(p.norm(dim=1, keepdim=True))
    layout = Layout(
        owner=torch.arange(count).repeat(1 + negatives),
        is_positive=torch.arange(len(p)) < count,
        passage_key=torch.arange(len(p)),
        query_key=torch.arange(count),
    )
    return q, p, layout


def peer(q: Tensor, p: Tensor, mini_batch: int) -> tuple[float, Tensor, Tensor]:
    """Loss and gradients of sentence-transformers' cached loss: its step 2, between the two encodings."""
    from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss

    model = torch.nn.Sequential(torch.nn.Identity())  # never called: the vectors are there
    loss = CachedMultipleNegativesRankingLoss(model, scale=1 / TEMPERATURE, mini_batch_size=mini_batch)
    columns = [q, *p.split(len(q))]
    cached = [[part.detach().requires_grad_() for part in column.split(mini_batch)] for column in columns]
    value = loss.calculate_loss(cached, with_backward=True)
    gradient = [torch.cat([part.grad for part in column]) for column in cached]
    return float(value), gradient[0], torch.cat(gradient[1:])


def compare(theirs: tuple[float, Tensor, Tensor], ours: Gradients, q: Tensor, p: Tensor) -> dict[str, float]:
    """Largest differences; theirs normalises once more, so its gradients have no part along the vectors."""
    pairs = {"queries": (theirs[1], ours.queries, q), "passages": (theirs[2], ours.passages, p)}
    found = {"loss": abs(theirs[0] - float(ours.loss)), "loss_itself": float(ours.loss)}
    for name, (wanted, given, vectors) in pairs.items():
        across = given - vectors * (given * vectors).sum(1, keepdim=True)
        found[name] = float((wanted - across).abs().max())
        found[f"{name}_largest"] = float(wanted.abs().max())
        assert found[name] < 1e-3 * found[f"{name}_largest"], f"the two do not compute the same: {found}"
    return found


def products(q: Tensor, p: Tensor) -> None:
    """Do the three matrix products no exact method can do without, as large as can be."""
    similarity = q @ p.T
    _ = similarity @ p, similarity.T @ q


def large(pairs: int, dimensions: int, seed: int) -> dict[str, Any]:
    """Time and peak memory of a batch of pairs; to be called in a fresh process."""
    q, p, layout = batch(pairs, dimensions, 0, seed)
    config = CONFIGS["zhihui, hardness and margin"]
    kept: list[Gradients] = []
    took = timed(lambda: kept.append(info_nce(q, p, layout, config)))
    peak = peak_memory()
    rows = min(256, pairs)
    bare = statistics.median(timed(lambda: products(q[:rows], p)).cpu_seconds for _ in range(5)) * pairs / rows
    return {
        "pairs": pairs,
        "dimensions": dimensions,
        "seconds": round(took.seconds, 1),
        "cpu_seconds": round(took.cpu_seconds, 1),
        "peak_memory_gb": round(peak / 1e9, 3),
        "of_which_vectors_and_gradients_gb": round(4 * q.numel() * q.element_size() / 1e9, 3),
        "share_of_products": round(bare / took.cpu_seconds, 3),
        "loss": float(kept[0].loss),
        "gradients_finite": all(bool(each.isfinite().all()) for each in kept[0][1:3]),
    }


if __name__ == "__main__":
    main()
