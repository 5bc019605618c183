"""What is refused before a run starts: settings that its data, its model or its processes cannot meet."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from itertools import pairwise

from zhihui.errors import InputError
from zhihui.records import Example
from zhihui.training.config import TrainConfig
from zhihui.training.processes import Processes


def check(
    config: TrainConfig,
    examples: Sequence[Example],
    plan: Sequence[list[int]],
    *,
    dimension: int,
    measured: bool,
    processes: Processes,
) -> None:
    """Check a run as a whole.

    Args:
        config: the run.
        examples: its data.
        plan: its batches.
        dimension: of the model's vectors.
        measured: whether there is something to evaluate on.
        processes: those that share the batches.

    Raises:
        InputError: the setting, its value, and how to mend it.
    """
    for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"):
        if os.environ.get(name, "false").lower() in ("1", "true"):
            raise InputError(f"{name} is set; start with torchrun in place of accelerate, and use the setting shard")
    for name in ("patience", "metric"):
        if getattr(config, name) and not measured:
            raise InputError(f"{name} {getattr(config, name)} needs an evaluation; give a set to measure on (--dev)")
    if config.keep == "best" and not measured:
        raise InputError("keep best needs an evaluation; give a set to measure on (--dev), or keep last")
    for name in config.report_to or ():
        _check_reporter(name)
    longest = max(config.loss.matryoshka, default=0)
    if longest > dimension:
        raise InputError(f"loss.matryoshka {longest} exceeds the {dimension} dimensions of the model; lower it")
    if config.loss.distillation and not any(map(_graded, examples)):
        raise InputError(
            f"loss.distillation {config.loss.distillation} needs grades, and no example has two; give pos_scores and "
            "neg_scores, or set it to 0"
        )
    check_processes(config, processes.size, {examples[rows[0]].source or "" for rows in plan})
    _check_memory(config, [examples[rows[0]].source or "" for rows in plan])
    _check_refresh(config, examples, len(plan))


def _graded(example: Example) -> bool:
    return len(example.pos_scores or ()) + len(example.neg_scores or ()) >= 2


def _check_reporter(name: str) -> None:
    from transformers.integrations import get_available_reporting_integrations

    if name not in (known := get_available_reporting_integrations()):
        raise InputError(f"report_to {name!r} is not installed; there are: {', '.join(known) or 'none'}")


def check_processes(config: TrainConfig, count: int, sources: Collection[str] | None = None) -> None:
    """Check that so many processes can share the batches.

    Args:
        config: the run.
        count: processes.
        sources: data sets; None for those with settings of their own and one that has none.

    Raises:
        InputError: they cannot.
    """
    if config.shard and count == 1:
        raise InputError("shard needs several processes; start with torchrun --nproc-per-node N, or set it to false")
    for source in sorted(["", *config.batches.sets] if sources is None else sources):
        size = config.batches.of(source).size
        if size % count:
            own = config.batches.sets.get(source)
            name = "batches.size" if own is None or own.size is None else f"batches.sets.{source}.size"
            down = size // count * count
            near = " or ".join(str(each) for each in (down, down + count) if each >= 2)
            raise InputError(f"{name} {size} is not a multiple of the {count} processes; use {near}")


def _check_memory(config: TrainConfig, sources: list[str]) -> None:
    memory = config.memory
    if not memory.size:
        return
    for source in sorted(set(sources)):
        batches = config.batches.of(source)
        passages = batches.size * (batches.positives + batches.negatives)
        if memory.size < passages:
            raise InputError(
                f"memory.size {memory.size} does not hold the {passages} passages of one batch of data set "
                f"{source or '(unnamed)'}; use {passages} or more, or 0"
            )
    if memory.warmup >= len(sources):
        raise InputError(f"memory.warmup {memory.warmup} leaves none of the {len(sources)} steps; lower it")
    gap = _smallest_gap(sources)
    if memory.staleness is not None and (gap is None or memory.staleness < gap):
        found = "no data set has two batches" if gap is None else f"batches of one data set are {gap} steps apart"
        raise InputError(f"memory.staleness {memory.staleness} forgets all before it is used: {found}; raise it")


def _smallest_gap(sources: list[str]) -> int | None:
    places: dict[str, list[int]] = {}
    for step, source in enumerate(sources):
        places.setdefault(source, []).append(step)
    return min((b - a for steps in places.values() for a, b in pairwise(steps)), default=None)


def _check_refresh(config: TrainConfig, examples: Sequence[Example], steps: int) -> None:
    every = config.refresh.every
    if not every:
        return
    if every >= steps:
        raise InputError(f"refresh.every {every} is never reached before the last of {steps} steps; lower it")
    if not any(len(e.neg) > config.batches.of(e.source).negatives > 0 for e in examples):
        raise InputError(
            f"refresh.every {every} needs a reserve, and no example has more than batches.negatives "
            f"{config.batches.negatives} negatives; mine more, or set it to 0"
        )
