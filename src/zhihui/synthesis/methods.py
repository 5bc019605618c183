"""The methods there are: what each is set up with, starts from and asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from zhihui.records import RejectLog
from zhihui.synthesis.expand import EXPAND, ExpandConfig, expand
from zhihui.synthesis.grading import GRADE
from zhihui.synthesis.label import LabelConfig, distil_labels
from zhihui.synthesis.prompts import Book, Prompt
from zhihui.synthesis.query import QUERY, QueryConfig, distil_queries
from zhihui.synthesis.refine import RefineConfig, refine
from zhihui.synthesis.rewrite import REWRITE, RewriteConfig, rewrite
from zhihui.synthesis.sources import read_passages, read_training
from zhihui.synthesis.tools import Made, Tools
from zhihui.synthesis.triplet import TASKS, TRIPLET, TripletConfig, distil_triplets

Config = QueryConfig | LabelConfig | TripletConfig | RefineConfig | RewriteConfig | ExpandConfig
StartsFrom = Literal["passages", "examples", "nothing"]


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to make or better examples with teachers."""

    stage: str
    """What the stage is called in manifests and recipes."""
    config: type[Config]
    starts_from: StartsFrom
    prompts: tuple[Prompt[Any], ...]
    make: Callable[..., Made]

    def run(self, data: Path | None, split: str, config: Config, tools: Tools, bad: RejectLog | None) -> Made:
        """Read the data, if any, and make examples of it; unusable rows go to `bad`, or stop it."""
        if self.starts_from == "nothing":
            return self.make(config, tools)
        assert data is not None, "checked where the stage begins"
        given: Sequence[Any]
        if self.starts_from == "passages":
            given = read_passages(data, rejects=bad)
        else:
            given = read_training(data, split, rejects=bad)
        return self.make(given, config, tools)


METHODS: dict[str, Method] = {
    "query": Method(
        stage="synth.query",
        config=QueryConfig,
        starts_from="passages",
        prompts=(QUERY, GRADE),
        make=distil_queries,
    ),
    "label": Method(
        stage="synth.label", config=LabelConfig, starts_from="examples", prompts=(GRADE,), make=distil_labels
    ),
    "triplet": Method(
        stage="synth.triplet",
        config=TripletConfig,
        starts_from="nothing",
        prompts=(TASKS, TRIPLET, GRADE),
        make=distil_triplets,
    ),
    "rewrite": Method(
        stage="synth.rewrite",
        config=RewriteConfig,
        starts_from="examples",
        prompts=(REWRITE, GRADE),
        make=rewrite,
    ),
    "expand": Method(stage="synth.expand", config=ExpandConfig, starts_from="passages", prompts=(EXPAND,), make=expand),
    "refine": Method(stage="refine", config=RefineConfig, starts_from="examples", prompts=(GRADE,), make=refine),
}
PROMPTS: tuple[Prompt[Any], ...] = (QUERY, GRADE, TASKS, TRIPLET, REWRITE, EXPAND)


def method_of(config: Config) -> Method:
    """Return the method that a config sets up."""
    return METHODS[config.method]


def read_book(folder: Path | None) -> Book:
    """Return the templates of all methods, a user's own ones in place of those shipped.

    Raises:
        InputError: no such folder, one without templates, or a template that cannot be used.
    """
    return Book(PROMPTS, folder)
