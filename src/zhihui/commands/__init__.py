"""One module a verb, each with a typed `command` function; heavy imports live inside the functions."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

import typer
from typer.core import TyperCommand

VERBS = (
    "quickstart",
    "run",
    "chunk",
    "dedup",
    "synth",
    "refine",
    "mine",
    "adapt",
    "calibrate",
    "train",
    "eval",
    "encode",
    "index",
    "search",
    "serve",
    "export",
    "convert",
    "stats",
    "doctor",
)
"""In the order of `zhihui --help`. The module of `eval` is `evaluate`: Python keeps the short name for itself."""

VARIANTS = {"eval": ("compare", "slices", "curves", "ablation"), "index": ("export",)}
"""Words that as the first argument of a verb make it another command, of the module of that name."""

_MODULE = {"eval": "evaluate", "index export": "index_export"}


def register(app: typer.Typer) -> None:
    """Add every verb to the command line; a verb's help is its function's docstring."""
    for verb in VERBS:
        module = import_module(f"zhihui.commands.{_MODULE.get(verb, verb)}")
        variants = {
            word: import_module(f"zhihui.commands.{_MODULE.get(f'{verb} {word}', word)}")
            for word in VARIANTS.get(verb, ())
        }
        if not variants:
            app.command(name=verb)(module.command)
            continue
        lines = [f"zhihui {verb} {word}: {_sentence(variant)}" for word, variant in variants.items()]
        app.command(name=verb, cls=_branching(variants), epilog="\n\n".join(lines))(module.command)


def _sentence(module: ModuleType) -> str:
    return str(module.command.__doc__).strip().splitlines()[0]


def _branching(variants: Mapping[str, ModuleType]) -> type[TyperCommand]:
    """Return a kind of command that gives way to another one where its first argument names it.

    A group of commands will not do: a group takes no arguments of its own, and a verb with variants has models.
    """

    class Branching(TyperCommand):
        def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
            if args and args[0] in variants:
                word, *rest = args
                command = _alone(word, variants[word])
                return command.make_context(f"{info_name} {word}", rest, parent=parent, **extra)
            return super().make_context(info_name, args, parent=parent, **extra)

    return Branching


def _alone(word: str, module: ModuleType) -> Any:
    app = typer.Typer(add_completion=False)
    app.command(name=word)(module.command)
    return typer.main.get_command(app)
