"""Exporting: an index in the form that another vector database takes in.

To add one: a module with a `write`, and its name below.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from zhihui.errors import InputError
from zhihui.runs import Manifest, run_stage
from zhihui.search.index import Index

TARGETS = ("faiss", "milvus", "qdrant")


def export_index(index: Index, out: Path, target: str, *, overwrite: bool = False) -> Manifest:
    """Write an index for another database, as a stage in the folder `out`.

    Args:
        index: opened.
        out: the folder.
        target: one of `TARGETS`.
        overwrite: replace a finished export.

    Raises:
        InputError: an unknown target, or `out` holds something else.
        MissingExtra: what writes it is not installed.
    """
    if target not in TARGETS:
        raise InputError(f"target {target!r} is unknown; choose {', '.join(TARGETS)}")
    writer = import_module(f"{__name__}.{target}")

    def work(folder: Path) -> dict[str, int | str]:
        writer.write(index, folder)
        return {"passages": len(index), "dimension": index.description.dimension}

    inputs: dict[str, Path | str] = {"index": index.fingerprint}
    return run_stage("export index", out, work, inputs=inputs, config={"target": target}, overwrite=overwrite)
