"""Retrieval sets in the BEIR layout: corpus.jsonl, queries.jsonl, qrels/<split>.tsv."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from zhihui.errors import InputError
from zhihui.records.rejects import BadRow, RejectLog
from zhihui.records.retrieval import Passage, RetrievalSet
from zhihui.records.rows import Row, read_rows, write_rows
from zhihui.records.shipped import set_name
from zhihui.runs import atomic_open

T = TypeVar("T")
_HEADER = ("query-id", "corpus-id", "score")


def is_beir(path: Path) -> bool:
    """Whether a path is a folder in the BEIR layout."""
    return path.is_dir() and any(_variants(path, "corpus"))


def check_split(folder: Path, split: str) -> None:
    """See by the names of its files that a BEIR folder has judgements of a split.

    Raises:
        InputError: not a BEIR folder, or no such split; the message names those there are.
    """
    if not is_beir(folder):
        raise InputError(f"{folder}: not a BEIR folder; it needs corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv")
    found = sorted(file.stem for file in (folder / "qrels").glob("*.tsv"))
    if split not in found:
        raise InputError(f"{folder}: no split {split!r}; there are: {', '.join(found) or 'none'}")


def read_beir(folder: Path, *, rejects: RejectLog | None = None) -> RetrievalSet:
    """Read a folder in the BEIR layout; the set is named after the folder.

    Args:
        folder: holds corpus.jsonl and queries.jsonl (or .jsonl.gz) and qrels/*.tsv with a header line.
        rejects: where unusable rows go; None stops at the first one.

    Raises:
        InputError: a file is missing, a row unusable, an id given twice or unknown, a grade no integer, a
            judged query without a relevant passage, or nothing usable is left.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    corpus = _by_id(_table(folder, "corpus"), _passage, rejects)
    queries = _by_id(_table(folder, "queries"), _query, rejects)
    files = sorted((folder / "qrels").glob("*.tsv"))
    if not files:
        raise InputError(f"{folder}: no qrels/*.tsv; a set needs judgements, e.g. qrels/test.tsv")
    for what, found in (("passages", corpus), ("queries", queries)):
        if not found:
            raise InputError(f"{folder}: no usable {what}")
    qrels = {file.stem: _read_qrels(file, corpus, queries, rejects) for file in files}
    return RetrievalSet(name=set_name(folder), corpus=corpus, queries=queries, qrels=qrels)


def write_beir(folder: Path, data: RetrievalSet) -> None:
    """Write a set in the BEIR layout, each file atomically, the judgements last.

    Raises:
        InputError: an id holds white space, a split is no file name, or the folder has judgements of other
            splits, which would become part of the set.
    """
    for split in data.qrels:
        if not split or Path(split).name != split:
            raise InputError(f"split {split!r} cannot be a file name; rename it")
    strangers = sorted(file.stem for file in (folder / "qrels").glob("*.tsv") if file.stem not in data.qrels)
    if strangers:
        raise InputError(f"{folder}: has judgements of other splits ({', '.join(strangers)}); choose another folder")
    for key in (*data.corpus, *data.queries):
        if not key or key.split() != [key]:
            raise InputError(f"id {key!r} cannot be written to qrels; ids are words without spaces")
    write_rows(
        folder / "corpus.jsonl",
        ({"_id": key, "title": passage.title, "text": passage.text} for key, passage in data.corpus.items()),
    )
    write_rows(folder / "queries.jsonl", ({"_id": key, "text": text} for key, text in data.queries.items()))
    for split, judged in data.qrels.items():
        with atomic_open(folder / "qrels" / f"{split}.tsv") as stream:
            stream.write("\t".join(_HEADER) + "\n")
            for query_id, grades in judged.items():
                stream.writelines(f"{query_id}\t{passage_id}\t{grade}\n" for passage_id, grade in grades.items())


# --------------------------------------------------------------------------- corpus and queries


def _variants(folder: Path, stem: str) -> Iterator[Path]:
    return (path for path in (folder / f"{stem}.jsonl", folder / f"{stem}.jsonl.gz") if path.is_file())


def _table(folder: Path, stem: str) -> Path:
    found = list(_variants(folder, stem))
    if not found:
        raise InputError(f"{folder}: no {stem}.jsonl or {stem}.jsonl.gz")
    if len(found) > 1:
        raise InputError(f"{folder}: both {found[0].name} and {found[1].name}; remove one")
    return found[0]


def _by_id(path: Path, build: Callable[[Row], T], rejects: RejectLog | None) -> dict[str, T]:
    found: dict[str, T] = {}
    for row in read_rows(path, rejects=rejects):
        try:
            key = _id(row)
            if key in found:
                raise BadRow(row.where, "duplicate_id", f"id {key!r} is given twice; keep one of the rows")
            found[key] = build(row)
        except BadRow as error:
            if rejects is None:
                raise
            rejects.take(error, row.data)
    return found


def _id(row: Row) -> str:
    key: Any = row.data.get("_id", row.data.get("id"))
    if isinstance(key, int) and not isinstance(key, bool):
        key = str(key)
    if not isinstance(key, str) or not key:
        reason = f'"_id" is {"missing" if key is None else repr(key)}; give each row a string'
        raise BadRow(row.where, "no_id", reason)
    return key


def _text(row: Row, key: str, *, default: str | None = None) -> str:
    value = row.data.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        reason = f'"{key}" is {"missing" if value is None else repr(value)[:80]}; write a string'
        raise BadRow(row.where, "wrong_type", reason)
    return value


def _passage(row: Row) -> Passage:
    passage = Passage(text=_text(row, "text"), title=_text(row, "title", default=""))
    if not passage.full:
        raise BadRow(row.where, "blank_text", "title and text are blank; fill the passage or remove it")
    return passage


def _query(row: Row) -> str:
    text = _text(row, "text")
    if not text.strip():
        raise BadRow(row.where, "blank_text", "the query is blank; fill it or remove it")
    return text


# --------------------------------------------------------------------------- judgements


def _read_qrels(
    path: Path, corpus: dict[str, Passage], queries: dict[str, str], rejects: RejectLog | None
) -> dict[str, dict[str, int]]:
    judged: dict[str, dict[str, int]] = {}
    first_line: dict[str, int] = {}
    lines = path.read_bytes().split(b"\n")
    _check_header(path, lines[0])
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            query_id, passage_id, grade = _judgement(line, where)
            _check_known(where, query_id, passage_id, queries, corpus)
            if passage_id in judged.get(query_id, {}):
                reason = f"query {query_id!r} and passage {passage_id!r} are judged twice; keep one line"
                raise BadRow(where, "duplicate_judgement", reason)
        except BadRow as error:
            if rejects is None:
                raise
            rejects.take(error, line.decode("utf-8", errors="replace"))
        else:
            judged.setdefault(query_id, {})[passage_id] = grade
            first_line.setdefault(query_id, number)
    for query_id in [key for key, grades in judged.items() if max(grades.values()) < 1]:
        reason = f"query {query_id!r} has no passage of grade 1 or more; add one or remove the query"
        fault = BadRow(f"{path}:{first_line[query_id]}", "no_positive", reason)
        if rejects is None:
            raise fault
        rejects.take(fault, {"query-id": query_id, **judged.pop(query_id)})
    if not judged:
        raise InputError(f"{path}: no usable judgement")
    return judged


def _check_header(path: Path, line: bytes) -> None:
    cells = line.strip().split(b"\t")
    if len(cells) != 3 or cells[2].lstrip(b"-").isdigit():
        want = "<tab>".join(_HEADER)
        raise InputError(f"{path}:1: not a header of three tab-separated columns; begin the file with {want}")


def _judgement(line: bytes, where: str) -> tuple[str, str, int]:
    try:
        cells = line.rstrip(b"\r").decode("utf-8").split("\t")
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 at byte {error.start + 1} of the line; convert the file"
        raise BadRow(where, "not_utf8", reason) from None
    if len(cells) != 3:
        reason = f"{len(cells)} tab-separated columns; write query id, passage id, grade"
        raise BadRow(where, "bad_judgement", reason)
    try:
        return cells[0], cells[1], int(cells[2])
    except ValueError:
        raise BadRow(where, "bad_judgement", f"grade {cells[2]!r} is no integer; write 0, 1, 2, ...") from None


def _check_known(
    where: str, query_id: str, passage_id: str, queries: dict[str, str], corpus: dict[str, Passage]
) -> None:
    if query_id not in queries:
        raise BadRow(where, "unknown_query", f"query {query_id!r} is not in queries.jsonl; add it or remove the line")
    if passage_id not in corpus:
        reason = f"passage {passage_id!r} is not in corpus.jsonl; add it or remove the line"
        raise BadRow(where, "unknown_passage", reason)
