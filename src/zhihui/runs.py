"""Runs: a stage is a function from files to files that finishes whole or not at all.

A stage works in a hidden folder beside its destination and is renamed into place once its manifest, always
the last file, is written. So a folder that has a `manifest.json` is complete; the same stage asked for again
finds it and does nothing; a stage killed at any point finds its work under the same key and goes on.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, is_dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from zhihui.errors import InputError, RunFailure

MANIFEST = "manifest.json"
_KEY = ".key.json"
_VERSIONED = ("zhihui", "torch", "transformers", "sentence-transformers", "tokenizers", "mteb", "numpy")


# --------------------------------------------------------------------------- fingerprints


def fingerprint(value: Any) -> str:
    """Return the SHA-256 (hex) of a JSON-like value, whatever the order of keys; a dataclass is a dict."""
    return hashlib.sha256(to_json(value).encode()).hexdigest()


def fingerprint_path(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's bytes, or of a folder's relative names and bytes.

    A folder's own manifest is left out: it holds the time the work took, and the same work done twice is one.

    Raises:
        InputError: the path does not exist.
    """
    if path.is_file():
        return _file_digest(path)
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder")
    whole = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file() and file != path / MANIFEST):
        whole.update(f"{file.relative_to(path).as_posix()}\0{_file_digest(file)}\n".encode())
    return whole.hexdigest()


def _file_digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Serialise with sorted keys, Chinese kept readable, dataclasses and paths understood."""

    def simplify(item: Any) -> Any:
        if is_dataclass(item) and not isinstance(item, type):
            return asdict(item)
        if isinstance(item, Path):
            return str(item)
        raise TypeError(f"cannot write {type(item).__name__} as JSON: {item!r}")

    return json.dumps(value, ensure_ascii=False, sort_keys=True, indent=indent, default=simplify)


# --------------------------------------------------------------------------- atomic files


@contextmanager
def atomic_open(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file that appears under its name only when the block ends without an error.

    Args:
        path: the destination; its folder is made.
        mode: "w" (UTF-8 text, newlines as written) or "wb".
    """
    assert mode in ("w", "wb"), f"atomic_open writes whole files, not {mode!r}"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    text: dict[str, Any] = {} if mode == "wb" else {"encoding": "utf-8", "newline": "\n"}
    try:
        with partial.open(mode, **text) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    with atomic_open(path) as stream:
        stream.write(to_json(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: the file is absent or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid JSON: {error}") from None


# --------------------------------------------------------------------------- stages


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The record a finished stage leaves beside its files."""

    stage: str
    key: str
    """Fingerprint of the stage's name, inputs and config: two runs with one key do the same work."""
    inputs: dict[str, str]
    """SHA-256 of each input, by the role it plays."""
    config: Any
    """The effective configuration, whole."""
    counts: dict[str, Any]
    """What the stage counted: rows kept, rows rejected by reason, tokens, ..."""
    versions: dict[str, str]
    seconds: float
    """Wall-clock seconds of the attempt that finished."""
    reused: bool = field(default=False, compare=False)
    """True when this call found the work done. Never written."""


def run_stage(
    name: str,
    out: Path,
    work: Callable[[Path], Mapping[str, Any]],
    *,
    inputs: Mapping[str, Path | str],
    config: Any,
    overwrite: bool = False,
) -> Manifest:
    """Run a stage into the folder `out`, or return at once when that work is already there.

    Args:
        name: the stage, for the manifest and messages.
        out: destination folder.
        work: receives the folder to write into and returns its counts. It may find files there from a
            killed attempt with the same key and go on from them.
        inputs: files or folders the result depends on, by role; a `str` is a fingerprint already computed.
        config: JSON-like or dataclass, all settings the result depends on.
        overwrite: replace a finished run of other inputs or another config; never anything else.

    Raises:
        InputError: `out` holds something else, or an input is missing.
        RunFailure: another process is at work on the same folder.
    """
    if out.name in ("", ".."):
        raise InputError(f"{out}: a run is a folder of its own; give it a name")
    hashes = {role: fingerprint_path(v) if isinstance(v, Path) else v for role, v in sorted(inputs.items())}
    plain_config = json.loads(to_json(config))
    key = fingerprint([name, hashes, plain_config])
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    with _alone(out):
        done = read_manifest(out)
        if done is not None and done.key == key:
            return done
        free = not out.exists() or (out.is_dir() and not any(out.iterdir()))
        if not free and (done is None or not overwrite):
            raise InputError(_occupied(out, done, name, plain_config))
        manifest = read_manifest(partial)
        if manifest is None or manifest.key != key:
            manifest = _work(name, key, partial, work, inputs=hashes, config=plain_config)
        (partial / _KEY).unlink(missing_ok=True)
        replace_folder(out, partial)
        return manifest


def replace_folder(folder: Path, new: Path) -> None:
    """Rename the folder `new` to `folder`; what was there goes only once the new one is in place."""
    old = folder.with_name(f".{folder.name}.old")
    if old.exists():
        shutil.rmtree(old)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    if old.exists():
        shutil.rmtree(old)


def _work(
    name: str,
    key: str,
    partial: Path,
    work: Callable[[Path], Mapping[str, Any]],
    *,
    inputs: dict[str, str],
    config: Any,
) -> Manifest:
    """Do the stage's work in `partial`, going on from an earlier attempt only if it was the same work."""
    resumed = (partial / _KEY).is_file() and read_json(partial / _KEY) == key
    if partial.exists() and not resumed:
        shutil.rmtree(partial)
    partial.mkdir(exist_ok=True)
    for torn in partial.rglob(".*.partial"):  # what a killed attempt had open in `atomic_open`
        if torn.is_file():
            torn.unlink()
    write_json(partial / _KEY, key)
    start = time.monotonic()
    try:
        counts = work(partial)
    except InputError:
        if not resumed:  # bad input leaves nothing behind; what an earlier attempt had done is worth keeping
            shutil.rmtree(partial)
        raise
    manifest = Manifest(
        stage=name,
        key=key,
        inputs=inputs,
        config=config,
        counts=dict(counts),
        versions=versions(),
        seconds=round(time.monotonic() - start, 3),
    )
    write_json(partial / MANIFEST, {k: v for k, v in asdict(manifest).items() if k != "reused"})
    return manifest


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of a finished stage, or None when the folder is not one."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    raw = read_json(path)
    try:
        return Manifest(**raw, reused=True)
    except TypeError:
        raise InputError(f"{path}: not a manifest of zhihui") from None


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that can change a result."""
    found = {"python": platform.python_version()}
    for package in _VERSIONED:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _occupied(out: Path, done: Manifest | None, name: str, config: Any) -> str:
    mend = "choose another folder, or pass --overwrite to replace it"
    if done is None:
        return f"{out}: exists and was not made by zhihui; choose another folder"
    if done.stage != name:
        return f"{out}: holds a finished {done.stage} run; {mend}"
    new, old = (each if isinstance(each, dict) else {"config": each} for each in (config, done.config))
    changed = sorted(setting for setting in {**new, **old} if new.get(setting) != old.get(setting))
    what = f"other settings ({', '.join(changed)})" if changed else "other inputs"
    return f"{out}: holds a finished {name} run with {what}; {mend}"


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    path = out.with_name(f".{out.name}.lock")
    while True:
        with path.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                mend = "wait for it or choose another folder"
                raise RunFailure(f"{out}: another zhihui process is writing there; {mend}") from None
            if not _is_open_file(path, lock.fileno()):
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is_open_file(path: Path, descriptor: int) -> bool:
    """Whether the file under this name is the open one: its holder removes it, and then it guards nothing."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
