"""What the benchmarks share: the machine in words, its peak, clocks, and Chinese text to compute on."""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import torch

from zhihui.records import read_rows


class Times(NamedTuple):
    """What one run took; on a machine shared with others, the processor's time is the steadier."""

    seconds: float
    cpu_seconds: float


def timed(run: Callable[[], Any]) -> Times:
    """Time one run."""
    start, cpu = time.perf_counter(), time.process_time()
    run()
    return Times(time.perf_counter() - start, time.process_time() - cpu)


def peak_memory() -> int:
    """Return the most bytes this process ever held (ru_maxrss: everything, torch and the data included)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def corpus() -> str:
    """Return the starter set's passages, end to end."""
    rows = read_rows(Path(str(files("zhihui") / "starter" / "data" / "corpus.jsonl")))
    return "".join(row.data["text"] for row in rows)


def gemm_rate(dtype: torch.dtype, device: str, size: int = 2048) -> float:
    """Return the best of five square matrix products, in floating-point operations a second."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(6):
        start = time.perf_counter()
        torch.mm(a, b)
        if a.is_cuda:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def hardware(device: str = "cpu") -> dict[str, Any]:
    """Return what the figures were measured on."""
    cpuinfo = Path("/proc/cpuinfo")
    named = cpuinfo.read_text().split("model name") if cpuinfo.exists() else []
    return {
        "processor": named[1].split(":", 1)[1].split("\n", 1)[0].strip() if len(named) > 1 else platform.processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "gpu": torch.cuda.get_device_name() if device.startswith("cuda") else None,
    }
