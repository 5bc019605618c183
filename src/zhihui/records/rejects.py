"""What happens to a row that cannot be used: stop with one line, or set it aside with its reason."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from zhihui.errors import InputError
from zhihui.runs import atomic_open

REJECTED = "rejected.jsonl"
_EXCERPT = 1000  # characters of an unreadable line that are kept; the line itself is still in its file


class BadRow(InputError):
    """A row that cannot be used.

    Attributes:
        where: "file:line", or empty for an object that came from no file.
        code: the short reason that is counted.
        reason: the whole reason, how to mend it included.
    """

    def __init__(self, where: str, code: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}" if where else reason)
        self.where = where
        self.code = code
        self.reason = reason


class RejectLog:
    """Rows set aside, each with its place and reason; the file appears when the block ends, if any were.

    A file left there by an earlier run is removed when nothing was rejected: it would tell of another run.
    Without a path rows are counted and forgotten.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        """Rejected rows by reason code."""
        self._files = ExitStack()
        self._stream: IO[str] | None = None

    def __enter__(self) -> RejectLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.__exit__(kind, error, trace)
        if kind is None and not self.counts and self.path is not None:
            self.path.unlink(missing_ok=True)

    def add(self, row: Any, reason: str, where: str, *, detail: str = "") -> None:
        """Set a row aside.

        Args:
            row: the row as a JSON-like value, or the text of a line that could not be read as one.
            reason: the short code that is counted.
            where: "file:line" of the row.
            detail: the reason in full.
        """
        self.counts[reason] += 1
        if self.path is None:
            return
        if self._stream is None:
            self._stream = self._files.enter_context(atomic_open(self.path))
        entry: dict[str, Any] = {"where": where, "reason": reason}
        if detail:
            entry["detail"] = detail
        if isinstance(row, str):
            entry["text"] = row[:_EXCERPT]
        else:
            entry["row"] = row
        self._stream.write(_readable(entry) + "\n")

    def take(self, error: BadRow, row: Any) -> None:
        """Set aside the row an error speaks of."""
        self.add(row, error.code, error.where, detail=error.reason)


def _readable(entry: dict[str, Any]) -> str:
    text = json.dumps(entry, ensure_ascii=False, default=str)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        # Half a surrogate pair is one of the reasons a row is here; escaped, it can be written.
        return json.dumps(entry, default=str)
    return text
