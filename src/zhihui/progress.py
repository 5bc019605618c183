"""Progress bars on anything that may last, silent where nobody watches."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
_quiet = False


def quiet(value: bool = True) -> None:
    """Switch all bars off (or on again) for this process; `--json` does."""
    global _quiet
    _quiet = value


class Bar:
    """A running bar; `advance` and `note` are safe to call when it is silent."""

    def __init__(self, total: int | None, label: str) -> None:
        self._progress = None
        if not _quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._progress.add_task(label, total=total, note="")
            self._progress.start()

    def advance(self, steps: int = 1, *, note: str | None = None) -> None:
        """Move on by `steps`; `note` is shown behind the bar."""
        if self._progress is not None:
            fields = {} if note is None else {"note": note}
            self._progress.update(self._task, advance=steps, **fields)  # type: ignore[arg-type]

    def close(self) -> None:
        """Remove the bar from the screen."""
        if self._progress is not None:
            self._progress.stop()


@contextmanager
def bar(total: int | None, label: str) -> Iterator[Bar]:
    """Show a bar for the length of the block; `total` in whatever unit is advanced, None when unknown."""
    shown = Bar(total, label)
    try:
        yield shown
    finally:
        shown.close()


def track(items: Iterable[T], *, total: int | None, label: str) -> Iterator[T]:
    """Yield the items under a bar that counts them."""
    with bar(total, label) as shown:
        for item in items:
            yield item
            shown.advance()
