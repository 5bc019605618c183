"""The stages there are: one module each with a class `Stage`, imported when a recipe names it.

To add one: a module here, and its name below.
"""

from __future__ import annotations

from importlib import import_module

from zhihui.recipe.stage import Stage

STAGES = (
    "chunk",
    "convert",
    "gather",
    "sample",
    "build",
    "export",
    "dedup",
    "stats",
    "synth.query",
    "synth.label",
    "synth.triplet",
    "synth.rewrite",
    "synth.expand",
    "refine",
    "mine",
    "adapt",
    "calibrate",
    "train",
    "evaluate",
    "compare",
    "slices",
    "curves",
    "ablate",
    "encode",
    "index",
)


def stage_named(name: str) -> type[Stage]:
    """Return a stage's class; `name` is one of `STAGES`."""
    found: type[Stage] = import_module(f"{__name__}.{name}").Stage
    return found
