"""How many examples a second are trained on, and in how much memory, against sentence-transformers' own trainer.

    python benchmarks/training.py                      # the table: batch 128, about ten minutes a peer and round
    python benchmarks/training.py --batch 32 --rounds 3
    python benchmarks/training.py --curve-only         # time and memory against the batch size, 256 to 65,536

Both sides begin from one folder and train one step on the same batch: tokenization, collating, loss, gradients and
optimizer included. Each is a process of its own, so that its peak memory is the operating system's figure (ru_maxrss:
everything, torch included); they take turns, and a round's order is drawn anew. Losses are compared: a side that
computes something else stops the run. On a machine that others use, the seconds of processor time are the steadier
measure: give --threads 1 and read those.

The peer is run as its users run it: `CachedMultipleNegativesRankingLoss` in `SentenceTransformerTrainer`, with its
collator, and with the mini-batches named on the command line, of which its default (32 texts) is one.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import corpus, hardware, peak_memory
from encoding import fresh_encoder

from zhihui import progress
from zhihui.encoder import Encoder, EncoderSettings, build
from zhihui.encoder.export import export
from zhihui.records import Example
from zhihui.runs import read_json, versions, write_json

HERE = Path(__file__).parent
TEMPERATURE = 0.02
LONGEST = 512
LEARNING_RATE = 1e-5
CURVE = (256, 1024, 4096, 16384, 65536)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--negatives", type=int, default=3, help="hard negatives an example")
    parser.add_argument("--median", type=int, default=120, help="tokens of a text; lengths are lognormal, at most 512")
    parser.add_argument("--spread", type=float, default=0.7, help="standard deviation of the lengths' logarithm")
    parser.add_argument("--mini-batches", nargs="*", type=int, default=[32, 8], help="texts, of the peer")
    parser.add_argument("--mini-batch-tokens", nargs="*", type=int, default=[2048], help="tokens, of the peer")
    parser.add_argument("--chunk-tokens", type=int, default=2048, help="of zhihui")
    parser.add_argument("--graph-tokens", nargs="+", type=int, default=[16384], help="of zhihui")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--curve", nargs="*", type=int, default=list(CURVE), help="batch sizes of the curve; none leaves it as it is"
    )
    parser.add_argument("--curve-only", action="store_true", help="leave the table as it is in the results")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "training.json")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    progress.quiet()
    if options.work:
        print(json.dumps(work(json.loads(options.work))))
        return
    # What is not measured this time stays as it was measured before, with its own hardware and versions.
    report: dict[str, Any] = read_json(options.out) if options.out.exists() else {}
    if not options.curve_only:
        report |= {"settings": settings(options), "hardware": hardware("cpu"), "versions": versions()}
        report["table"] = table(options)
    report["question"] = "a training step's speed and memory against sentence-transformers, and against the batch size"
    report["note"] = (
        "fp32 only: this processor has no bfloat16 instructions, and emulated ones say nothing of either side"
        if not torch.ops.mkldnn._is_mkldnn_bf16_supported()
        else "fp32"
    )
    if options.curve:
        report["curve"] = {"hardware": hardware("cpu"), "versions": versions(), "points": curve(options)}
    write_json(options.out, report)
    print(options.out)


def settings(options: argparse.Namespace) -> dict[str, Any]:
    left_out = ("out", "work", "curve", "curve_only")
    return {key: value for key, value in vars(options).items() if key not in left_out}


# --------------------------------------------------------------------------- the table


def table(options: argparse.Namespace) -> dict[str, Any]:
    """Run all contenders by turns and compare them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = fresh_encoder(options.layers, options.hidden, options.seed)
        base.settings = EncoderSettings(prompts={}, max_length=LONGEST)
        draw_weights(base, options.seed)
        export(base, folder / "model")
        rows = draw_rows(base, options)
        write_json(folder / "rows.json", rows)
        lengths = [len(ids) for ids in base.tokenize([text for row in rows for text in row], role="document")]
        del base
        gc.collect()
        print(f"{options.batch} examples, {len(lengths)} texts, {sum(lengths):,} tokens, longest {max(lengths)}")
        jobs = contenders(options, folder)
        found: dict[str, list[dict[str, Any]]] = {job: [] for job in jobs}
        draw = random.Random(options.seed)
        for number in range(options.rounds):
            for job in draw.sample(list(jobs), len(jobs)):
                found[job].append(in_a_process(jobs[job], options))
                one = found[job][-1]
                print(
                    f"round {number + 1}  {job:52} {one['seconds']:7.1f} s  {one['cpu_seconds']:7.1f} cpu s  "
                    f"peak {one['peak_gb']:.2f} GB  loss {one['loss']:.5f}",
                    flush=True,
                )
    losses = {job: runs[0]["loss"] for job, runs in found.items()}
    if max(losses.values()) - min(losses.values()) > 1e-3 * max(losses.values()):
        raise SystemExit(f"the contenders do not compute the same loss: {losses}")
    return {"tokens": {"total": sum(lengths), "longest": max(lengths)}, "runs": found} | compared(found, options.batch)


def contenders(options: argparse.Namespace, folder: Path) -> dict[str, dict[str, Any]]:
    common = {"folder": str(folder), "batch": options.batch, "negatives": options.negatives, "seed": options.seed}
    jobs: dict[str, dict[str, Any]] = {}
    for tokens in options.graph_tokens:
        cache = {"chunk_tokens": min(options.chunk_tokens, tokens), "graph_tokens": tokens}
        jobs[f"zhihui, {tokens:,} tokens with a graph"] = {"who": "zhihui", "cache": cache} | common
    for size in options.mini_batches:
        cache = {"mini_batch_size": size}
        jobs[f"sentence-transformers, mini-batch {size}"] = {"who": "peer", "cache": cache} | common
    for tokens in options.mini_batch_tokens:
        cache = {"mini_batch_num_tokens": tokens}
        jobs[f"sentence-transformers, mini-batch of {tokens:,} tokens"] = {"who": "peer", "cache": cache} | common
    return jobs


def compared(found: dict[str, list[dict[str, Any]]], batch: int) -> dict[str, Any]:
    """Return rates, and the ratio of ours to every peer."""
    medians = {
        kind: {job: statistics.median(run[kind] for run in runs) for job, runs in found.items()}
        for kind in ("seconds", "cpu_seconds", "peak_gb")
    }
    ratios: dict[str, Any] = {}
    for ours in (job for job in found if job.startswith("zhihui")):
        for peer in (job for job in found if not job.startswith("zhihui")):
            ratios.setdefault(ours, {})[peer] = {
                "times_faster": round(medians["seconds"][peer] / medians["seconds"][ours], 2),
                "times_faster_by_cpu": round(medians["cpu_seconds"][peer] / medians["cpu_seconds"][ours], 2),
                "share_of_its_memory": round(medians["peak_gb"][ours] / medians["peak_gb"][peer], 3),
            }
            print(f"{ours} : {peer}: {ratios[ours][peer]}")
    rates = {job: round(batch / seconds, 3) for job, seconds in medians["seconds"].items()}
    return {"examples_per_second": rates, "medians": medians, "ratios": ratios}


@torch.no_grad()
def draw_weights(encoder: Encoder, seed: int) -> None:
    """Give every weight a value of its own: zeros would make gradients vanish that a trained model has."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in encoder.backbone.named_parameters():
        if "norm" not in name:
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)


def draw_rows(encoder: Encoder, options: argparse.Namespace) -> list[list[str]]:
    """Return examples as texts: query, positive, negatives, each of a length of its own."""
    draw = random.Random(options.seed)
    whole = corpus()
    per_token = len(whole) / len(encoder.tokenizer(whole)["input_ids"])

    def text() -> str:
        tokens = min(LONGEST, max(8, draw.lognormvariate(0.0, options.spread) * options.median))
        size = round(tokens * per_token)
        start = draw.randrange(len(whole) - size)
        return whole[start : start + size]

    return [[text() for _ in range(2 + options.negatives)] for _ in range(options.batch)]


# --------------------------------------------------------------------------- one process


def in_a_process(job: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--work", json.dumps(job), "--threads", str(options.threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{job['who']} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def work(job: dict[str, Any]) -> dict[str, Any]:
    warnings.simplefilter("ignore")
    run: Callable[[dict[str, Any], Clock], float] = {"zhihui": ours, "peer": peer, "curve": ours_curve}[job["who"]]
    clock = Clock()
    loss = run(job, clock)
    return {"loss": loss, "peak_gb": round(peak_memory() / 1e9, 3), **clock.taken()}


class Clock:
    """The time from the beginning of training to the end of its step, and the memory at the beginning."""

    def begin(self) -> None:
        """Note where training begins."""
        self.idle = round(peak_memory() / 1e9, 3)
        self.start, self.cpu = time.perf_counter(), time.process_time()

    def end(self) -> None:
        """Note where its step ends."""
        self.stop, self.cpu_stop = time.perf_counter(), time.process_time()

    def taken(self) -> dict[str, float]:
        """Return what lies between."""
        return {
            "seconds": round(self.stop - self.start, 3),
            "cpu_seconds": round(self.cpu_stop - self.cpu, 3),
            "peak_before_gb": self.idle,
        }


def ours(job: dict[str, Any], clock: Clock) -> float:
    from zhihui import load

    rows = read_json(Path(job["folder"]) / "rows.json")
    examples = [Example(query=query, pos=[positive], neg=negatives) for query, positive, *negatives in rows]
    return step(load(Path(job["folder"]) / "model", device="cpu"), examples, job, clock)


def step(encoder: Encoder, examples: list[Example], job: dict[str, Any], clock: Clock) -> float:
    from zhihui.training.batches import BatchConfig
    from zhihui.training.config import TrainConfig
    from zhihui.training.gradient_cache import CacheConfig
    from zhihui.training.loss import LossConfig
    from zhihui.training.trainer import train

    config = TrainConfig(
        loss=LossConfig(temperature=TEMPERATURE, false_negative_margin=None),
        batches=BatchConfig(size=job["batch"], negatives=job["negatives"], near_duplicates=None),
        cache=CacheConfig(**job["cache"]),
        learning_rate=LEARNING_RATE,
        warmup=0.0,
        seed=job["seed"],
    )
    turns = iter([clock.begin, clock.end])

    def evaluate(_: Encoder) -> dict[str, float]:
        next(turns)()  # before the first step and after the last, which is the same one
        return {"none": 0.0}

    with tempfile.TemporaryDirectory() as folder:
        return train(encoder, examples, config, Path(folder), evaluate=evaluate).loss[0][1]


def peer(job: dict[str, Any], clock: Clock) -> float:
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss
    from transformers import TrainerCallback

    rows = read_json(Path(job["folder"]) / "rows.json")
    names = ["anchor", "positive", *(f"negative_{number + 1}" for number in range(job["negatives"]))]
    model = SentenceTransformer(str(Path(job["folder"]) / "model"), device="cpu")
    data = Dataset.from_dict({name: [row[number] for row in rows] for number, name in enumerate(names)})
    seen: list[float] = []

    class Watch(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            clock.begin()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.end()

        def on_log(self, *_: Any, logs: dict[str, float] | None = None, **__: Any) -> None:
            seen.extend([float(logs["loss"])] if logs and "loss" in logs else [])

    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=folder,
            max_steps=1,
            per_device_train_batch_size=job["batch"],
            learning_rate=LEARNING_RATE,
            weight_decay=0.01,
            seed=job["seed"],
            save_strategy="no",
            logging_steps=1,
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        )
        loss = CachedMultipleNegativesRankingLoss(model, scale=1 / TEMPERATURE, **job["cache"])
        SentenceTransformerTrainer(
            model=model, args=arguments, train_dataset=data, loss=loss, callbacks=[Watch()]
        ).train()
    return seen[0]


# --------------------------------------------------------------------------- the curve


def curve(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Train one step of a tiny model on ever larger batches of pairs; memory must not follow the batch's square."""
    points = []
    for batch in options.curve:
        cache = {"chunk_tokens": 4096, "graph_tokens": 8192}
        job = {"who": "curve", "batch": batch, "negatives": 0, "seed": options.seed, "cache": cache}
        found = in_a_process(job, options)
        points.append({"pairs": batch} | found)
        print(
            f"{batch:7,} pairs  {found['seconds']:7.1f} s  {found['cpu_seconds']:7.1f} cpu s  {found['peak_gb']:.2f} GB"
        )
    return points


def ours_curve(job: dict[str, Any], clock: Clock) -> float:
    draw = random.Random(job["seed"])
    whole = corpus()
    encoder = build("tiny", [whole], seed=job["seed"], settings=EncoderSettings(prompts={}))
    starts = draw.sample(range(len(whole) - 24), min(2 * job["batch"], len(whole) - 24))
    # Where the corpus has too few places, a number makes a text its own.
    texts = [
        f"{n // len(starts) or ''}{whole[s : s + 24]}"
        for n in range(2 * job["batch"])
        for s in [starts[n % len(starts)]]
    ]
    pairs = zip(texts[: job["batch"]], texts[job["batch"] :], strict=True)
    return step(encoder, [Example(query=one, pos=[other]) for one, other in pairs], job, clock)


if __name__ == "__main__":
    main()
