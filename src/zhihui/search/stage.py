"""Indexing as a stage: for recipes, where a stage is done once for its inputs and settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zhihui.encoder.protocol import TextEncoder
from zhihui.runs import Manifest, run_stage
from zhihui.search.config import IndexConfig
from zhihui.search.writing import update_index

INDEX = "index"


def index_files(
    data: Path, out: Path, config: IndexConfig, *, model: str, encoder: TextEncoder, overwrite: bool = False
) -> Manifest:
    """Index documents into the folder `index` of `out`.

    Args:
        data: a file, a folder or a BEIR folder.
        out: the stage's folder.
        config: settings.
        model: folder or hub id of the encoder.
        encoder: gives the vectors.
        overwrite: replace a finished run of other inputs or settings.

    Raises:
        InputError: as `update_index`.
        RunFailure: as `update_index`.
    """

    def work(folder: Path) -> dict[str, Any]:
        # What a killed attempt of the same work had written counts, as far as it came.
        report = update_index([data], folder / INDEX, config, model=model, encoder=encoder)
        about = report.description
        return {
            "files": about.files,
            "passages": about.passages,
            "dimension": about.dimension,
            "embedded": report.embedded,
            "backend": about.backend,
            "ann": about.ann,
            "rejected": about.rejected,
        }

    inputs: dict[str, Path | str] = {"data": data, "model": encoder.fingerprint}
    return run_stage("index", out, work, inputs=inputs, config=config, overwrite=overwrite)
