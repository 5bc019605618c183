"""Records: examples and retrieval sets, and every format they are read from and written to."""

from __future__ import annotations

from zhihui.records.beir import is_beir, read_beir, write_beir
from zhihui.records.example import Example
from zhihui.records.files import example_files, read_examples, write_examples
from zhihui.records.rejects import REJECTED, BadRow, RejectLog
from zhihui.records.retrieval import Passage, RetrievalSet
from zhihui.records.rows import Row, read_rows, suffix_of, write_rows

__all__ = [
    "REJECTED",
    "BadRow",
    "Example",
    "Passage",
    "RejectLog",
    "RetrievalSet",
    "Row",
    "example_files",
    "is_beir",
    "read_beir",
    "read_examples",
    "read_rows",
    "suffix_of",
    "write_beir",
    "write_examples",
    "write_rows",
]
