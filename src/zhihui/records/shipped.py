"""What is shipped inside: a small Chinese retrieval set, to try everything on."""

from __future__ import annotations

from pathlib import Path

STARTER = Path(__file__).parents[1] / "starter" / "data"
"""The starter set, a BEIR folder with the splits train, dev and test."""


def set_name(folder: Path) -> str:
    """Return what a set is called: its folder's name, and that of the starter set for what is shipped."""
    whole = folder.resolve()
    return "starter" if whole == STARTER.resolve() else whole.name
