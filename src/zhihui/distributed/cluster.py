"""The Ray cluster that a command works on: one that runs, joined by its address, or one started here for the command.

On every node this package and its extras are installed, as is what a command names by path: a model's folder, the
output of `zhihui encode`. Whoever reaches a cluster may run programs on it. One started here takes them only from who
knows a token that is made up for it (Ray 2.52 and later); one that runs is as safe as its network or its token.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zhihui.errors import InputError, RunFailure, require

LOCAL = "local"
"""Starts a cluster on this machine, with all its cores and GPUs, and ends it with the command."""
RUNNING = "auto"
"""The cluster that this machine is a node of."""
_PATIENCE = 10.0
"""Seconds in which a node must take a connection."""
TRIES = 3
"""Times that work is done again after a worker died at it; more would hide that it needs too much memory."""
REPLACED = {"max_restarts": -1, "max_task_retries": TRIES}
"""Ray's options of an actor in whose place another one comes when it dies, and does again what it was doing."""
_MEND = f"start one with `ray start --head`, give its HOST:PORT, or use --ray {LOCAL}"


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What workers there may be, each of one GPU, or of one core where the cluster has no GPU."""

    workers: int
    device: str
    """Of each worker: cuda or cpu."""

    @property
    def takes(self) -> dict[str, Any]:
        """Ray's options for what a worker takes."""
        return {"num_cpus": 0, "num_gpus": 1} if self.device == "cuda" else {"num_cpus": 1}


@contextmanager
def join(address: str) -> Iterator[Cluster]:
    """Join a cluster for the length of the block; what the block started there ends with it.

    What is printed in the block goes to stderr. A program that has called `ray.init` itself stays in its cluster,
    whatever the address.

    Args:
        address: `LOCAL`, `RUNNING` or HOST:PORT of a cluster's head.

    Raises:
        InputError: no such cluster, or an address of Ray's client, whose program is not on a node.
        MissingExtra: Ray is not installed.
    """
    _settle_environment(address)
    ray: Any = require("ray", extra="dist", purpose="--ray")
    own = not ray.is_initialized()
    if own:
        _check(address)
        _start(ray, address)
    try:
        there = ray.cluster_resources()
        gpus, cores = int(there.get("GPU", 0)), int(there.get("CPU", 0))
        if not gpus and not cores:
            raise InputError(f"--ray {address}: its nodes have neither a GPU nor a core to give; start them with some")
        # Ray prints news of its workers to stdout, where a command's result belongs.
        with redirect_stdout(sys.stderr) if own else nullcontext():
            yield Cluster(workers=gpus or cores, device="cuda" if gpus else "cpu")
    finally:
        if own:
            ray.shutdown()


def _settle_environment(address: str) -> None:
    """Set what Ray reads when it is imported, unless the user has."""
    # It reports its use to its makers unless told not to; it writes every start of a worker that may be replaced to the
    # terminal, as an error; and it hides all GPUs from a program that asks for none.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address == LOCAL and "ray" not in sys.modules and "RAY_AUTH_MODE" not in os.environ:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def path_for_workers(model: str) -> str:
    """Return a model's folder as it is named on every node, or the hub id that it is."""
    return str(Path(model).resolve()) if Path(model).exists() else model


def _check(address: str) -> None:
    """See that somebody listens at an address before Ray, which would try for minutes, looks for a cluster there."""
    if address in (LOCAL, RUNNING):
        return
    host, colon, port = address.rpartition(":")
    if "://" in address:
        raise InputError(f"--ray {address}: run the command on a node of the cluster, with --ray {RUNNING}")
    if not colon or not host or not port.isdecimal():
        raise InputError(f"--ray {address}: is no address; give {LOCAL}, {RUNNING} or HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"--ray {address}: nobody answers there ({error}); {_MEND}") from None


def _start(ray: Any, address: str) -> None:
    alone: dict[str, Any] = {}
    if address == LOCAL:
        alone = {"include_dashboard": False}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **alone)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        if address == LOCAL:
            raise RunFailure(f"--ray {LOCAL}: Ray cannot be started here: {line}") from None
        raise InputError(f"--ray {address}: no cluster can be joined there ({line}); {_MEND}") from None
