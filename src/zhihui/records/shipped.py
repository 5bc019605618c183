"""What is shipped inside: a small Chinese retrieval set, a small model, and what the data engine is shown with."""

from __future__ import annotations

from pathlib import Path

from zhihui.errors import InputError

STARTER = Path(__file__).parents[1] / "starter" / "data"
"""The starter set, a BEIR folder with the splits train, dev and test."""
ENGINE = STARTER.with_name("engine")
"""Passages and long documents for the data engine, and a teacher's recorded answers about them."""
RECORDING = ENGINE / "teacher.jsonl"
"""The recorded answers."""
SHIPPED_MODELS = {"nano": STARTER.with_name("nano")}
"""Models that are loaded by name, without a hub."""


def model_path(model: str | Path) -> Path:
    """Return where a model is that is named or given as a folder; a hub id is no more than a path that is not there.

    Raises:
        InputError: the name is a shipped model's and a folder's too.
    """
    path, shipped = Path(model), SHIPPED_MODELS.get(str(model))
    if shipped is not None and path.exists():
        raise InputError(f"{model}: is a shipped model and a folder here; write ./{model} for the folder")
    return shipped or path


def set_name(folder: Path) -> str:
    """Return what a set is called: its folder's name, and that of the starter set for what is shipped."""
    whole = folder.resolve()
    return "starter" if whole == STARTER.resolve() else whole.name
