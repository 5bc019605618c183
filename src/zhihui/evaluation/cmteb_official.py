"""C-MTEB's tasks as mteb's registry has them: fetched from the hub, and recorded in result files as its own."""

from __future__ import annotations

import logging
import warnings
from typing import Any

from zhihui.errors import InputError
from zhihui.evaluation.cmteb import HubSet, Task
from zhihui.evaluation.mteb_tasks import SUBSET, load_mteb, set_revision
from zhihui.records import Passage, RetrievalSet


def record(task: Task, data: RetrievalSet, data_set: HubSet | None) -> Any:
    """Return mteb's own record of a task, with what was really read.

    Args:
        task: the task.
        data: what was read.
        data_set: the data set it was read from in full; None stamps results with a fingerprint instead of a revision,
            so that those of a part of a task do not pass for the task's.

    Raises:
        MissingExtra: mteb is not installed.
    """
    path = task.hub.path if data_set is None else data_set.path
    revision = set_revision(data, task.split) if data_set is None else data_set.revision
    changes = {"dataset": {"path": path, "revision": revision}, "superseded_by": None}
    return _registered(task).metadata.model_copy(update=changes)


def fetch(task: Task) -> RetrievalSet:
    """Fetch a task from the hub the way mteb does.

    Raises:
        InputError: the hub cannot be reached.
        MissingExtra: mteb is not installed.
    """
    official = _registered(task)
    try:
        official.load_data()
    except Exception as error:  # the network fails in many ways; to the user they are one
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        mend = "go online, or pass --data-dir with a mirror of the data sets"
        raise InputError(f"{task.name}: cannot be fetched from the hub ({reason}); {mend}") from None
    found = official.dataset[SUBSET][task.split]
    corpus, queries = found["corpus"], found["queries"]
    titles = corpus["title"] if "title" in corpus.column_names else [""] * len(corpus)
    return RetrievalSet(
        name=task.name,
        corpus={
            key: Passage(text=text, title=title or "")
            for key, text, title in zip(corpus["id"], corpus["text"], titles, strict=True)
        },
        queries=dict(zip(queries["id"], queries["text"], strict=True)),
        # In the order of the queries: mteb groups the judgements anew in each run.
        qrels={task.split: {key: dict(found["relevant_docs"][key]) for key in queries["id"]}},
    )


def _registered(task: Task) -> Any:
    """Return mteb's own task, without its advice to take another one: the tables are of this one."""
    mteb = load_mteb()
    log = logging.getLogger("mteb")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return mteb.get_task(task.name)
    finally:
        log.setLevel(level)
