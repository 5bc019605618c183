"""Stage: what every stage of a recipe is, and the types of the settings that name a stage's inputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args, get_type_hints

from zhihui.runs import Manifest

T = TypeVar("T")
Kind = Literal["passages", "examples", "set", "sets", "model", "vectors", "index", "results"]
"""What a stage gives: a file of passages, training examples, a retrieval set in the BEIR layout, a folder of such, a
model, vectors, an index to search, measurements."""


@dataclass(frozen=True)
class Takes:
    """Marks a setting as an input: a path or model from outside, or `${...}` of a stage that gives such a thing."""

    kinds: tuple[Kind, ...]


Examples = Annotated[Path, Takes(("examples", "set"))]
"""Examples, or a retrieval set whose judged queries become examples."""
SetFolder = Annotated[Path, Takes(("set",))]
Sets = Annotated[Path, Takes(("set", "sets"))]
"""A retrieval set, or a folder of such."""
Passages = Annotated[Path, Takes(("set", "passages"))]
"""A retrieval set's corpus, or a file of rows with a text."""
Texts = Annotated[Path, Takes(("examples", "passages"))]
"""A file of rows with a text."""
Model = Annotated[str, Takes(("model",))]
"""A folder or hub id."""
Results = Annotated[Path, Takes(("results",))]
"""Measurements."""
Outside = Annotated[Path, Takes(())]
"""A file or folder that no stage gives."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a stage runs with that its result does not depend on."""

    device: str | None = None
    """Where models are computed; None for a GPU if any."""
    overwrite: bool = False
    """Whether a finished stage of other settings is replaced."""


class Stage(ABC):
    """A stage's settings: a frozen keyword-only dataclass made of the config it hands on and of its inputs."""

    gives: ClassVar[tuple[Kind, str]]
    """What others may take from it, and the file or folder within its folder that is it ("." for the whole)."""
    needs: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Modules that must be installed, each with the extra that brings it."""
    together: ClassVar[bool] = False
    """Whether all processes of torchrun do it; the others leave a stage to the first."""

    def foresee(self) -> None:  # noqa: B027
        """Look at settings, processes and what is there, before any stage runs: what stages give may not be there yet.

        Raises:
            InputError: the stage could not be run.
        """

    def check(self) -> None:  # noqa: B027  # most stages have nothing to look at
        """Look at the inputs once they are all there, before anything starts: quick, and no model is loaded.

        Raises:
            InputError: they cannot be used.
        """

    @abstractmethod
    def run(self, out: Path, around: Surroundings) -> Manifest:
        """Do the work as a stage in the folder `out`."""


def part_of(owner: type[T], whole: Any) -> T:
    """Return the config from which a stage's settings are derived."""
    return owner(**{each.name: getattr(whole, each.name) for each in fields(owner)})  # type: ignore[arg-type]


def inputs_of(kind: type[Stage]) -> dict[str, Takes]:
    """Return which settings of a stage are inputs."""
    hints = get_type_hints(kind, include_extras=True)
    found = {each.name: _takes(hints[each.name]) for each in fields(kind)}  # type: ignore[arg-type]
    return {name: takes for name, takes in found.items() if takes is not None}


def _takes(hint: Any) -> Takes | None:
    for part in (*getattr(hint, "__metadata__", ()), *get_args(hint)):
        found = part if isinstance(part, Takes) else _takes(part)
        if found is not None:
            return found
    return None


def texts_in(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yield each text or path in a setting with its place: ("data", ...), ("models.after", ...), ("sets.0", ...)."""
    if isinstance(value, str | Path):
        yield place, str(value)
    elif isinstance(value, dict | list | tuple):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from texts_in(each, f"{place}.{key}" if place else str(key))


def with_texts(value: Any, place: str, new: Mapping[str, str]) -> Any:
    """Return a setting with other texts and paths at their places, as `texts_in` names them."""
    if isinstance(value, str | Path):
        return type(value)(new[place])
    if isinstance(value, dict):
        return {key: with_texts(each, f"{place}.{key}", new) for key, each in value.items()}
    if isinstance(value, tuple):
        return tuple(with_texts(each, f"{place}.{number}", new) for number, each in enumerate(value))
    return value
