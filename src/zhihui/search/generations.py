"""Generations: an index is a folder of whole states, of which a pointer file names the one that counts.

    INDEX/current.json            names a generation; replaced by a rename
    INDEX/generation-000002/      never changed once it is there
    INDEX/.building/              what a writer is at; after a kill the next one goes on from it

A writer renames what it built to a new generation, then the pointer, then removes the old generation. A reader holds
a shared lock on the folder it reads; one that is in use is left for the next writer to remove.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from zhihui.errors import InputError, RunFailure
from zhihui.runs import read_json, write_json
from zhihui.search.description import FORMAT, check_format

POINTER = "current.json"
BUILDING = ".building"
_NAME = re.compile(r"generation-(\d{6,})")
_TORN = re.compile(rf"\.{re.escape(POINTER)}\.\d+\.partial")
_ATTEMPTS = 50  # a writer that switched between the reading of the pointer and the lock; once is rare


class Generation(NamedTuple):
    """A generation that is being read."""

    folder: Path
    lock: int
    """Descriptor that holds the shared lock; closing it lets go."""


def current(index: Path) -> Path | None:
    """Return the folder of the generation that counts; None where there is no index.

    Raises:
        InputError: the pointer is damaged or of a newer format.
    """
    if not (index / POINTER).is_file():
        return None
    pointer = read_json(index / POINTER)
    check_format(index, pointer)
    name = str(pointer.get("generation"))
    if not _NAME.fullmatch(name):
        raise InputError(f"{index / POINTER}: names no generation; write the index again with --rebuild")
    return index / name


def open_generation(index: Path) -> Generation:
    """Take the generation that counts and keep writers from removing it.

    Raises:
        InputError: not an index, or its generation is not there.
    """
    for _ in range(_ATTEMPTS):
        folder = current(index)
        if folder is None:
            what = "not an index" if index.exists() else "no such index"
            raise InputError(f"{index}: {what}; write one with zhihui index DOCUMENTS --out {index}")
        lock = _lock(folder, fcntl.LOCK_SH)
        if lock is not None:
            return Generation(folder, lock)
    raise InputError(f"{index}: the generation it names is not there; write the index again with --rebuild")


def is_ours(name: str) -> bool:
    """Whether an entry of a folder is one that a writer leaves there."""
    return name in (POINTER, BUILDING) or any(pattern.fullmatch(name) for pattern in (_NAME, _TORN))


def publish(index: Path) -> Path:
    """Make what was built the generation that counts, and remove those before it that nobody reads."""
    number = max((int(found[1]) for found in map(_NAME.fullmatch, os.listdir(index)) if found), default=0) + 1
    folder = index / f"generation-{number:06d}"
    (index / BUILDING).rename(folder)
    write_json(index / POINTER, {"format": FORMAT, "generation": folder.name})
    sweep(index)
    return folder


def sweep(index: Path) -> None:
    """Remove the generations that do not count and are not read, and a pointer that a killed writer had in hand."""
    counts = current(index)
    for name in sorted(os.listdir(index)):
        folder = index / name
        if _TORN.fullmatch(name):
            folder.unlink()
        if not _NAME.fullmatch(name) or folder == counts:
            continue
        lock = _lock(folder, fcntl.LOCK_EX)
        if lock is not None:
            try:
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _lock(folder: Path, kind: int) -> int | None:
    """Lock a generation's folder and return the descriptor; None where it is locked otherwise or not there."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        if _is_named(folder, descriptor):
            return descriptor
    except BlockingIOError:
        pass
    os.close(descriptor)
    return None


@contextmanager
def only_writer(index: Path) -> Iterator[None]:
    """Be the only writer of an index for the length of the block; the lock of a dead process holds nobody up.

    Raises:
        RunFailure: another process is writing.
    """
    index.parent.mkdir(parents=True, exist_ok=True)
    path = index.with_name(f".{index.name}.lock")
    while True:
        with path.open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise RunFailure(
                    f"{index}: process {lock.read().strip() or 'unknown'} is writing it; wait until it is done"
                ) from None
            if not _is_named(path, lock.fileno()):
                continue  # its holder ended just now and removed it: it guards nothing
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is_named(path: Path, descriptor: int) -> bool:
    """Whether an open file or folder is the one of this name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
