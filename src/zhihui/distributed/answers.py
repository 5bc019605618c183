"""What a worker sends back: a value, or a fault that the caller raises as its own.

Ray would carry an exception too, with the worker's traceback in its message and of a type that is Ray's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from zhihui import progress
from zhihui.errors import InputError, RunFailure


class Answer(NamedTuple):
    """The end of a worker's task."""

    status: Literal["done", "bad_input", "failed"]
    value: Any
    """Or one line about the fault."""


def attempt(task: Callable[..., Any], *arguments: Any) -> Answer:
    """Do a task in a worker, silently, whatever becomes of it."""
    progress.quiet()
    try:
        return Answer("done", task(*arguments))
    except InputError as error:
        return Answer("bad_input", str(error))
    except RunFailure as error:
        return Answer("failed", str(error))
    except Exception as error:  # whatever it is, the caller must hear of it
        return Answer("failed", f"a worker failed: {type(error).__name__}: {error}")


def value_of(answer: Answer) -> Any:
    """Return the value.

    Raises:
        InputError: the task raised it.
        RunFailure: the task raised anything else.
    """
    if answer.status == "bad_input":
        raise InputError(answer.value)
    if answer.status == "failed":
        raise RunFailure(answer.value)
    return answer.value


def lost(error: Exception) -> RunFailure:
    """Return the failure that stands for an error of Ray's own."""
    from ray.exceptions import RayTaskError

    line = " ".join(str(error).split())[:300]
    if isinstance(error, RayTaskError):  # `attempt` lets none of the work's own pass
        return RunFailure(f"a worker could not begin its work; is zhihui, in one version, on every node? ({line})")
    return RunFailure(
        f"a process of the cluster was lost, and again when its work was repeated ({type(error).__name__}: {line}); "
        "if nobody ended it, memory ran out: use smaller shards or give Ray fewer cores on a node; then run again"
    )
