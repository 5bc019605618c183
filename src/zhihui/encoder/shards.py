"""Vectors of a whole file of texts, written in shards as a stage: a killed run goes on at the shard it was in.

The texts are read twice, a shard at a time: once to find every fault before hours of encoding, once to encode. Memory
holds one shard, however long the file.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from zhihui import progress
from zhihui.encoder.protocol import TextEncoder, encode_as
from zhihui.encoder.settings import Role
from zhihui.encoder.texts import Text, read_texts
from zhihui.errors import InputError, RunFailure, require
from zhihui.records import REJECTED, RejectLog, read_rows, write_rows
from zhihui.runs import Manifest, atomic_open, read_manifest, run_stage

Form = Literal["npy", "parquet"]
StoreDtype = Literal["float32", "float16"]
STAGE = "encode"
WORK = "work"
"""Folder in the stage's of what a `ShardEncoder` keeps until all shards are written."""


@dataclass(frozen=True, kw_only=True)
class ShardConfig:
    """What the vectors of a file are and how they are written."""

    role: Role
    """Whose prompt stands before the texts."""
    instruction: str | None = None
    """Of queries: the task in words instead of the model's own prompt."""
    form: Form = "npy"
    """npy: vectors-00000.npy beside ids-00000.jsonl; parquet: vectors-00000.parquet with columns id and vector."""
    size: int = 20_000
    """Texts in a shard: what memory holds at once, and what a killed run does again at most."""
    store_dtype: StoreDtype = "float32"
    """What the numbers are stored in; float16 halves the space and rounds at the fourth digit."""
    field: str | None = None
    """Key of the text in a row; None takes the obvious one, see `zhihui.encoder.texts`."""

    def __post_init__(self) -> None:
        for name, allowed in (("role", Role), ("form", Form), ("store_dtype", StoreDtype)):
            if getattr(self, name) not in get_args(allowed):
                raise InputError(f"{name} {getattr(self, name)!r} is unknown; choose {' or '.join(get_args(allowed))}")
        if self.size < 1:
            raise InputError(f"shard size {self.size} is not positive; put at least 1 text in a shard")
        if self.instruction is not None and self.role != "query":
            raise InputError("an instruction belongs to queries; leave it out, or encode with role query")


class Finished(NamedTuple):
    """A shard that is written."""

    texts: int
    dimension: int
    """Numbers of a vector."""


@runtime_checkable
class ShardEncoder(Protocol):
    """Writes shards in a way of its own, such as on several machines."""

    @property
    def fingerprint(self) -> str:
        """Of the model, as a `TextEncoder` has it."""

    def encode_shards(self, folder: Path, shards: Iterable[Sequence[Text]], config: ShardConfig) -> Iterator[Finished]:
        """Write the shards in a folder as `finish_shard` does; yield each as it is done, in any order."""


def check_texts(source: Path, config: ShardConfig, *, quarantine: bool = False) -> int:
    """Read a file of texts to its end and return how many usable ones it has.

    Raises:
        InputError: as `encode_file`.
    """
    with RejectLog(None) as rejects:
        texts = read_texts(source, role=config.role, field=config.field, rejects=rejects if quarantine else None)
        count = sum(1 for _ in progress.track(texts, total=None, label="Reading"))
    if not count:
        why = ", ".join(f"{reason}: {number}" for reason, number in sorted(rejects.counts.items()))
        raise InputError(f"{source}: no usable text ({why or 'the file is empty'}); nothing to encode")
    return count


def encode_file(
    source: Path,
    out: Path,
    encoder: TextEncoder | ShardEncoder,
    config: ShardConfig,
    *,
    quarantine: bool = False,
    overwrite: bool = False,
    total: int | None = None,
) -> Manifest:
    """Encode a file of texts into the stage folder `out`; `read_shards` reads it.

    Args:
        source: .jsonl, .jsonl.gz, .parquet, or .txt with one text a line.
        out: the stage's folder.
        encoder: a model, a `ParallelEncoder`, or what writes the shards itself.
        config: role, form, shards.
        quarantine: set unusable rows aside in rejected.jsonl in place of stopping at the first.
        overwrite: replace a finished run of other inputs or settings.
        total: what `check_texts` returned, where that was called before the model was loaded; None calls it.

    Raises:
        InputError: no such file, an unusable row ("file:line: reason; mend"), no usable text, no such field.
        RunFailure: the encoder returned NaN or infinity, or numbers beyond what `store_dtype` holds.
        MissingExtra: Parquet is asked for and pyarrow is not installed.
    """
    if config.form == "parquet":
        _pyarrow("pyarrow.parquet")
    count = check_texts(source, config, quarantine=quarantine) if total is None else total

    def work(folder: Path) -> dict[str, Any]:
        counts = {"texts": 0, "shards": 0, "dimension": 0}
        with RejectLog(folder / REJECTED) as rejects, progress.bar(count, source.name) as bar:
            texts = read_texts(source, role=config.role, field=config.field, rejects=rejects if quarantine else None)
            shards = iter(lambda: list(islice(texts, config.size)), [])
            for done in _encode_shards(folder, shards, encoder, config):
                counts["dimension"] = done.dimension
                counts["shards"] += 1
                counts["texts"] += done.texts
                bar.advance(done.texts)
        shutil.rmtree(folder / WORK, ignore_errors=True)
        return {**counts, "rejected": dict(sorted(rejects.counts.items()))}

    return run_stage(
        STAGE,
        out,
        work,
        inputs={"source": source, "encoder": encoder.fingerprint},
        config={"quarantine": quarantine, "shards": config},
        overwrite=overwrite,
    )


def read_shards(folder: Path) -> Iterator[tuple[list[str], NDArray[np.floating[Any]]]]:
    """Yield the ids and vectors `[n, D]` of each shard in order, as stored; those in .npy are memory-mapped.

    Raises:
        InputError: the folder is not a finished run of `encode_file`.
    """
    manifest = read_manifest(folder)
    if manifest is None or manifest.stage != STAGE:
        raise InputError(f"{folder}: holds no finished `zhihui encode`; encode the texts first")
    for number in range(manifest.counts["shards"]):
        path = _vectors_path(folder, number, manifest.config["shards"]["form"])
        if path.suffix == ".npy":
            ids = [row.data["id"] for row in read_rows(_ids_path(folder, number))]
            yield ids, np.load(path, mmap_mode="r")
        else:
            table = _pyarrow("pyarrow.parquet").read_table(path)
            column = table["vector"].combine_chunks()
            yield table["id"].to_pylist(), column.values.to_numpy().reshape(len(column), -1)


# --------------------------------------------------------------------------- one shard


def _encode_shards(
    folder: Path, shards: Iterable[Sequence[Text]], encoder: TextEncoder | ShardEncoder, config: ShardConfig
) -> Iterator[Finished]:
    if isinstance(encoder, ShardEncoder):
        yield from encoder.encode_shards(folder, shards, config)
        return
    for number, texts in enumerate(shards):
        yield finish_shard(folder, number, texts, encoder, config)


def finished_shard(folder: Path, number: int, texts: int, config: ShardConfig) -> Finished | None:
    """Return what there is of a shard of so many texts: it is there whole, or None."""
    path = _vectors_path(folder, number, config.form)
    return Finished(texts, _dimension(path)) if path.exists() else None


def _ids_path(folder: Path, number: int) -> Path:
    return folder / f"ids-{number:05d}.jsonl"


def _vectors_path(folder: Path, number: int, form: str) -> Path:
    return folder / f"vectors-{number:05d}.{form}"


def finish_shard(
    folder: Path, number: int, texts: Sequence[Text], encoder: TextEncoder, config: ShardConfig
) -> Finished:
    """Encode and write a shard, unless a killed attempt has.

    Raises:
        RunFailure: as `encode_file`.
    """
    done = finished_shard(folder, number, len(texts), config)
    if done is not None:
        return done
    path = _vectors_path(folder, number, config.form)
    full = encode_as(encoder, [text.text for text in texts], role=config.role, instruction=config.instruction)
    with np.errstate(over="ignore"):  # told below
        vectors = np.ascontiguousarray(full, dtype=config.store_dtype)
    _check(vectors, full, texts, encoder, config)
    if config.form == "npy":
        # Vectors last: they are the mark that the shard is whole.
        write_rows(_ids_path(folder, number), ({"id": text.id} for text in texts))
        with atomic_open(path, "wb") as stream:
            np.save(stream, vectors)
    else:
        _write_parquet(path, [text.id for text in texts], vectors)
    return Finished(len(texts), vectors.shape[1])


def _check(
    vectors: NDArray[Any], full: NDArray[np.float32], texts: Sequence[Text], encoder: TextEncoder, config: ShardConfig
) -> None:
    if vectors.ndim != 2 or len(vectors) != len(texts):
        raise RunFailure(f"{encoder.name} returned vectors {list(vectors.shape)} for {len(texts)} texts")
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if bad.size:
        where = texts[int(bad[0])].where
        if np.isfinite(full).all():
            raise RunFailure(f"{where}: its vector is beyond {config.store_dtype}; store float32")
        raise RunFailure(
            f"{where}: {encoder.name} gave a vector with NaN or infinity ({bad.size} such in this shard); "
            "compute in bfloat16 or float32 (--dtype)"
        )


def _write_parquet(path: Path, ids: list[str], vectors: NDArray[Any]) -> None:
    arrow, parquet = _pyarrow("pyarrow"), _pyarrow("pyarrow.parquet")
    column = arrow.FixedSizeListArray.from_arrays(arrow.array(vectors.reshape(-1)), vectors.shape[1])
    table = arrow.table({"id": arrow.array(ids, type=arrow.string()), "vector": column})
    with atomic_open(path, "wb") as stream:
        # Numbers of a vector hardly repeat: neither a dictionary nor compression makes them smaller.
        parquet.write_table(table, stream, compression="none", use_dictionary=False)


def _dimension(path: Path) -> int:
    if path.suffix == ".npy":
        return int(np.load(path, mmap_mode="r").shape[1])
    return int(_pyarrow("pyarrow.parquet").read_schema(path).field("vector").type.list_size)


def _pyarrow(module: str) -> Any:
    return require(module, extra="data", purpose="writing vectors as Parquet")
