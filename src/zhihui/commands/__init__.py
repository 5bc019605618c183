"""One module a verb, each with a typed `command` function; heavy imports live inside the functions."""

from __future__ import annotations

from importlib import import_module

import typer

VERBS = (
    "quickstart",
    "run",
    "chunk",
    "dedup",
    "synth",
    "refine",
    "mine",
    "adapt",
    "train",
    "eval",
    "encode",
    "export",
    "convert",
    "stats",
    "doctor",
)
"""In the order of `zhihui --help`. The module of `eval` is `evaluate`: Python keeps the short name for itself."""

_MODULE = {"eval": "evaluate"}


def register(app: typer.Typer) -> None:
    """Add every verb to the command line; a verb's help is its function's docstring."""
    for verb in VERBS:
        module = import_module(f"zhihui.commands.{_MODULE.get(verb, verb)}")
        app.command(name=verb)(module.command)
