"""What is shipped inside: a small Chinese retrieval set, a small model, and what the data engine is shown with."""

from __future__ import annotations

from pathlib import Path

STARTER = Path(__file__).parents[1] / "starter" / "data"
"""The starter set, a BEIR folder with the splits train, dev and test."""
ENGINE = STARTER.with_name("engine")
"""Passages and long documents for the data engine, and a teacher's recorded answers about them."""
RECORDING = ENGINE / "teacher.jsonl"
"""The recorded answers."""
SHIPPED_MODELS = {"nano": STARTER.with_name("nano")}
"""Models that are loaded by name, without a hub."""


def set_name(folder: Path) -> str:
    """Return what a set is called: its folder's name, and that of the starter set for what is shipped."""
    whole = folder.resolve()
    return "starter" if whole == STARTER.resolve() else whole.name
