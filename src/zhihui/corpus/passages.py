"""Documents to passages: cleaned, filtered, cut, each with a title and the place it comes from."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from zhihui.corpus.boilerplate import without
from zhihui.corpus.chunking import chunk
from zhihui.corpus.cleaning import plain_characters, tidy_spaces
from zhihui.corpus.config import ChunkConfig
from zhihui.corpus.document import Document, Section
from zhihui.corpus.language import chinese_share, converter, in_script
from zhihui.corpus.lengths import Lengths
from zhihui.corpus.wrapping import join_wrapped
from zhihui.records import BadRow, Passage

_BETWEEN_HEADINGS = " > "
_NO_WORD = re.compile(r"[\W_]+")
_TELLING = 32  # letters from which on a text is the same whatever its title says; 无 under two headings is not


def clean(document: Document, config: ChunkConfig, repeated: frozenset[str] = frozenset()) -> Document:
    """Return a document as passages are cut from it.

    Args:
        document: as it was read, its characters plain.
        config: what is done.
        repeated: boilerplate lines, as `RepeatedLines.found` returns them.
    """
    convert = converter(config.fold)

    def finish(text: str, *, indented: bool) -> str:
        if config.nfkc:
            text = plain_characters(text, nfkc=True)
        text = tidy_spaces(text, indented=indented)
        return text if convert is None else convert(text)

    sections = []
    for section in _without(document, repeated):
        text = join_wrapped(section.text) if config.join and document.wrapped else section.text
        headings = tuple(finish(each, indented=False) for each in section.headings)
        sections.append(Section(finish(text, indented=document.indented), headings))
    return Document(
        source=document.source,
        where=document.where,
        id=document.id,
        title=finish(document.title, indented=False),
        sections=sections,
    ).with_sections(sections)


def cut(document: Document, config: ChunkConfig, lengths: Lengths) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each passage of a cleaned document as a row, and its heading path joined to what it is compared by.

    Args:
        document: as `clean` returns it.
        config: size and overlap.
        lengths: what the size is counted in.
    """
    for start, section in document.placed():
        title = _title(document.title, section.headings)
        # A title too long to leave room is the exception; half the size is for the text in any case.
        taken = lengths.of([f"{title} "])[0] if title else 0
        room = max(config.size - taken, config.size // 2)
        for span in chunk(section.text, size=room, overlap=config.overlap, lengths=lengths):
            text = section.text[span.start : span.end]
            metadata = {
                "source": document.source,
                "document": document.where,
                "headings": list(section.headings),
                "start": start + span.start,
                "end": start + span.end,
            }
            if document.id is not None:
                metadata["id"] = document.id
            row = {"_id": _digest(f"{title}\0{text}", 8), "title": title, "text": text, "metadata": metadata}
            yield same_as(title, text), row


def check(row: dict[str, Any], config: ChunkConfig) -> None:
    """See that a passage is worth keeping.

    Raises:
        BadRow: too short, too little Chinese, or the other script.
        MissingExtra: OpenCC is needed for scripts and is not installed.
    """
    metadata = row["metadata"]
    where = f"{metadata['document']}@{metadata['start']}"
    full = Passage(row["text"], row["title"]).full
    letters = len(_NO_WORD.sub("", full))
    if letters < config.least or not _NO_WORD.sub("", row["text"]):
        reason = f"has {letters} letters, digits and Chinese characters with its title; least is {config.least}"
        raise BadRow(where, "too_short", reason)
    if (share := chinese_share(row["text"])) < config.min_chinese:
        reason = f"{share:.0%} of its letters are Chinese; min_chinese is {config.min_chinese:.0%}"
        raise BadRow(where, "little_chinese", reason)
    if not in_script(full, config.script):
        raise BadRow(where, "other_script", f"is not in {config.script} Chinese; fold brings all texts to one script")


def same_as(title: str, text: str) -> str:
    """Return what two passages share if one of them is enough: letters alone, and the title where they are few."""
    bare = _bare(text)
    return _digest(bare if len(bare) >= _TELLING else f"{_bare(title)}\0{bare}", 16)


def _bare(text: str) -> str:
    return _NO_WORD.sub("", unicodedata.normalize("NFKC", text).lower())


def _digest(text: str, size: int) -> str:
    return hashlib.blake2b(text.encode(), digest_size=size).hexdigest()


def _title(title: str, headings: tuple[str, ...]) -> str:
    path = headings if not title or title in headings else (title, *headings)
    return _BETWEEN_HEADINGS.join(path)


def _without(document: Document, repeated: frozenset[str]) -> list[Section]:
    if not repeated or not document.is_file:
        return document.sections
    lines = [section.text.split("\n") for section in document.sections]
    kept = iter(without([line for some in lines for line in some], repeated))
    return [
        Section("\n".join(next(kept) for _ in some), section.headings)
        for some, section in zip(lines, document.sections, strict=True)
    ]
