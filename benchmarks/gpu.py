"""Which share of a GPU's peak a 7B-shaped model reaches: encoding, and LoRA training with gradient cache.

    python benchmarks/gpu.py                          # 7B shape, random weights, 512 tokens: about ten minutes
    python benchmarks/gpu.py --only encode
    python benchmarks/gpu.py --shape qwen2-0.5b --batch 256

The peak is the best square bf16 product of the same run; the chip's rated figure stands beside it. Floating-point
operations are counted of what the model needs once: 2 a weight and token forward, 2 more for the gradient of the states
(LoRA needs none of the frozen weights), 4·L·D a pair of tokens that see one another. Embeddings count nothing, and of
the last layer only what is computed counts. MFU leaves out what is computed twice (gradient cache, checkpointing); HFU
counts it.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import corpus, gemm_rate, hardware

from zhihui import progress
from zhihui.encoder import Encoder, EncoderSettings, build
from zhihui.encoder.fresh import SHAPES
from zhihui.records import Example
from zhihui.runs import versions, write_json
from zhihui.training.batches import BatchConfig
from zhihui.training.config import TrainConfig
from zhihui.training.gradient_cache import CacheConfig
from zhihui.training.lora import LoraSettings, apply_lora
from zhihui.training.loss import LossConfig
from zhihui.training.trainer import train

HERE = Path(__file__).parent
RATED = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bf16 FLOP/s by the maker's data sheets."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="qwen2-7b", choices=[name for name in SHAPES if name.startswith("qwen2")])
    parser.add_argument("--tokens", type=int, default=512, help="of a passage")
    parser.add_argument("--query-tokens", type=int, default=32)
    parser.add_argument("--texts", type=int, default=1024, help="to encode")
    parser.add_argument("--token-budget", type=int, default=32768, help="encoded together")
    parser.add_argument("--batch", type=int, default=2048, help="pairs of a training step")
    parser.add_argument("--chunk-tokens", type=int, default=8192)
    parser.add_argument("--graph-tokens", type=int, default=8192)
    parser.add_argument("--checkpointing", action="store_true", help="recompute activations layer by layer")
    parser.add_argument("--rank", type=int, default=16, help="of the adapters")
    parser.add_argument("--rounds", type=int, default=3, help="of encoding")
    parser.add_argument("--only", choices=["encode", "train"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "gpu.json")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit(
            "benchmarks/gpu.py needs an NVIDIA GPU and torch with CUDA, and torch sees none here; on a CPU use "
            "benchmarks/encoding.py and benchmarks/training.py"
        )
    progress.quiet()
    found = measure(options, torch.device("cuda"))
    write_json(options.out, found)
    print(options.out)


def measure(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Measure what the options ask for, on a device."""
    peak = (
        gemm_rate(torch.bfloat16, str(device), size=8192)
        if device.type == "cuda"
        else gemm_rate(torch.float32, str(device), size=256)
    )
    half = torch.bfloat16 if device.type == "cuda" else torch.float32
    settings = EncoderSettings(prompts={"query": "查询："}, max_length=options.tokens)
    encoder = build(options.shape, [corpus()], seed=options.seed, settings=settings, device=str(device), dtype=half)
    found: dict[str, Any] = {
        "question": "share of a GPU's peak reached by encoding and by LoRA training",
        "settings": {key: value for key, value in vars(options).items() if key != "out"},
        "hardware": hardware(str(device)),
        "versions": versions(),
        "gemm_flops_per_second": peak,
        "rated_flops_per_second": rated(device),
    }
    for name, work in (("encode", encoding), ("train", training)):
        if options.only in (None, name):
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            found[name] = work(encoder, options, peak)
            if device.type == "cuda":
                found[name]["peak_gb"] = torch.cuda.max_memory_allocated() / 1e9
            print(name, {key: value for key, value in found[name].items() if not isinstance(value, list)}, flush=True)
    return found


def rated(device: torch.device) -> float | None:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((rate for chip, rate in RATED.items() if chip in name), None)


def forward_flops(encoder: Encoder, lengths: list[int]) -> float:
    """Return what encoding texts of so many tokens takes at the least."""
    config = encoder.backbone.config
    layer = list(encoder.backbone.layers[-1].named_parameters())
    matrices = sum(p.numel() for name, p in layer if p.dim() == 2 and "lora" not in name)
    seen = sum(
        p.numel() for name, p in layer if p.dim() == 2 and "lora" not in name and ("k_proj" in name or "v_proj" in name)
    )
    tokens, pairs = sum(lengths), sum(length**2 for length in lengths)
    full = config.num_hidden_layers - encoder.prunable
    width = config.num_attention_heads * (
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )
    whole = full * (2.0 * matrices * tokens + 4.0 * width * pairs)
    if not encoder.prunable:
        return whole
    # Of the last layer keys and values of all tokens, and the rest of the pooled one.
    return whole + 2.0 * seen * tokens + 2.0 * (matrices - seen) * len(lengths) + 4.0 * width * tokens


def encoding(encoder: Encoder, options: argparse.Namespace, peak: float) -> dict[str, Any]:
    """Encode passages of full length, tokenization included."""
    draw = random.Random(options.seed)
    texts = [passage(draw, options.tokens) for _ in range(options.texts)]
    lengths = [len(ids) for ids in encoder.tokenize(texts, role="document")]
    few = max(1, options.token_budget // options.tokens)
    encoder.encode_documents(texts[:few], token_budget=options.token_budget)
    seconds = []
    for _ in range(options.rounds):
        start = time.perf_counter()
        encoder.encode_documents(texts, token_budget=options.token_budget)
        seconds.append(time.perf_counter() - start)
    middle = statistics.median(seconds)
    needed = forward_flops(encoder, lengths)
    return {
        "texts": len(texts),
        "tokens": sum(lengths),
        "seconds": seconds,
        "tokens_per_second": sum(lengths) / middle,
        "mfu": needed / middle / peak,
    }


def training(encoder: Encoder, options: argparse.Namespace, peak: float) -> dict[str, Any]:
    """Train two steps of pairs; the second is timed."""
    draw = random.Random(options.seed)
    examples = [
        Example(query=passage(draw, options.query_tokens)[: options.query_tokens], pos=[passage(draw, options.tokens)])
        for _ in range(2 * options.batch)
    ]
    apply_lora(encoder, LoraSettings(rank=options.rank), seed=options.seed)
    config = TrainConfig(
        loss=LossConfig(hardness="importance", strength=1.0),
        batches=BatchConfig(size=options.batch, negatives=0, near_duplicates=None, query_tokens=options.query_tokens),
        cache=CacheConfig(chunk_tokens=options.chunk_tokens, graph_tokens=options.graph_tokens),
        bf16=encoder.device.type == "cuda",
        gradient_checkpointing=options.checkpointing,
        eval_steps=1,
        seed=options.seed,
    )
    ticks: list[float] = []

    def tick(_: Encoder) -> dict[str, float]:
        if encoder.device.type == "cuda":
            torch.cuda.synchronize()
        ticks.append(time.perf_counter())
        return {"none": 0.0}

    with tempfile.TemporaryDirectory() as folder:
        history = train(encoder, examples, config, Path(folder), evaluate=tick)
    queries = [len(ids) for ids in encoder.tokenize([example.query for example in examples], role="query")]
    passages = [len(ids) for ids in encoder.tokenize([example.pos[0] for example in examples], role="document")]
    lengths = [*(min(length, options.query_tokens) for length in queries), *passages]
    forward = forward_flops(encoder, lengths) / 2  # of one of the two steps
    tokens = sum(lengths) // 2
    again = max(0.0, 1.0 - options.graph_tokens / tokens) + options.checkpointing
    seconds = ticks[2] - ticks[1]
    return {
        "pairs": options.batch,
        "tokens": tokens,
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
        "mfu": 2 * forward / seconds / peak,
        "hfu": (2 + again) * forward / seconds / peak,
        "losses": history.loss,
    }


def passage(draw: random.Random, tokens: int) -> str:
    """Return a text of at least so many tokens, unlike others: a token is no longer than a few characters."""
    whole = corpus()
    size = min(len(whole) // 2, 4 * tokens)
    start = draw.randrange(len(whole) - size)
    return whole[start : start + size]


if __name__ == "__main__":
    main()
