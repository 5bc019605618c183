"""Cutting: documents to the rows of an index; those of files that did not change are taken over."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zhihui import progress
from zhihui.corpus.boilerplate import RepeatedLines
from zhihui.corpus.document import Document
from zhihui.corpus.lengths import Lengths
from zhihui.corpus.passages import check, clean, cut, same_as
from zhihui.records import REJECTED, BadRow, Passage, RejectLog, read_rows, write_rows
from zhihui.runs import fingerprint, read_json, write_json
from zhihui.search.columns import ColumnWriter
from zhihui.search.config import IndexConfig
from zhihui.search.description import FieldKind
from zhihui.search.passages import PASSAGES, PLACES, Passages, full_text, to_line
from zhihui.search.sources import Gathered, SourceFile, Spool, passage_id

FILES, CUT = "files.jsonl", "cut.json"
KEYS = "keys.npy"
"""`[N, 2 * 16]` bytes: digests of the text that is encoded, and of the id."""
DIGEST = 16
"""Bytes that stand for a text, as in the embedding cache."""


@dataclass(kw_only=True)
class FileRecord:
    """What is known of a file in a generation."""

    source: str
    digest: str
    whole: bool
    edges: list[list[str]]
    rejected: list[dict[str, Any]]
    start: int = 0
    """First byte of its rows in the file of passages, those of duplicates included."""
    end: int = 0


class Previous:
    """The generation before, as far as its rows can be taken over."""

    def __init__(self, folder: Path) -> None:
        """Read which files it was made of."""
        self.records = {row.data["source"]: FileRecord(**row.data) for row in read_rows(folder / FILES)}
        cut = read_json(folder / CUT)
        self.settings: str = cut["settings"]
        self.repeated = frozenset(cut["repeated"])
        self.passages = Passages(folder)

    def same(self, file: SourceFile) -> FileRecord | None:
        """Return the record of a file that is as it was."""
        record = self.records.get(file.source)
        if record is None or not file.digest or (record.digest, record.whole) != (file.digest, file.whole):
            return None
        return record

    def holds(self, files: Sequence[SourceFile], settings: str) -> bool:
        """Tell whether these very files were cut with these settings."""
        return self.settings == settings and len(files) == len(self.records) and all(map(self.same, files))


def cut_settings(config: IndexConfig, lengths: Lengths) -> str:
    """Return the fingerprint of what decides which rows a file gives."""
    return fingerprint([asdict(config.chunk), lengths.fingerprint])


class Cutter:
    """Writes the rows of all files into the folder of a new generation."""

    def __init__(
        self, folder: Path, spool: Spool, config: IndexConfig, lengths: Lengths, previous: Previous | None
    ) -> None:
        self._folder, self._spool = folder, spool
        self._config, self._lengths = config.chunk, lengths
        self._settings = cut_settings(config, lengths)
        self._previous = previous if previous is not None and previous.settings == self._settings else None
        self._places: list[int] = []
        self._keys: list[bytes] = []
        self._columns = ColumnWriter()
        self._ids: set[str] = set()
        self._words: dict[str, str] = {}
        """Of passages that were cut: what they are compared by -> id."""

    def write(self, files: Sequence[SourceFile]) -> tuple[dict[str, FieldKind], dict[str, int]]:
        """Write everything but vectors and the indexes.

        Returns:
            The kinds of the columns, and what was left out, by reason.
        """
        records = self._records(files)
        repeated = self._boilerplate(records)
        with RejectLog(self._folder / REJECTED) as rejects:
            with (self._folder / PASSAGES).open("wb") as stream:
                for file, record in progress.track(
                    zip(files, records, strict=True), total=len(files), label="Cutting passages"
                ):
                    lines = self._lines(file, record, repeated)
                    record.start = stream.tell()
                    for line in lines:
                        self._take(line, stream.tell(), record, rejects)
                        stream.write(line)
                    record.end = stream.tell()
                    for entry in record.rejected:
                        rejects.add(entry["row"], entry["reason"], entry["where"], detail=entry["detail"])
            counts = dict(sorted(rejects.counts.items()))
        np.save(self._folder / PLACES, np.array(self._places, dtype=np.int64))
        keys = np.frombuffer(b"".join(self._keys), dtype=np.uint8).reshape(-1, 2 * DIGEST)
        np.save(self._folder / KEYS, keys)
        write_rows(self._folder / FILES, (asdict(record) for record in records))
        write_json(self._folder / CUT, {"settings": self._settings, "repeated": sorted(repeated)})
        return self._columns.write(self._folder), counts

    def _records(self, files: Sequence[SourceFile]) -> list[FileRecord]:
        found = []
        for file in progress.track(files, total=len(files), label="Reading documents"):
            old = self._previous.same(file) if self._previous is not None else None
            read = self._spool.read(file) if old is None else old
            found.append(
                FileRecord(
                    source=file.source, digest=file.digest, whole=file.whole, edges=read.edges, rejected=read.rejected
                )
            )
        return found

    def _boilerplate(self, records: Sequence[FileRecord]) -> frozenset[str]:
        repeated = RepeatedLines(self._config.repeated)
        for record in records:
            for lines in record.edges:
                repeated.count(lines)
        return repeated.found()

    def _lines(self, file: SourceFile, record: FileRecord, repeated: frozenset[str]) -> Iterator[bytes]:
        old = self._previous.same(file) if self._previous is not None else None
        if old is not None and self._previous is not None and (file.whole or repeated == self._previous.repeated):
            return self._previous.passages.lines(old.start, old.end)
        rejects = Gathered()
        rejects.entries += self._spool.read(file).rejected
        record.rejected = rejects.entries
        return self._cut(file, repeated, rejects)

    def _cut(self, file: SourceFile, repeated: frozenset[str], rejects: Gathered) -> Iterator[bytes]:
        for document, extra in self._spool.documents(file):
            if file.whole:
                yield to_line(_whole(document, extra))
                continue
            for _, row in cut(clean(document, self._config, repeated), self._config, self._lengths):
                try:
                    check(row, self._config)
                except BadRow as error:
                    rejects.take(error, row)
                else:
                    row["metadata"] = {**extra, **row["metadata"]}
                    yield to_line(row)

    def _take(self, line: bytes, place: int, record: FileRecord, rejects: RejectLog) -> None:
        """Index a row, unless it is there already."""
        row = json.loads(line)
        metadata = row["metadata"]
        where = f"{metadata['document']}@{metadata['start']}"
        words = None if record.whole else same_as(row["title"], row["text"])
        if words is not None and words in self._words:
            reason = f"says the same as passage {self._words[words]}, which is kept"
            rejects.take(BadRow(where, "duplicate", reason), row)
            return
        if row["_id"] in self._ids:
            reason = f"id {row['_id']} is that of a passage before it; give each its own"
            rejects.take(BadRow(where, "duplicate_id", reason), row)
            return
        if words is not None:
            self._words[words] = row["_id"]
        self._ids.add(row["_id"])
        self._places.append(place)
        self._keys.append(_digest(full_text(row)) + _digest(row["_id"]))
        self._columns.add(row["title"], metadata)


def _whole(document: Document, extra: dict[str, Any]) -> dict[str, Any]:
    """Return a document as one row; what corpus preparation wrote of its place is its place."""
    text = document.text
    inner = extra.pop("metadata", None)
    place = {"source": document.source, "document": document.where, "start": 0, "end": len(text)}
    metadata = {**extra, **place, **(inner if isinstance(inner, dict) else {})}
    if not isinstance(metadata["source"], str):
        metadata["source"] = document.source
    if not all(isinstance(metadata[name], int) for name in ("start", "end")):
        metadata |= {"start": 0, "end": len(text)}
    own = document.id if document.id is not None else passage_id(document.title, text)
    assert Passage(text, document.title).full, "readers give no document without a text"
    return {"_id": own, "title": document.title, "text": text, "metadata": metadata}


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", errors="surrogatepass"), digest_size=DIGEST).digest()
