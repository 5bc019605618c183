"""What HTTP costs: a server at saturation against bare `encode`, latency under load, and memory over minutes.

    python benchmarks/serving.py                # throughput, latencies
    python benchmarks/serving.py --minutes 10   # and whether memory stays flat

The server runs in a process of its own, as `zhihui serve` starts it; bare `encode` and the clients run in this one, not
at the same time. Throughput: several clients send the same texts that `encode` is given in one list, in calls of
--batch texts, by turns with it. The texts come back as base64, as OpenAI's client asks for them. Latency: calls of one
query arrive at random (Poisson), whether or not earlier ones are answered, at 50% and 90% of the rate that saturates
the server with such calls. infinity-emb, which pins older packages, is compared where --infinity names its command
in an environment of its own; the served model must be one that its packages load.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil
import torch
from encoding import draw_texts, fresh_encoder
from report import write_report

from zhihui import load, progress
from zhihui.encoder.export import export

HERE = Path(__file__).parent
_QUERY_CHARACTERS = 16
_local = threading.local()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--texts", type=int, default=256, help="texts of about 20 to 480 tokens, uniformly drawn")
    parser.add_argument("--batch", type=int, default=32, help="texts of a call")
    parser.add_argument("--clients", type=int, default=4, help="calls at once")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30, help="of each load for latencies")
    parser.add_argument("--minutes", type=float, default=0, help="of full load under which memory is watched")
    parser.add_argument("--infinity", help="the infinity_emb command of an environment that has it")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "serving.json")
    options = parser.parse_args()
    progress.quiet()
    base = fresh_encoder(options.layers, options.hidden, options.seed)
    texts, lengths = draw_texts(base, options.texts, options.seed)
    print(f"{len(texts)} texts, {sum(lengths):,} tokens, {min(lengths)} to {max(lengths)} each")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        export(base, folder)
        with zhihui_server(folder, options.device) as (url, process):
            results: dict[str, Any] = {"throughput": throughput(url, folder, texts, sum(lengths), options)}
            results["latency"] = latencies(url, texts, options)
            if options.minutes:
                results["memory"] = memory(url, process, texts, options)
        results["infinity"] = infinity(folder, texts, sum(lengths), options)
    write_report(
        "what serving over HTTP costs beside bare encoding",
        options,
        results,
        device=options.device,
        unsaid=["infinity"],  # where it lies on this machine
        tokens={"total": sum(lengths), "shortest": min(lengths), "longest": max(lengths)},
    )


# --------------------------------------------------------------------------- servers and clients


@contextmanager
def zhihui_server(folder: Path, device: str) -> Iterator[tuple[str, psutil.Process]]:
    """Start `zhihui serve`, wait until it is ready, and end it after the block."""
    command = [sys.executable, "-m", "zhihui.cli", "serve", str(folder), "--port", "0", "--device", device]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen([*command, "--queue-tokens", "2000000"], stderr=log)
        try:
            url = None
            while url is None:
                assert process.poll() is None, "the server ended"
                time.sleep(0.1)
                log.seek(0)
                ready = [line for line in log if '"event":"ready"' in line]
                url = json.loads(ready[0])["urls"][0] if ready else None
            log.seek(0, os.SEEK_END)
            yield url, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait()


def post(url: str, texts: Sequence[str], *, path: str = "/v1/embeddings", **more: Any) -> tuple[int, bytes]:
    """Send a call on this thread's own connection."""
    where = urlsplit(url)
    if getattr(_local, "where", None) != where:
        _local.where, _local.connection = where, http.client.HTTPConnection(where.netloc, timeout=600)
    body = json.dumps({"input": list(texts), "encoding_format": "base64", **more})
    _local.connection.request("POST", path, body, {"content-type": "application/json"})
    answer = _local.connection.getresponse()
    return answer.status, answer.read()


def send_all(url: str, texts: Sequence[str], options: argparse.Namespace, **more: Any) -> None:
    """Send all texts in calls, several at once."""
    calls = [texts[start : start + options.batch] for start in range(0, len(texts), options.batch)]
    with ThreadPoolExecutor(options.clients) as pool:
        for status, content in pool.map(lambda part: post(url, part, **more), calls):
            assert status == 200, content


# --------------------------------------------------------------------------- questions


def throughput(
    url: str, folder: Path, texts: Sequence[str], tokens: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Return tokens a second of bare encoding and of the server, by turns."""
    bare = load(folder, device=options.device)
    contenders: dict[str, Callable[[], Any]] = {
        "bare encode": lambda: bare.encode(texts, role="document"),
        "served": lambda: send_all(url, texts, options),
    }
    for run in contenders.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    draw = random.Random(options.seed)
    for _ in range(options.rounds):
        for name in draw.sample(list(contenders), len(contenders)):
            start = time.perf_counter()
            contenders[name]()
            seconds[name].append(time.perf_counter() - start)
    rates = {name: tokens / statistics.median(spent) for name, spent in seconds.items()}
    share = rates["served"] / rates["bare encode"]
    print(*(f"{name}: {rate:,.0f} tokens/s" for name, rate in rates.items()), f"share {share:.2f}", sep="\n")
    return {"tokens_per_second": rates, "seconds": seconds, "share_of_bare": share}


def latencies(url: str, texts: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """Return percentiles (ms) of calls of one query, at shares of the rate that saturates the server."""
    queries = [text[:_QUERY_CHARACTERS] for text in texts]
    most = saturation(url, queries, seconds=min(10.0, options.seconds))
    found: dict[str, Any] = {"saturating_calls_per_second": most}
    for share in (0.5, 0.9):
        spent, statuses = arrive(url, queries, rate=share * most, seconds=options.seconds, seed=options.seed)
        figures = {f"p{p}": float(np.percentile(spent, p)) * 1000 for p in (50, 90, 99)}
        found[f"at {share:.0%}"] = figures | {"calls": len(spent), "refused": sum(s != 200 for s in statuses)}
        print(f"at {share:.0%} of {most:.0f} calls/s:", *(f"{name} {ms:.1f} ms" for name, ms in figures.items()))
    return found


def saturation(url: str, queries: Sequence[str], *, seconds: float) -> float:
    """Return the calls a second that 32 clients get answered, each sending as soon as it has its answer."""
    end = time.perf_counter() + seconds

    def ask(number: int) -> int:
        count = 0
        while time.perf_counter() < end:
            post(url, [queries[(number + count) % len(queries)]])
            count += 1
        return count

    with ThreadPoolExecutor(32) as pool:
        return sum(pool.map(ask, range(32))) / seconds


def arrive(
    url: str, queries: Sequence[str], *, rate: float, seconds: float, seed: int
) -> tuple[list[float], list[int]]:
    """Let calls arrive by a Poisson process; a call's time runs from when it was due, so that none hides a delay."""
    draw = random.Random(seed)
    start = time.perf_counter()
    spent: list[float] = []
    statuses: list[int] = []

    def ask(due: float, query: str) -> None:
        status, _ = post(url, [query])
        spent.append(time.perf_counter() - due)
        statuses.append(status)

    with ThreadPoolExecutor(128) as pool:
        due = start
        while (due := due + draw.expovariate(rate)) < start + seconds:
            time.sleep(max(0.0, due - time.perf_counter()))
            pool.submit(ask, due, draw.choice(queries))
    return spent, statuses


def memory(url: str, process: psutil.Process, texts: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """Return the server's bytes, second by second, under full load."""
    held: list[int] = []
    end = time.monotonic() + 60 * options.minutes
    load_it = threading.Thread(target=lambda: _until(end, lambda: send_all(url, texts, options)))
    load_it.start()
    while load_it.is_alive():
        held.append(process.memory_info().rss)
        time.sleep(1)
    quarter = max(1, len(held) // 4)
    first, last = statistics.median(held[quarter : 2 * quarter]), statistics.median(held[-quarter:])
    print(f"memory: {first / 2**20:.0f} MiB in the second quarter, {last / 2**20:.0f} MiB in the last")
    return {"second_quarter": first, "last_quarter": last, "most": max(held), "growth": last / first - 1}


def _until(end: float, run: Callable[[], Any]) -> None:
    while time.monotonic() < end:
        run()


def infinity(folder: Path, texts: Sequence[str], tokens: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return infinity-emb's throughput with the same clients, or why there is none."""
    if options.infinity is None:
        print("infinity-emb: not compared, no --infinity")
        return {"compared": False, "why": "no environment with it was named"}
    port = 17997
    command = [options.infinity, "v2", "--model-id", str(folder), "--served-model-name", "peer"]
    more = ["--port", str(port), "--device", options.device.split(":")[0], "--engine", "torch", "--url-prefix", ""]
    process = subprocess.Popen([*command, *more], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 180
        while True:
            try:
                post(url, texts[:1], path="/embeddings", model="peer")
                break
            except OSError as error:
                _local.where = None
                if process.poll() is not None or time.monotonic() > deadline:
                    return {"compared": False, "why": f"it did not start ({error})"}
                time.sleep(0.5)
        seconds = []
        for _ in range(options.rounds + 1):
            start = time.perf_counter()
            send_all(url, texts, options, path="/embeddings", model="peer")
            seconds.append(time.perf_counter() - start)
        rate = tokens / statistics.median(seconds[1:])
        print(f"infinity-emb: {rate:,.0f} tokens/s")
        return {"compared": True, "tokens_per_second": rate, "seconds": seconds[1:]}
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
