"""What systems are measured on: sets in the BEIR layout, and the tasks of C-MTEB from a mirror or the hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zhihui.errors import InputError
from zhihui.evaluation.cmteb import HubSet, Task, find_tasks
from zhihui.evaluation.cmteb_mirror import find_files, read_mirror
from zhihui.records import RetrievalSet, is_beir, read_beir
from zhihui.records.beir import check_split
from zhihui.records.shipped import set_name
from zhihui.runs import fingerprint, fingerprint_path


@dataclass(frozen=True, kw_only=True)
class MeasuredSet:
    """One split of one set, read and checked."""

    data: RetrievalSet
    split: str
    """The judgements to measure on."""
    fingerprint: str
    """Changes whenever the content may."""
    task: Task | None = None
    """The task of C-MTEB that it is; None for a set of one's own."""
    data_set: HubSet | None = None
    """Of a task: the data set on the hub that it was read from, in full; None for a part of it."""

    @property
    def name(self) -> str:
        """The set's."""
        return self.data.name

    @property
    def instruction(self) -> str | None:
        """The task in words for the queries of models that take one; None for the models' own."""
        return None if self.task is None else self.task.instruction

    @property
    def ignore_identical_ids(self) -> bool:
        """Whether a passage that has the query's id does not count as found."""
        return self.task is not None and self.task.ignore_identical_ids


def set_folders(given: Sequence[Path]) -> dict[str, Path]:
    """Return BEIR folders by the set's name; a folder of BEIR folders stands for those inside.

    Raises:
        InputError: no such folder, none in it, or two sets of one name.
    """
    found: dict[str, Path] = {}
    for path in given:
        if not path.is_dir():
            raise InputError(f"{path}: no such folder")
        inside = [path] if is_beir(path) else sorted(child for child in path.iterdir() if is_beir(child))
        if not inside:
            raise InputError(f"{path}: neither a BEIR folder nor a folder of such; a set has corpus.jsonl in it")
        for folder in inside:
            name = set_name(folder)
            if name in found and found[name].resolve() != folder.resolve():
                raise InputError(f"{folder} and {found[name]}: two sets of one name; rename a folder")
            found[name] = folder
    return found


def beir_sets(folders: Mapping[str, Path], split: str) -> list[MeasuredSet]:
    """Read BEIR folders by the set's name.

    Raises:
        InputError: unusable data, or a set without the split.
    """
    found = []
    for folder in folders.values():
        data = read_beir(folder)
        data.judged(split)
        found.append(MeasuredSet(data=data, split=split, fingerprint=fingerprint_path(folder)))
    return found


def task_sets(tasks: Sequence[Task], mirror: Path | None) -> list[MeasuredSet]:
    """Read tasks of C-MTEB; no text of any is read before the files of all are found.

    Args:
        tasks: the tasks.
        mirror: folder of data sets, see `zhihui.evaluation.cmteb_mirror`; None fetches them through mteb.

    Raises:
        InputError: a file is missing or unusable, or the hub cannot be reached.
        MissingExtra: mteb, or for Parquet pyarrow, is not installed.
    """
    if mirror is None:
        from zhihui.evaluation.cmteb_official import fetch

        return [_of_task(task, fetch(task), task.hub, "hub") for task in tasks]
    found = [(task, find_files(mirror, task)) for task in tasks]
    return [
        _of_task(task, read_mirror(files, task), files.data_set, fingerprint([fingerprint_path(f) for f in files.all]))
        for task, files in found
    ]


def one_task(data: Path | None, task: str | None, mirror: Path | None) -> Task | None:
    """Return the task of C-MTEB that is named; None where `data` names a set of one's own.

    Raises:
        InputError: both are named or neither, an unknown task, several, or a mirror without a task.
    """
    if (data is None) == (task is None):
        given = "none is" if data is None else f"both {data} and {task} are"
        raise InputError(f"one set is measured, and {given} named; give data, a BEIR folder, or a task of C-MTEB")
    if task is None:
        if mirror is not None:
            raise InputError(f"data-dir {mirror} is a mirror of C-MTEB's data sets; name a task in place of data")
        return None
    found = find_tasks([task])
    if len(found) > 1:
        raise InputError(f"one set is measured, and {task} are {len(found)}; name one, such as {found[0].name}")
    return found[0]


def check_one_set(data: Path | None, task: str | None, mirror: Path | None, *, split: str) -> None:
    """See by the names of files that the set named is there; nothing is read or fetched.

    Raises:
        InputError: as `one_task`, no such split, or the task is not in the mirror.
    """
    named = one_task(data, task, mirror)
    if data is not None:
        check_split(data, split)
    elif named is not None and mirror is not None:
        find_files(mirror, named)


def one_set(data: Path | None, task: str | None, mirror: Path | None, *, split: str) -> MeasuredSet:
    """Read one set: a BEIR folder, or a task of C-MTEB from a mirror or the hub.

    Args:
        data: BEIR folder.
        task: a task's name, in place of `data`.
        mirror: folder of the tasks' data sets; None fetches them.
        split: judgements of a BEIR folder; a task has its own.

    Raises:
        InputError: as `check_one_set` and `task_sets`, or unusable data.
        MissingExtra: as `task_sets`.
    """
    check_one_set(data, task, mirror, split=split)
    named = one_task(data, task, mirror)
    (found,) = beir_sets({data.name: data}, split) if data is not None else task_sets([named] if named else [], mirror)
    return found


def _of_task(task: Task, data: RetrievalSet, data_set: HubSet, content: str) -> MeasuredSet:
    counts = len(data.judged(task.split)), len(data.corpus)
    return MeasuredSet(
        data=data,
        split=task.split,
        fingerprint=fingerprint([task, data_set, content]),
        task=task,
        # A part of a task must not pass for the task where its scores are published.
        data_set=data_set if counts == (task.queries, task.passages) else None,
    )
