"""What an index says of itself: by which model it was made, with which settings, and what is in it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from zhihui.encoder.protocol import TextEncoder
from zhihui.errors import InputError
from zhihui.runs import read_json

FORMAT = 1
"""To be raised when an older zhihui could not read what is written."""
DESCRIPTION = "description.json"
FieldKind = Literal["text", "number", "flag"]


@dataclass(frozen=True, kw_only=True)
class EncoderIdentity:
    """Everything of a model that the vectors in an index depend on."""

    fingerprint: str
    """Changes with weights, tokenizer, prompts, pooling, dtype, length, attention."""
    dimension: int
    pooling: str | None
    """None, as the next four, where the encoder does not say."""
    normalize: bool | None
    max_length: int | None
    prompts: dict[str, str] | None
    dtype: str | None

    @classmethod
    def of(cls, encoder: TextEncoder) -> EncoderIdentity:
        """Ask an encoder; one that names no dimension encodes a text to know it."""
        settings = getattr(encoder, "settings", None)
        dimension = getattr(encoder, "dimension", None)
        if dimension is None:
            dimension = encoder.encode_documents(["维"]).shape[1]
        dtype = getattr(encoder, "dtype", None)
        return cls(
            fingerprint=encoder.fingerprint,
            dimension=int(dimension),
            pooling=getattr(settings, "pooling", None),
            normalize=getattr(settings, "normalize", None),
            max_length=getattr(settings, "max_length", None),
            prompts=None if settings is None else {role: text for role, text in settings.prompts.items() if text},
            dtype=None if dtype is None else str(dtype).removeprefix("torch."),
        )

    def changes(self, other: EncoderIdentity) -> str:
        """Return in words how another encoder differs, "" if it gives the same vectors."""
        if self.fingerprint == other.fingerprint:
            return ""
        said = [
            f"{each.name} {getattr(self, each.name)!r} became {getattr(other, each.name)!r}"
            for each in fields(self)
            if each.name != "fingerprint" and getattr(self, each.name) != getattr(other, each.name)
        ]
        return ", ".join(said) or "its weights or tokenizer are others"


@dataclass(frozen=True, kw_only=True)
class IndexDescription:
    """What is in one generation of an index."""

    format: int
    created: str
    """When it was written: ISO 8601, UTC."""
    model: str
    """Folder or hub id."""
    encoder: EncoderIdentity
    config: dict[str, Any]
    """The `IndexConfig`, whole."""
    lengths: str
    """Fingerprint of what the passages' size is counted in."""
    inputs: list[str]
    """The files and folders that were given."""
    files: int
    passages: int
    rejected: dict[str, int]
    """Files, rows and passages that were left out, by reason."""
    fields: dict[str, FieldKind]
    """What can be filtered by, and what kind of values it holds."""
    backend: Literal["flat", "lancedb"]
    ann: dict[str, Any] | None
    """The approximate index and its measured recall; None where the search is exact."""

    @property
    def fingerprint(self) -> str:
        """The encoder's."""
        return self.encoder.fingerprint

    @property
    def dimension(self) -> int:
        """Length D of a vector, as it is stored."""
        return int(self.config.get("dimensions") or self.encoder.dimension)


def read_description(folder: Path) -> IndexDescription:
    """Read the description of a generation.

    Raises:
        InputError: absent, damaged, or of a newer format.
    """
    raw = read_json(folder / DESCRIPTION)
    check_format(folder, raw)
    try:
        return IndexDescription(**{**raw, "encoder": EncoderIdentity(**raw["encoder"])})
    except (TypeError, KeyError):
        raise InputError(f"{folder / DESCRIPTION}: damaged; write the index again with --rebuild") from None


def check_format(where: Path, raw: Any) -> None:
    """See that what was read was written by this zhihui or an older one.

    Raises:
        InputError: it was not, or is no index's.
    """
    written = raw.get("format") if isinstance(raw, dict) else None
    if not isinstance(written, int):
        raise InputError(f"{where}: not an index; write one with zhihui index DOCUMENTS --out FOLDER")
    if written > FORMAT:
        raise InputError(f"{where}: has format {written}, this zhihui reads {FORMAT}; install a newer zhihui")


def as_dict(description: IndexDescription) -> dict[str, Any]:
    """Return a description as it is written."""
    return asdict(description)
