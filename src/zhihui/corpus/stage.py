"""Corpus preparation as a stage: from a folder of documents to a corpus of passages."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zhihui import progress
from zhihui.corpus.boilerplate import RepeatedLines
from zhihui.corpus.config import ChunkConfig
from zhihui.corpus.document import Document
from zhihui.corpus.lengths import Lengths, lengths_of
from zhihui.corpus.passages import check, clean, cut
from zhihui.corpus.reading import documents_in, files_of, read_all, take_rejected
from zhihui.errors import InputError, MissingExtra
from zhihui.records import REJECTED, BadRow, RejectLog, write_rows
from zhihui.records.distribution import Distribution
from zhihui.records.script import ScriptTable, script_table
from zhihui.runs import Manifest, atomic_open, run_stage

CORPUS, DOCUMENTS = "corpus.jsonl", "documents.jsonl"
_PARTS = "read"
_LOOKED_AT = 20_000  # files whose edges are compared; more would fill the memory and tell nothing new


def chunk_files(
    data: Path, out: Path, config: ChunkConfig, *, model: str | Path | None = None, overwrite: bool = False
) -> Manifest:
    """Cut documents into passages; `out` gets corpus.jsonl, documents.jsonl and, if need be, rejected.jsonl.

    A passage is a row of a BEIR corpus: `_id` (of its title and text), `title` (with the headings it stands under),
    `text` and `metadata`: `source` (file), `document`, `headings`, and `start` and `end` in that document's text in
    documents.jsonl. Of passages with the same words the first is kept. A run that was killed goes on from the files
    it had read.

    Args:
        data: a file, a folder, or a BEIR folder, whose corpus is taken.
        out: the stage's folder.
        config: size, filters, cleaning.
        model: whose tokens the size is counted in: a folder or hub id; None counts characters.
        overwrite: replace a finished run of other inputs or settings.

    Raises:
        InputError: no such data or model, `out` within the data, or no passage is left.
        MissingExtra: a kind of file needs a package that is not installed.
    """
    files = files_of(data)
    if data.is_dir() and data.resolve() in out.resolve().parents:
        raise InputError(f"{out}: lies within {data}, and would be read the next time; choose a folder beside it")
    lengths = lengths_of(model)

    def work(folder: Path) -> dict[str, Any]:
        parts = read_all(files, folder / _PARTS, field=config.field)
        with RejectLog(folder / REJECTED) as rejects:
            take_rejected(parts, rejects)
            found = _Passages(parts, config, lengths, rejects)
            with atomic_open(folder / DOCUMENTS) as texts:
                count = write_rows(folder / CORPUS, found.rows(texts.write))
            if not count:
                reasons = ", ".join(f"{number} {reason}" for reason, number in sorted(rejects.counts.items()))
                raise InputError(f"{data}: no passage is left of {len(files)} files ({reasons or 'no text'})")
        shutil.rmtree(folder / _PARTS)
        return {"files": len(files), **found.counts(), "rejected": dict(sorted(rejects.counts.items()))}

    inputs: dict[str, Path | str] = {"data": data, "lengths": lengths.fingerprint}
    return run_stage("chunk", out, work, inputs=inputs, config=config, overwrite=overwrite)


class _Passages:
    """The passages of all parts, and what is counted on the way."""

    def __init__(self, parts: list[Path], config: ChunkConfig, lengths: Lengths, rejects: RejectLog) -> None:
        self._parts, self._config, self._lengths, self._rejects = parts, config, lengths, rejects
        self._kept: dict[str, str] = {}
        """By what they are compared by: the passages' ids."""
        self._documents = 0
        self._sizes = Distribution()
        self._scripts: Counter[str] = Counter()
        self._table = _table_if_installed()
        self._repeated = self._boilerplate()

    def rows(self, write_document: Any) -> Iterator[dict[str, Any]]:
        """Yield the rows of the corpus; each document's text is written as its passages are cut."""
        for document in progress.track(documents_in(self._parts), total=None, label="Cutting passages"):
            cleaned = clean(document, self._config, self._repeated)
            rows = list(self._kept_of(cleaned))
            if not rows:
                continue
            self._documents += 1
            text = {"_id": cleaned.where, "title": cleaned.title, "text": cleaned.text}
            write_document(json.dumps(text, ensure_ascii=False) + "\n")
            sizes = self._lengths.of([row["text"] for row in rows])
            for row, size in zip(rows, sizes, strict=True):
                self._sizes.add(size)
                if self._table is not None:
                    self._scripts[self._table.of(row["text"])] += 1
                yield row

    def counts(self) -> dict[str, Any]:
        """Return what was counted; `scripts` is None where OpenCC is not installed."""
        return {
            "documents": self._documents,
            "passages": len(self._kept),
            "unit": self._lengths.unit,
            "lengths": self._sizes.summary(),
            "scripts": None if self._table is None else dict(sorted(self._scripts.items())),
            "boilerplate": sorted(self._repeated),
        }

    def _kept_of(self, document: Document) -> Iterator[dict[str, Any]]:
        for key, row in cut(document, self._config, self._lengths):
            try:
                check(row, self._config)
                if key in self._kept:
                    where = f"{row['metadata']['document']}@{row['metadata']['start']}"
                    raise BadRow(where, "duplicate", f"says the same as passage {self._kept[key]}, which is kept")
            except BadRow as error:
                self._rejects.take(error, row)
            else:
                self._kept[key] = row["_id"]
                yield row

    def _boilerplate(self) -> frozenset[str]:
        total = sum(document.is_file for document in documents_in(self._parts))
        every = math.ceil(total / _LOOKED_AT)
        repeated = RepeatedLines(self._config.repeated)
        files = (document for document in documents_in(self._parts) if document.is_file)
        for number, document in enumerate(files):
            if number % every == 0:
                repeated.count([line for section in document.sections for line in section.text.split("\n")])
        return repeated.found()


def _table_if_installed() -> ScriptTable | None:
    try:
        return script_table()
    except MissingExtra:
        return None
