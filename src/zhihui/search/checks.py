"""Checks before an index is written: of its place, of how vectors are cut, and that it is the same as before."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from zhihui.encoder.prefixes import against_cutting, trained_lengths
from zhihui.encoder.protocol import TextEncoder
from zhihui.errors import InputError
from zhihui.search.config import IndexConfig
from zhihui.search.description import EncoderIdentity, IndexDescription
from zhihui.search.generations import POINTER, is_ours


def check_place(inputs: Sequence[Path], out: Path) -> None:
    """See that an index can be where it shall be, before a model is loaded.

    Raises:
        InputError: it lies within the documents, or something else is there.
    """
    if out.name in ("", ".."):
        raise InputError(f"{out}: an index is a folder of its own; give it a name")
    for given in inputs:
        if given.is_dir() and (given.resolve() == out.resolve() or given.resolve() in out.resolve().parents):
            raise InputError(f"{out}: lies within {given}, and would be read the next time; choose a folder beside it")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; an index is a folder")
    if out.exists() and not (out / POINTER).exists() and not all(map(is_ours, os.listdir(out))):
        raise InputError(f"{out}: exists and is not an index; choose another folder")


def check_cut(config: IndexConfig, encoder: TextEncoder, dimension: int) -> None:
    """See that a model's vectors can be cut as they shall be.

    Raises:
        InputError: they cannot; the message says to what they can.
    """
    if config.dimensions is None:
        return
    trained = trained_lengths(encoder)
    why = against_cutting(config.dimensions, dimension=dimension, trained=trained, name=encoder.name)
    if why:
        raise InputError(why)


def refuse_changes(
    out: Path, described: IndexDescription, config: IndexConfig, identity: EncoderIdentity, lengths: str
) -> None:
    """See that an index is brought up to date with what it was made with.

    Raises:
        InputError: another model, other settings or another tokenizer; the message says which.
    """
    changed = described.encoder.changes(identity)
    if changed:
        mend = "give the model it was made by, or --rebuild"
        raise InputError(f"{out}: was made by another model ({changed}); {mend}")
    old, new = _flat(described.config), _flat(asdict(config))
    said = [f"{name} {old.get(name)!r} became {new[name]!r}" for name in new if new[name] != old.get(name)]
    if said:
        raise InputError(f"{out}: was made with other settings ({', '.join(said)}); give the same ones, or --rebuild")
    if described.lengths != lengths:
        raise InputError(f"{out}: its passages were measured by another tokenizer; give the same model, or --rebuild")


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for name, inner in config.items()
        for key, value in (inner.items() if isinstance(inner, dict) else [(name, inner)])
    }
