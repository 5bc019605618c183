"""What systems are measured on: sets in the BEIR layout, and the tasks of C-MTEB from a mirror or the hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zhihui.errors import InputError
from zhihui.evaluation.cmteb import HubSet, Task
from zhihui.evaluation.cmteb_mirror import find_files, read_mirror
from zhihui.records import RetrievalSet, is_beir, read_beir
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
