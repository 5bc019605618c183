from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from zhihui.cli import main


@dataclass(frozen=True)
class Outcome:
    """What a run of the command line gave back."""

    status: int
    out: str
    err: str


@pytest.fixture
def zhihui(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run `zhihui ARGUMENTS` in this process, errors reported as the user sees them."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["zhihui", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        code = ended.value.code
        return Outcome(status=0 if code is None else int(code), out=shown.out, err=shown.err)

    return run
