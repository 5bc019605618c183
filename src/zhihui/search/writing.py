"""Writing: an index is made, or brought up to date with its documents, as a new generation beside the old one."""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from zhihui.config import from_mapping
from zhihui.corpus.lengths import lengths_of
from zhihui.encoder.protocol import TextEncoder
from zhihui.errors import InputError, RunFailure, require
from zhihui.ranking import BM25
from zhihui.runs import write_json
from zhihui.search.checks import check_cut, check_place, refuse_changes
from zhihui.search.config import SMALL, IndexConfig
from zhihui.search.cutting import KEYS, Cutter, Previous, cut_settings
from zhihui.search.description import (
    DESCRIPTION,
    FORMAT,
    EncoderIdentity,
    IndexDescription,
    as_dict,
    read_description,
)
from zhihui.search.embedding import Known, embed
from zhihui.search.generations import BUILDING, current, only_writer, publish, sweep
from zhihui.search.index import BM25_FOLDER
from zhihui.search.lance import write_lance
from zhihui.search.passages import Passages
from zhihui.search.sources import Spool, find_files

_READ, _EMBEDDED = "read", "embedded"
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, kw_only=True)
class IndexReport:
    """What a run did."""

    description: IndexDescription
    changed: bool
    """Whether a new generation was written."""
    added: int
    """Passages that were not there before."""
    kept: int
    removed: int
    """Passages that were there and are no more; one whose text changed was removed and added."""
    embedded: int
    """Texts whose vectors were computed; all others were there."""
    seconds: float


def settings_of(out: Path, *, rebuild: bool = False) -> IndexConfig | None:
    """Return the settings of the index in a folder; None where there is none, or one that cannot be read.

    Raises:
        InputError: it is damaged or of a newer format, and is not rebuilt.
    """
    described = _described(out, rebuild=rebuild)
    return None if described is None else from_mapping(IndexConfig, described.config, where=str(out))


def model_of(out: Path, *, rebuild: bool = False) -> str | None:
    """Return the model of the index in a folder; None where there is none, or one that cannot be read.

    Raises:
        InputError: it is damaged or of a newer format, and is not rebuilt; or its model is not there any more.
    """
    described = _described(out, rebuild=rebuild)
    if described is not None and Path(described.model).is_absolute() and not Path(described.model).exists():
        raise InputError(f"{out}: its model {described.model} is not there any more; say where it is with --model")
    return None if described is None else described.model


def _described(out: Path, *, rebuild: bool) -> IndexDescription | None:
    try:
        folder = current(out)
        return None if folder is None else read_description(folder)
    except InputError:
        if rebuild:
            return None
        raise


def update_index(
    inputs: Sequence[Path],
    out: Path,
    config: IndexConfig | None = None,
    *,
    model: str,
    encoder: TextEncoder,
    rebuild: bool = False,
) -> IndexReport:
    """Bring an index up to date with files and folders, or make it.

    The index then holds what is in `inputs` and nothing else. Files are known by their content: those that did not
    change are not read again, and no text is encoded twice by the same model, wherever it stands now. Killed at any
    point, the old index is as it was, and the next run goes on from what was read and encoded.

    Args:
        inputs: documents: files, folders, BEIR folders.
        out: the index.
        config: settings; None takes those the index has, or the defaults.
        model: folder or hub id of the encoder, whose tokens a passage's size is counted in; kept in the index.
        encoder: gives the vectors.
        rebuild: take other settings or another model than the index has.

    Raises:
        InputError: nothing to index, other settings or another model than before without `rebuild`, or `out` is
            something else.
        RunFailure: another process is writing the index, or the disk is full.
        MissingExtra: what reads a file, or the backend, is not installed.
    """
    began = time.monotonic()
    check_place(inputs, out)
    with only_writer(out):
        new = not out.exists()
        try:
            with _told_when_full(out):
                return _update(inputs, out, config, model, encoder, rebuild, began)
        except InputError:
            if new and out.exists():  # bad input leaves nothing behind
                shutil.rmtree(out)
            raise


class _Before(NamedTuple):
    """The generation that counts as a run begins."""

    folder: Path
    description: IndexDescription
    rows: Previous
    vectors: Known

    @classmethod
    def open(cls, out: Path, *, rebuild: bool) -> _Before | None:
        """Open it; None where there is none, or a damaged one that shall be replaced."""
        try:
            folder = current(out)
            return None if folder is None else cls(folder, read_description(folder), Previous(folder), Known.of(folder))
        except (InputError, OSError, ValueError, KeyError, TypeError) as error:
            if rebuild:
                return None
            if isinstance(error, InputError):
                raise
            raise InputError(f"{out}: damaged ({error}); write it again with --rebuild") from None


def _update(
    inputs: Sequence[Path],
    out: Path,
    config: IndexConfig | None,
    model: str,
    encoder: TextEncoder,
    rebuild: bool,
    began: float,
) -> IndexReport:
    before = _Before.open(out, rebuild=rebuild)
    if config is None:
        config = (None if before is None else settings_of(out)) or IndexConfig()
    if config.backend == "lancedb":
        require("lancedb", extra="search", purpose="the lancedb backend")
    lengths = lengths_of(model)
    identity = EncoderIdentity.of(encoder)
    check_cut(config, encoder, identity.dimension)
    if before is not None and not rebuild:
        refuse_changes(out, before.description, config, identity, lengths.fingerprint)
    files = find_files(inputs, whole=config.whole)
    if before is not None and not rebuild and before.rows.holds(files, cut_settings(config, lengths)):
        kept = before.description.passages
        return _report(before.description, began, changed=False, added=0, kept=kept, removed=0, embedded=0)
    out.mkdir(exist_ok=True)
    sweep(out)
    building = out / BUILDING
    _start(building)
    spool = Spool(building / _READ, field=config.chunk.field)
    cutter = Cutter(building, spool, config, lengths, None if before is None or rebuild else before.rows)
    fields, rejected = cutter.write(files)
    keys = _keys(building)
    if not keys:
        reasons = ", ".join(f"{number} {reason}" for reason, number in rejected.items())
        shutil.rmtree(building)
        raise InputError(f"{inputs[0]}: no passage is left of {len(files)} files ({reasons or 'no text'})")
    known = Known.none()
    dimension = config.dimensions or identity.dimension
    if before is not None and before.description.encoder == identity:
        known = before.vectors if before.vectors.serve(config.store_dtype, dimension) else known
    embedded = embed(
        building, encoder, known, dimension=dimension, dtype=config.store_dtype, cache=building / _EMBEDDED
    )
    BM25(Passages(building), k1=config.k1, b=config.b).save(building / BM25_FOLDER)
    backend = _backend(config, len(keys))
    description = IndexDescription(
        format=FORMAT,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model=str(Path(model).resolve()) if Path(model).exists() else model,
        encoder=identity,
        config=asdict(config),
        lengths=lengths.fingerprint,
        inputs=[str(path) for path in inputs],
        files=len(files),
        passages=len(keys),
        rejected=rejected,
        fields=fields,
        backend=backend,
        ann=write_lance(building, ann_from=config.ann_from) if backend == "lancedb" else None,
    )
    old = set() if before is None else _keys(before.folder)
    write_json(building / DESCRIPTION, as_dict(description))
    for name in (_READ, _EMBEDDED):
        shutil.rmtree(building / name, ignore_errors=True)
    publish(out)
    counts = {"added": len(keys - old), "kept": len(keys & old), "removed": len(old - keys)}
    return _report(description, began, changed=True, embedded=embedded, **counts)


def _keys(folder: Path) -> set[bytes]:
    """Return what tells the passages of a generation apart: their texts and ids."""
    return {key.tobytes() for key in np.load(folder / KEYS, mmap_mode="r")}


def _report(description: IndexDescription, began: float, **counts: Any) -> IndexReport:
    return IndexReport(description=description, seconds=round(time.monotonic() - began, 3), **counts)


def _start(building: Path) -> None:
    """Make ready to build; what a killed run read and encoded stays."""
    building.mkdir(exist_ok=True)
    _clear(building)


def _clear(building: Path) -> None:
    for path in building.iterdir():
        if path.name not in (_READ, _EMBEDDED):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _backend(config: IndexConfig, passages: int) -> Literal["flat", "lancedb"]:
    if config.backend != "auto":
        return config.backend
    return "lancedb" if passages >= SMALL and find_spec("lancedb") is not None else "flat"


@contextmanager
def _told_when_full(out: Path) -> Iterator[None]:
    """Say of a full disk that it is one, and leave what was encoded for the next run."""
    try:
        yield
    except Exception as error:
        full = isinstance(error, OSError) and error.errno in _FULL
        if not full and "No space left on device" not in str(error):  # as LanceDB has it
            raise
        with suppress(OSError):
            _clear(out / BUILDING)
        state = "is as it was" if current(out) is not None else "is not there yet"
        raise RunFailure(f"{out}: the disk is full; the index {state}: make room and run again") from None
