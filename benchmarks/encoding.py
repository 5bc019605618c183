"""How many tokens a second are encoded, against sentence-transformers at its best batch size.

    python benchmarks/encoding.py

Both encode the same texts with the same weights in the same process, by turns, tokenization included; a round's order
is drawn anew. The vectors are compared first. Rates count real tokens, not padding. On a
machine that others use, the seconds of processor time are the steadier measure: give --threads 1 and read those.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import corpus, gemm_rate
from report import write_report

from zhihui import progress
from zhihui.encoder import Encoder, build
from zhihui.encoder.export import export
from zhihui.encoder.fresh import SHAPES, Shape

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--texts", type=int, default=64, help="texts of about 20 to 480 tokens, uniformly drawn")
    parser.add_argument("--dtypes", nargs="+", help="by default float32, and bfloat16 where the machine computes in it")
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[8, 16, 32], help="of sentence-transformers")
    parser.add_argument("--token-budget", type=int, default=None, help="of zhihui; by default what suits the device")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=None, help="of the processor; by default all cores")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "encoding.json")
    options = parser.parse_args()
    progress.quiet()
    if options.dtypes is None:
        # Without the instructions bfloat16 is emulated, a hundred times slower, and nobody would use it.
        native = options.device.startswith("cuda") or torch.ops.mkldnn._is_mkldnn_bf16_supported()
        options.dtypes = ["float32", "bfloat16"] if native else ["float32"]
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    base = fresh_encoder(options.layers, options.hidden, options.seed)
    texts, lengths = draw_texts(base, options.texts, options.seed)
    print(f"{len(texts)} texts, {sum(lengths):,} tokens, {min(lengths)} to {max(lengths)} each")
    results = {}
    for dtype in options.dtypes:
        results[dtype] = measure(base, dtype, texts, sum(lengths), options)
        for name, rate in results[dtype]["tokens_per_second"].items():
            print(f"{dtype:9} {name:32} {rate:9,.0f} tokens/s  {results[dtype]['share_of_gemm'][name]:4.0%} of GEMM")
        for name in ("ratio_to_best_peer", "ratio_to_best_peer_by_processor_time"):
            print(f"{dtype:9} {name:40} {results[dtype][name]:.2f}")
    write_report(
        "encoding throughput against sentence-transformers at its best batch size",
        options,
        results,
        device=options.device,
        tokens={"total": sum(lengths), "shortest": min(lengths), "longest": max(lengths)},
    )


def fresh_encoder(layers: int, hidden: int, seed: int) -> Encoder:
    """Build an untrained Qwen2 of the given size with a tokenizer of the starter set's text."""
    SHAPES["benchmark"] = Shape(
        hidden=hidden, layers=layers, heads=hidden // 64, kv_heads=hidden // 128, inner=4 * hidden, vocabulary=16384
    )
    return build("benchmark", [corpus()], seed=seed)


def draw_texts(encoder: Encoder, count: int, seed: int) -> tuple[list[str], list[int]]:
    """Return texts cut from the corpus, and the tokens of each."""
    draw = random.Random(seed)
    whole = corpus()
    characters_per_token = len(whole) / len(encoder.tokenizer(whole)["input_ids"])
    texts = []
    for _ in range(count):
        size = round(draw.uniform(20, 480) * characters_per_token)
        start = draw.randrange(len(whole) - size)
        texts.append(whole[start : start + size])
    return texts, [len(ids) for ids in encoder.tokenize(texts, role="document")]


def measure(
    base: Encoder, dtype: str, texts: Sequence[str], tokens: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Return tokens per second of each contender in one dtype, by turns."""
    from sentence_transformers import SentenceTransformer

    from zhihui import load

    with tempfile.TemporaryDirectory() as folder:
        export(base, Path(folder) / "model")
        ours = load(Path(folder) / "model", device=options.device, dtype=dtype)
        peer = SentenceTransformer(
            str(Path(folder) / "model"), device=options.device, model_kwargs={"dtype": getattr(torch, dtype)}
        )
    contenders: dict[str, Callable[[], Any]] = {
        "zhihui": lambda: ours.encode(texts, role="document", token_budget=options.token_budget)
    }
    for size in options.batch_sizes:
        contenders[f"sentence-transformers, batch {size}"] = lambda size=size: peer.encode(
            list(texts), batch_size=size, show_progress_bar=False
        )
    apart = np.abs(ours.encode(texts, role="document") - np.float32(peer.encode(list(texts)))).max()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    processor: dict[str, list[float]] = {name: [] for name in contenders}
    draw = random.Random(options.seed)
    for _ in range(options.rounds):
        for name in draw.sample(list(contenders), len(contenders)):
            start, used = time.perf_counter(), time.process_time()
            contenders[name]()
            seconds[name].append(time.perf_counter() - start)
            processor[name].append(time.process_time() - used)
    rates = {name: tokens / statistics.median(spent) for name, spent in seconds.items()}
    peak = gemm_rate(getattr(torch, dtype), options.device)
    weights = sum(p.numel() for name, p in ours.backbone.named_parameters() if "embed" not in name)
    return {
        "tokens_per_second": rates,
        "seconds": seconds,
        "processor_seconds": processor,
        "ratio_to_best_peer": lead(seconds),
        "ratio_to_best_peer_by_processor_time": lead(processor),
        "gemm_flops_per_second": peak,
        "share_of_gemm": {name: 2 * weights * rate / peak for name, rate in rates.items()},
        "largest_difference_of_vectors": float(apart),
    }


def lead(spent: dict[str, list[float]]) -> float:
    """Return how much faster zhihui is than the best peer, by medians."""
    medians = {name: statistics.median(values) for name, values in spent.items()}
    return min(value for name, value in medians.items() if name != "zhihui") / medians["zhihui"]


if __name__ == "__main__":
    main()
