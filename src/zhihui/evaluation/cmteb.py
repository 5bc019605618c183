"""The eight retrieval tasks of C-MTEB, as data: where each lies, on which revision, and how its queries are put."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from zhihui.config import did_you_mean, from_mapping, read_yaml
from zhihui.errors import InputError

ALL = "all"
"""Stands for the eight tasks where a task is named."""


@dataclass(frozen=True, kw_only=True)
class HubSet:
    """A data set on the hub."""

    path: str
    """Organisation and name."""
    revision: str
    """Commit that is read."""
    qrels_revision: str | None = None
    """Commit of the data set `path`-qrels; None where the judgements are in `path` itself."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A retrieval task of C-MTEB (Xiao et al. 2024)."""

    name: str
    source: str
    """What it was made from."""
    instruction: str
    """The task in words, for the queries of models that take an instruction (E5-mistral's list)."""
    ignore_identical_ids: bool
    """Whether a passage that has the query's id is dropped from what is found, as mteb does in some tasks."""
    queries: int
    """Judged queries."""
    passages: int
    hub: HubSet
    """The data set as mteb 2 reads it: one folder with corpus, queries and judgements."""
    older: HubSet
    """The data set that scores published until 2025 were measured on: judgements in a data set of their own."""
    split: str = "dev"
    """The judgements to measure on."""

    @property
    def data_sets(self) -> tuple[HubSet, HubSet]:
        """Where it lies, the newer data set first."""
        return self.hub, self.older


@cache
def tasks() -> dict[str, Task]:
    """Return the eight tasks by name, in the order of the published tables."""
    path = Path(__file__).with_name("cmteb.yaml")
    return {
        name: from_mapping(Task, {"name": name, **given}, where=path.name) for name, given in read_yaml(path).items()
    }


def find_tasks(names: Sequence[str]) -> list[Task]:
    """Return the tasks of these names, each once; "all" stands for the eight.

    Raises:
        InputError: an unknown task; the nearest is named.
    """
    known = tasks()
    found: dict[str, Task] = {}
    for name in names:
        if name != ALL and name not in known:
            raise InputError(f"task {name!r} is unknown; {did_you_mean(name, [*known, ALL])}")
        chosen = known if name == ALL else {name: known[name]}
        found |= {key: task for key, task in chosen.items() if key not in found}
    return list(found.values())
