"""Progress bars on anything that may last, silent where nobody watches; one inside another is shown below it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
_quiet = False
_display: Any = None
"""The rich display of the outermost running bar; a terminal has room for one."""


def quiet(value: bool = True) -> None:
    """Switch all bars off (or on again) for this process; `--json` does."""
    global _quiet
    _quiet = value


def shown() -> bool:
    """Whether bars are shown at all: not when switched off, nor where no terminal shows them."""
    return not _quiet and sys.stderr.isatty()


@contextmanager
def same_for_transformers() -> Iterator[None]:
    """Let transformers and the hub draw their own bars (loading, fetching) only where ours would be."""
    from transformers.utils import logging

    enabled = logging.is_progress_bar_enabled()
    if not shown():
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()


class Bar:
    """A running bar; `advance` and `note` are safe to call when it is silent."""

    def __init__(self, total: int | None, label: str) -> None:
        global _display
        self._progress = None
        self._outermost = False
        if shown():
            if _display is None:
                _display = _start_display()
                self._outermost = True
            self._progress = _display
            self._task = self._progress.add_task(label, total=total, note="")

    def advance(self, steps: int = 1, *, note: str | None = None) -> None:
        """Move on by `steps`; `note` is shown behind the bar."""
        if self._progress is not None:
            fields = {} if note is None else {"note": note}
            self._progress.update(self._task, advance=steps, **fields)

    def close(self) -> None:
        """Remove the bar from the screen."""
        global _display
        if self._progress is not None:
            self._progress.remove_task(self._task)
        if self._outermost:
            self._outermost = False
            _display.stop()
            _display = None
        self._progress = None


def _start_display() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    display = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
        transient=True,
    )
    display.start()
    return display


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
