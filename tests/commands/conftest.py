from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Outcome:
    """What a run of the command line gave back."""

    status: int
    out: str
    err: str


def _main() -> Callable[[], None]:
    """Return the command line's entry point; with the verbs that exist where some are still being written."""
    from zhihui import commands

    try:
        from zhihui.cli import main
    except ModuleNotFoundError:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(commands, "VERBS", ("convert", "stats", "doctor"))
            from zhihui.cli import main

        del sys.modules["zhihui.cli"]  # the next import must see all verbs
    return main


@pytest.fixture
def zhihui(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run `zhihui ARGUMENTS` in this process, errors reported as the user sees them."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["zhihui", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            _main()()
        shown = capsys.readouterr()
        code = ended.value.code
        return Outcome(status=0 if code is None else int(code), out=shown.out, err=shown.err)

    return run
