from __future__ import annotations

import io
from contextlib import redirect_stderr

import pytest

from zhihui import progress


class Terminal(io.StringIO):
    """A stderr that says it is one."""

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr(progress, "_quiet", False)
    monkeypatch.setenv("TERM", "xterm")
    yield Terminal()
    assert progress._display is None


def test_a_bar_within_a_bar_shares_the_screen(terminal):
    with redirect_stderr(terminal), progress.bar(3, "Shards") as outer:
        display = outer._progress
        for _ in progress.track(range(2), total=2, label="Texts"):
            assert [task.description for task in display.tasks] == ["Shards", "Texts"]
            assert progress._display is display
        outer.advance(note="seen")
        (task,) = display.tasks
        assert (task.completed, task.total, task.fields["note"]) == (1, 3, "seen")
    assert "Shards" in terminal.getvalue()


def test_a_bar_that_fails_leaves_the_screen(terminal):
    with redirect_stderr(terminal), pytest.raises(KeyError), progress.bar(1, "Outer"), progress.bar(1, "Inner"):
        raise KeyError


@pytest.mark.parametrize("reason", ["quiet", "no terminal"])
def test_nothing_is_drawn_where_nobody_watches(terminal, monkeypatch, reason):
    if reason == "quiet":
        monkeypatch.setattr(progress, "_quiet", True)
    else:
        monkeypatch.setattr(terminal, "isatty", lambda: False)
    with redirect_stderr(terminal), progress.bar(3, "Shards") as bar:
        bar.advance()
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("watched", [True, False])
def test_bars_of_transformers_follow_ours(terminal, monkeypatch, watched):
    from transformers.utils import logging

    before = logging.is_progress_bar_enabled()
    logging.enable_progress_bar()
    monkeypatch.setattr(progress, "_quiet", not watched)
    with redirect_stderr(terminal), progress.same_for_transformers():
        assert logging.is_progress_bar_enabled() is watched
    assert logging.is_progress_bar_enabled()
    if not before:
        logging.disable_progress_bar()
