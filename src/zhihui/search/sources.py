"""Sources: the files an index is made of, told apart by their content, and what is read of them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any, NamedTuple

from zhihui import progress
from zhihui.corpus.boilerplate import EDGE
from zhihui.corpus.cleaning import plain_characters
from zhihui.corpus.decoding import decode
from zhihui.corpus.document import Document, Section
from zhihui.corpus.readers import read_documents
from zhihui.corpus.reading import files_of
from zhihui.errors import InputError
from zhihui.records import BadRow, RejectLog, is_beir, read_rows
from zhihui.runs import fingerprint, fingerprint_path, read_json

_CORPORA = ("corpus.jsonl", "corpus.jsonl.gz")  # of BEIR folders and of corpus preparation, given by themselves
_LONGEST_ROW = 256 * 2**20  # bytes, as the readers of rows have it
_OWN_KEYS = ("_id", "id", "title", "标题", "题目")  # of a row; they have places of their own


class SourceFile(NamedTuple):
    """A file that was given."""

    path: Path
    source: str
    """What it is called in the index: its path relative to the folder that was given."""
    whole: bool
    """Whether its documents are passages as they stand."""
    digest: str
    """SHA-256 of its bytes; "" where it cannot be read."""


def find_files(inputs: Sequence[Path], *, whole: bool) -> list[SourceFile]:
    """Return the files of all inputs; those of one folder among several are named after it too.

    Raises:
        InputError: no such path, an empty folder, one that may not be read, or two inputs of one name.
    """
    if not inputs:
        raise InputError("nothing to index; name a file or a folder")
    found: dict[str, SourceFile] = {}
    for given in inputs:
        _check_readable(given)
        as_passages = whole or is_beir(given) or given.name in _CORPORA
        for path, name in files_of(given):
            source = f"{given.resolve().name}/{name}" if len(inputs) > 1 and given.is_dir() else name
            if source in found:
                raise InputError(f"{path}: would be called {source}, as {found[source].path} is; give one folder above")
            found[source] = SourceFile(path, source, as_passages, "")
    files = [found[source] for source in sorted(found)]
    return [each._replace(digest=_digest(each.path)) for each in progress.track(files, total=len(files), label="Files")]


def _check_readable(given: Path) -> None:
    """Refuse a folder that may not be looked into: its files would be taken for deleted ones."""

    def refuse(error: OSError) -> None:
        raise InputError(
            f"{error.filename}: cannot be looked into ({error.strerror}); give yourself the right to read it"
        )

    if given.is_dir():
        for _ in os.walk(given, onerror=refuse):
            pass


def _digest(path: Path) -> str:
    try:
        return fingerprint_path(path)
    except OSError:
        return ""  # the reader says what is wrong with it


class Reading(NamedTuple):
    """What the reading of a file brought, besides its documents."""

    edges: list[list[str]]
    """Lines at the top and foot of a whole file, by which boilerplate is known."""
    rejected: list[dict[str, Any]]
    """What was left out: row, reason, where, detail."""


class Spool:
    """The documents of files that were read, kept on disk until the index is written; a kill loses one file's."""

    def __init__(self, folder: Path, *, field: str | None) -> None:
        """Open the folder, which is made.

        Args:
            folder: where documents are kept.
            field: key of the text in rows; None takes the obvious one.
        """
        self._folder = folder
        self._field = field
        folder.mkdir(parents=True, exist_ok=True)

    def read(self, file: SourceFile) -> Reading:
        """Read a file, unless an earlier run did."""
        about, documents = self._place(file, "json"), self._place(file, "jsonl")
        if not file.digest or not about.exists() or not documents.exists():
            rejects = Gathered()
            edges = []
            with _renamed(documents) as stream:
                for document, extra in _documents(file, self._field, rejects):
                    if document.is_file and not file.whole:
                        edges.append(_edges(document))
                    row = {"document": asdict(document), "extra": extra}
                    stream.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
            with _renamed(about) as stream:
                stream.write(json.dumps({"edges": edges, "rejected": rejects.entries}))
        return Reading(**read_json(about))

    def documents(self, file: SourceFile) -> Iterator[tuple[Document, dict[str, Any]]]:
        """Yield each document of a file that was read, and the keys its row has besides."""
        with self._place(file, "jsonl").open(encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                about = row["document"]
                sections = [Section(each["text"], tuple(each["headings"])) for each in about.pop("sections")]
                yield Document(**about, sections=sections), row["extra"]

    def _place(self, file: SourceFile, suffix: str) -> Path:
        key = fingerprint([file.digest, file.source, file.whole, self._field])
        return self._folder / f"{key[:32]}.{suffix}"


@contextmanager
def _renamed(path: Path) -> Iterator[IO[str]]:
    """Open a file that has its name once it is whole; unlike `atomic_open`, a loss of power may tear it.

    There are two for every file that is read, and to wait for the disk each time would take longer than the reading.
    """
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", encoding="utf-8") as stream:
        yield stream
    partial.replace(path)


class Gathered(RejectLog):
    """Rows set aside in memory, to be kept with the file they are of."""

    def __init__(self) -> None:
        super().__init__(None)
        self.entries: list[dict[str, Any]] = []

    def add(self, row: Any, reason: str, where: str, *, detail: str = "") -> None:
        """Set a row aside."""
        super().add(row, reason, where, detail=detail)
        # What JSON cannot hold is why some rows are here.
        kept = json.loads(json.dumps(row, default=str)) if not isinstance(row, str) else row[:1000]
        self.entries.append({"row": kept, "reason": reason, "where": where, "detail": detail})


def _documents(file: SourceFile, field: str | None, rejects: RejectLog) -> Iterator[tuple[Document, dict[str, Any]]]:
    documents = read_documents(file.path, source=file.source, field=field, rejects=rejects)
    with closing(_extras(file.path, file.source)) as extras:
        try:
            for document in documents:
                extra: dict[str, Any] = {}
                if not document.is_file:
                    line = int(document.where.rpartition(":")[2])
                    row = next(row for number, row in extras if number == line)
                    text = document.sections[0].text
                    extra = {key: value for key, value in row.items() if key not in _OWN_KEYS and value != text}
                yield document if file.whole else _plain(document), extra
        except BadRow as error:
            rejects.take(error, "")


def _extras(path: Path, source: str) -> Generator[tuple[int, dict[str, Any]]]:
    """Yield each row with its number, in step with the documents made of them."""
    name = path.name.lower()
    if name.endswith((".csv", ".tsv")):
        text = io.StringIO(decode(path.read_bytes(), where=source), newline="")
        lines = csv.DictReader(text, delimiter="\t" if name.endswith(".tsv") else ",")
        for cells in lines:
            yield lines.line_num, {key: value for key, value in cells.items() if key is not None}
        return
    for row in read_rows(path, max_line_bytes=_LONGEST_ROW, rejects=RejectLog(None)):
        yield int(row.where.rpartition(":")[2]), row.data


def _plain(document: Document) -> Document:
    sections = [Section(plain_characters(s.text), tuple(map(plain_characters, s.headings))) for s in document.sections]
    return replace(document, title=plain_characters(document.title), sections=sections)


def _edges(document: Document) -> list[str]:
    """Return the lines that count for boilerplate: those at the top and at the foot that are not blank."""
    lines = [line for section in document.sections for line in section.text.split("\n") if line.strip()]
    return lines if len(lines) <= 2 * EDGE else [*lines[:EDGE], *lines[-EDGE:]]


def passage_id(title: str, text: str) -> str:
    """Return the id of a passage whose row has none, as corpus preparation gives it."""
    return hashlib.blake2b(f"{title}\0{text}".encode(errors="surrogatepass"), digest_size=8).hexdigest()
