"""C-MTEB from a local mirror: data sets of the hub as folders, in whichever of the hub's two layouts they came.

    MIRROR/T2Retrieval/data/corpus-00000-of-00001.parquet, data/queries-...     columns id, text
    MIRROR/T2Retrieval-qrels/data/dev-00000-of-00001.parquet                    columns qid, pid, score

    MIRROR/T2Retrieval/corpus/dev-00000-of-00001.parquet, queries/dev-...       columns _id, title, text
    MIRROR/T2Retrieval/data/dev-... (or qrels/, default/)                       columns query-id, corpus-id, score

Instead of Parquet the files may be .jsonl or .jsonl.gz, instead of folders corpus.jsonl and queries.jsonl. The folders
may also lie under their organisation (MIRROR/mteb/T2Retrieval), or be a download cache of the hub's client.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zhihui.errors import InputError
from zhihui.evaluation.cmteb import HubSet, Task
from zhihui.records import Passage, RetrievalSet
from zhihui.records.rejects import BadRow
from zhihui.records.rows import SUFFIXES, read_rows

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})(-[0-9a-f]+)?$")
_IDS = ("_id", "id")
_JUDGEMENT = (("query-id", "corpus-id"), ("qid", "pid"))
_QRELS_FOLDERS = ("data", "qrels", "default")
_QRELS = "-qrels"


@dataclass(frozen=True, kw_only=True)
class MirrorFiles:
    """The files of one task in a mirror."""

    corpus: list[Path]
    queries: list[Path]
    qrels: list[Path]
    data_set: HubSet
    """Which of the task's data sets the layout is of."""

    @property
    def all(self) -> list[Path]:
        """Every file, in the order read."""
        return [*self.corpus, *self.queries, *self.qrels]


def find_files(mirror: Path, task: Task) -> MirrorFiles:
    """Find the files of a task; nothing is read.

    Raises:
        InputError: no such mirror, the task is not in it, or a file is missing.
    """
    if not mirror.is_dir():
        raise InputError(f"{mirror}: no such folder; a mirror holds the data sets of the hub, such as {task.name}/")
    folder = _folder(mirror, task, "")
    if _named(folder / "data", "corpus"):
        qrels = _folder(mirror, task, _QRELS)
        return MirrorFiles(
            corpus=_named(folder / "data", "corpus"),
            queries=_needed(_named(folder / "data", "queries"), folder / "data" / "queries-*.parquet"),
            qrels=_needed(_named(qrels / "data", task.split), qrels / "data" / f"{task.split}-*.parquet"),
            data_set=task.older,
        )
    judgements = [files for name in _QRELS_FOLDERS if (files := _named(folder / name, task.split))]
    return MirrorFiles(
        corpus=_part(folder, ("corpus",), task.split),
        queries=_part(folder, ("queries", "query"), task.split),
        qrels=_needed(judgements[0] if judgements else [], folder / "qrels" / f"{task.split}.jsonl"),
        data_set=task.hub,
    )


def read_mirror(files: MirrorFiles, task: Task) -> RetrievalSet:
    """Read a task as mteb reads it: what it has judged, whatever its texts are.

    Raises:
        InputError: an empty corpus, a row without id or text, an id given twice, or a judgement of an unknown
            query or passage ("file:row: reason; mend").
    """
    corpus: dict[str, Passage] = {}
    for where, row in _rows(files.corpus, "passages"):
        _add(corpus, _id(row, where), Passage(text=_text(row, where), title=str(row.get("title") or "")), where)
    queries: dict[str, str] = {}
    for where, row in _rows(files.queries, "queries"):
        _add(queries, _id(row, where), _text(row, where), where)
    judged: dict[str, dict[str, int]] = {}
    for where, row in _rows(files.qrels, "judgements"):
        query_id, passage_id, grade = _judgement(row, where)
        for key, known, what, kept in (
            (query_id, queries, "query", files.queries[0]),
            (passage_id, corpus, "passage", files.corpus[0]),
        ):
            if key not in known:
                raise InputError(
                    f"{where}: {what} {key!r} is not in {kept.name}; fetch both data sets of {task.name} again"
                )
        judged.setdefault(query_id, {})[passage_id] = grade
    return RetrievalSet(name=task.name, corpus=corpus, queries=queries, qrels={task.split: judged})


# --------------------------------------------------------------------------- files


def _folder(mirror: Path, task: Task, suffix: str) -> Path:
    """Return the folder of a task's data set, or of its judgements (`suffix`)."""
    tried = []
    for data_set in task.data_sets:
        owner, _, name = f"{data_set.path}{suffix}".partition("/")
        cached = mirror / f"datasets--{owner}--{name}" / "snapshots"
        revision = data_set.qrels_revision if suffix else data_set.revision
        tried += [mirror / owner / name, *([cached / revision] if revision else []), mirror / name]
    found = next((folder for folder in tried if folder.is_dir()), None)
    if found is None:
        wanted = mirror / f"{task.name}{suffix}"
        raise InputError(f"{wanted}: no such folder; fetch the data set {task.older.path}{suffix} into it")
    return found


def _part(folder: Path, names: Sequence[str], split: str) -> list[Path]:
    """Return the files of a config: those of the split, or of the only split there is."""
    for name in names:
        single = _named(folder, name)
        files = single or _named(folder / name, split)
        if not files and (folder / name).is_dir():
            stems = sorted({_stem(path) for path in (folder / name).iterdir() if path.name.endswith(SUFFIXES)})
            files = _named(folder / name, stems[0]) if len(stems) == 1 else []
        if files:
            return files
    return _needed([], folder / names[0] / f"{split}-*.parquet")


def _named(folder: Path, stem: str) -> list[Path]:
    """Return the shards of one table in order, all of them.

    Raises:
        InputError: a shard is missing, or there are two versions of one.
    """
    if not folder.is_dir():
        return []
    found = sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIXES) and _stem(path) == stem)
    shards = [_SHARD.search(_bare(path)) for path in found]
    if len(found) == 1 and shards[0] is None:
        return found
    numbers = [int(shard[1]) for shard in shards if shard is not None]
    count = max((int(shard[2]) for shard in shards if shard is not None), default=0)
    if len(numbers) < len(found) or len(set(numbers)) < len(numbers):
        raise InputError(f"{folder}: {found[0].name} and {found[1].name} are two versions of one table; keep one")
    missing = sorted({*range(count)} - {*numbers})
    if missing:
        name = f"{stem}-{missing[0]:05d}-of-{count:05d}"
        raise InputError(f"{folder / name}: one of {count} shards is missing; fetch the data set again")
    return found


def _bare(path: Path) -> str:
    return next(path.name.removesuffix(suffix) for suffix in SUFFIXES if path.name.endswith(suffix))


def _stem(path: Path) -> str:
    return _SHARD.sub("", _bare(path))


def _needed(files: list[Path], wanted: Path) -> list[Path]:
    if not files:
        raise InputError(f"{wanted}: no such file; fetch the data set again")
    return files


# --------------------------------------------------------------------------- rows


def _rows(files: Sequence[Path], what: str) -> Iterator[tuple[str, dict[str, Any]]]:
    count = 0
    for file in files:
        try:
            for row in read_rows(file):
                count += 1
                yield row.where, row.data
        except BadRow as error:
            if error.code != "empty_file":  # a shard may be empty, a table not
                raise
    if not count:
        raise InputError(f"{files[0]}: holds no {what}; fetch the data set again")


def _add(known: dict[str, Any], key: str, value: Any, where: str) -> None:
    if key in known:
        raise InputError(f"{where}: id {key!r} is given twice; fetch the data set again")
    known[key] = value


def _id(row: dict[str, Any], where: str) -> str:
    key = next((row[name] for name in _IDS if name in row), None)
    if key is None or str(key) == "":
        raise InputError(f"{where}: no id (one of {', '.join(_IDS)}); fetch the data set again")
    return str(key)


def _text(row: dict[str, Any], where: str) -> str:
    text = row.get("text")
    if not isinstance(text, str):
        raise InputError(f"{where}: no text; fetch the data set again")
    return text


def _judgement(row: dict[str, Any], where: str) -> tuple[str, str, int]:
    for query, passage in _JUDGEMENT:
        if query in row and passage in row:
            try:
                grade = float(row["score"])
            except (KeyError, TypeError, ValueError):
                break
            return str(row[query]), str(row[passage]), int(grade)
    raise InputError(f"{where}: not a judgement; it has query-id, corpus-id and score, or qid, pid and score")
