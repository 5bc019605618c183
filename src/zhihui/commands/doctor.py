"""`zhihui doctor`: what a bug report needs, and whether the installation works."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_BASE = "base"
_SUMS = ("all", "dev")  # extras that only join others, or serve developers
_SETTINGS = ("HF_HOME", "HF_HUB_OFFLINE", "HF_ENDPOINT", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
_MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")
_SIZE = 64  # rows and columns of the matrices multiplied


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; no progress bar.")] = False,
) -> None:
    """Show versions, extras, hardware and hub settings, and check that the installation works."""
    from zhihui import progress
    from zhihui.runs import to_json

    progress.quiet(as_json)
    report = examine()
    typer.echo(to_json(report, indent=2) if as_json else "\n".join(_lines(report)))
    if not all(check["ok"] for check in report["checks"]):
        raise typer.Exit(1)


def examine() -> dict[str, Any]:
    """Return the report.

    Returns:
        JSON-like: `versions`, `extras` (by name: `installed`, `missing` requirements, `install` command),
        `machine` (sizes in bytes), `gpus`, `hub_cache`, `settings` (environment variables, None where not
        set), `checks` (`name`, `ok`, `detail`).
    """
    from zhihui import runs
    from zhihui.progress import track

    groups = _requirements()
    extras = {name: _extra(name, wanted) for name, wanted in groups.items() if name != _BASE}
    present = [name for name in groups if name == _BASE or extras[name]["installed"]]
    tests: list[tuple[str, Callable[[], str]]] = [
        (f"import {name}", partial(_import, groups[name])) for name in present
    ]
    tests += [
        ("multiply in fp32", partial(_multiply, "float32")),
        ("multiply in bf16", partial(_multiply, "bfloat16")),
    ]
    checks = [_check(name, test) for name, test in track(tests, total=len(tests), label="Checking")]
    return {
        "versions": runs.versions(),
        "extras": extras,
        "machine": _machine(),
        "gpus": _gpus(),
        "hub_cache": _hub_cache(),
        "settings": {name: os.environ.get(name) for name in _SETTINGS},
        "checks": checks,
    }


# --------------------------------------------------------------------------- packages


def _requirements() -> dict[str, list[Requirement]]:
    """Return what the base install and each extra ask for, as the installed package declares it."""
    from importlib import metadata

    from packaging.requirements import Requirement

    declared = metadata.metadata("zhihui").get_all("Provides-Extra") or []
    groups: dict[str, list[Requirement]] = {name: [] for name in (_BASE, *declared) if name not in _SUMS}
    for requirement in map(Requirement, metadata.requires("zhihui") or []):
        marker = requirement.marker
        if marker is None or marker.evaluate({"extra": ""}):
            groups[_BASE].append(requirement)
            continue
        for name in groups:
            if marker.evaluate({"extra": name}):
                groups[name].append(requirement)
    return groups


def _extra(name: str, wanted: list[Requirement]) -> dict[str, Any]:
    missing = [fault for requirement in wanted if (fault := _missing(requirement)) is not None]
    return {"installed": not missing, "missing": missing, "install": f"pip install 'zhihui[{name}]'"}


def _missing(requirement: Requirement) -> str | None:
    """Return what is wanted and what is there instead, None when the requirement is met."""
    from importlib import metadata

    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement.name}{requirement.specifier}"
    if requirement.specifier.contains(version, prereleases=True):
        return None
    return f"{requirement.name}{requirement.specifier} (installed: {version})"


# --------------------------------------------------------------------------- machine


def _machine() -> dict[str, Any]:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):  # no such file outside containers; "max" where there is no limit
        memory = min(memory, int(_MEMORY_LIMIT.read_text()))
    return {
        "system": platform.platform(),
        "cpu_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": memory,
        "disk_free": shutil.disk_usage(Path.cwd()).free,
    }


def _gpus() -> list[dict[str, Any]]:
    try:
        import torch
    except Exception:  # a torch that cannot be imported is reported by its check
        return []
    found = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return [{"name": each.name, "memory": each.total_memory} for each in found]


def _hub_cache() -> str:
    from huggingface_hub import constants

    return constants.HF_HUB_CACHE


# --------------------------------------------------------------------------- checks


def _check(name: str, test: Callable[[], str]) -> dict[str, Any]:
    try:
        return {"name": name, "ok": True, "detail": test()}
    except Exception as error:  # whatever is broken, the report goes on
        reason = " ".join(str(error).split())
        return {"name": name, "ok": False, "detail": f"{type(error).__name__}: {reason}"}


def _import(wanted: list[Requirement]) -> str:
    from importlib import import_module

    if missing := [fault for requirement in wanted if (fault := _missing(requirement)) is not None]:
        raise ImportError(f"missing: {', '.join(missing)}; pip install zhihui")
    modules = [_module(requirement.name) for requirement in wanted]
    for module in modules:
        import_module(module)
    return ", ".join(modules)


def _module(package: str) -> str:
    """Return the name a package is imported by, which for PyYAML or pytrec-eval-terrier is not its own."""
    from importlib import metadata

    from packaging.utils import canonicalize_name

    wanted = canonicalize_name(package)
    modules = [
        module
        for module, packages in metadata.packages_distributions().items()
        if not module.startswith("_") and wanted in map(canonicalize_name, packages)
    ]
    return min(modules, key=lambda module: (canonicalize_name(module) != wanted, module), default=package)


def _multiply(dtype: str) -> str:
    """Multiply small matrices on each device and compare with a product in float64."""
    import torch

    draw = torch.Generator().manual_seed(0)
    left, right = (torch.randn(_SIZE, _SIZE, generator=draw).to(getattr(torch, dtype)) for _ in range(2))
    expected = left.double() @ right.double()
    # A few roundings of the largest number: sums in another order stay below, a wrong product is far above.
    tolerance = 8 * torch.finfo(left.dtype).eps * expected.abs().max().item()
    devices = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    for device in devices:
        error = ((left.to(device) @ right.to(device)).cpu().double() - expected).abs().max().item()
        if not error <= tolerance:
            raise ArithmeticError(f"on {device} a product is off by {error:.2g}, more than {tolerance:.2g}")
    return ", ".join(devices)


# --------------------------------------------------------------------------- text


def _lines(report: dict[str, Any]) -> Iterator[str]:
    for name, version in report["versions"].items():
        yield f"{name} {version}"
    for name, extra in report["extras"].items():
        absent = f"not installed ({', '.join(extra['missing'])}): {extra['install']}"
        yield f"extra {name}: {'installed' if extra['installed'] else absent}"
    machine = report["machine"]
    yield f"system: {machine['system']}"
    yield f"CPU cores: {machine['cpu_cores']}, memory: {_size(machine['memory'])}"
    for number, gpu in enumerate(report["gpus"]):
        yield f"GPU {number}: {gpu['name']}, {_size(gpu['memory'])}"
    if not report["gpus"]:
        yield "GPU: none that torch can use"
    yield f"disk free here: {_size(machine['disk_free'])}"
    yield f"hub cache: {report['hub_cache']}"
    for name, value in report["settings"].items():
        yield f"{name}: {'not set' if value is None else value}"
    for check in report["checks"]:
        yield f"{'OK' if check['ok'] else 'failed'}: {check['name']} ({check['detail']})"


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
