"""What a benchmark leaves: its question and settings, the machine and the versions it ran on, and its figures."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Collection, Sequence
from importlib import metadata
from typing import Any

from common import hardware

from zhihui.runs import versions, write_json


def write_report(
    question: str,
    options: Namespace,
    results: Any,
    *,
    device: str = "cpu",
    unsaid: Collection[str] = (),
    peers: Sequence[str] = (),
    **about: Any,
) -> None:
    """Write the report to `options.out`, and say where it is.

    Args:
        question: what was to be found out.
        options: of the command line; all are settings but `out`.
        results: the figures.
        device: that computed them.
        unsaid: options that are no settings, such as those by which a benchmark calls itself.
        peers: packages whose versions count beside those that zhihui records.
        about: what else a reader needs to know of the data.
    """
    report = {
        "question": question,
        "settings": {name: value for name, value in vars(options).items() if name not in {"out", *unsaid}},
        **about,
        "hardware": hardware(device),
        "versions": {**versions(), **{name: metadata.version(name) for name in peers}},
        "results": results,
    }
    write_json(options.out, report)
    print(options.out)
