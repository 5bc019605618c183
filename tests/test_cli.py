from __future__ import annotations

import subprocess
import sys

import pytest

from zhihui import __version__
from zhihui.commands import VERBS

HEAVY = (
    "torch",
    "transformers",
    "tokenizers",
    "sentence_transformers",
    "mteb",
    "pyarrow",
    "numpy",
    "matplotlib",
    "opencc",
)

SHOW = """
import sys
from zhihui.cli import main
try:
    main()
finally:
    print("\\nloaded:", *sorted(name for name in sys.modules if "." not in name), file=sys.stderr)
"""


def zhihui(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SHOW, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), *((verb, "--help") for verb in VERBS)])
def test_help_loads_nothing_heavy(arguments):
    done = zhihui(*arguments)
    assert done.returncode == 0, done.stderr
    loaded = done.stderr.rpartition("loaded:")[2].split()
    assert "typer" in loaded
    assert not {*HEAVY} & {*loaded}


def test_help_lists_every_verb_with_a_sentence():
    out = zhihui("--help").stdout
    for verb in VERBS:
        (line,) = (each for each in out.splitlines() if each.strip("│ ").startswith(f"{verb} "))
        assert len(line.split(f" {verb} ", 1)[1].strip("│ ").split()) >= 3, line


def test_version():
    assert zhihui("--version").stdout == f"zhihui {__version__}\n"


@pytest.mark.parametrize("arguments", [("fly",), ("stats",), ("stats", "x.jsonl", "--colour"), ("stats", "none")])
def test_a_mistake_ends_with_2_and_no_traceback(arguments):
    done = zhihui(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
