"""Document: a title and sections of text, each under its headings; what every reader makes of a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

_BETWEEN = "\n\n"


@dataclass(frozen=True, slots=True)
class Section:
    """Text under one path of headings."""

    text: str
    headings: tuple[str, ...] = ()
    """From the outermost inwards."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A document as it was read, and then as it was cleaned."""

    source: str
    """The file, relative to the folder that was given."""
    where: str
    """What tells it from all others: its source, for a row "file:line"."""
    title: str
    sections: list[Section]
    id: str | None = None
    """The id a row had of its own."""
    wrapped: bool = False
    """Whether its lines may have been wrapped at a fixed width: plain text and PDF."""
    indented: bool = False
    """Whether the spaces a line begins with have a meaning: code in Markdown and HTML."""

    @property
    def text(self) -> str:
        """The sections' texts one after another; what a passage's start and end count in."""
        return _BETWEEN.join(section.text for section in self.sections)

    @property
    def is_file(self) -> bool:
        """Whether it is a whole file, not a row of one."""
        return self.where == self.source

    def placed(self) -> Iterator[tuple[int, Section]]:
        """Yield each section with its start in the text."""
        start = 0
        for section in self.sections:
            yield start, section
            start += len(section.text) + len(_BETWEEN)

    def with_sections(self, sections: list[Section]) -> Document:
        """Return it with other sections, blank ones left out."""
        return replace(self, sections=[section for section in sections if section.text])


@dataclass
class Outline:
    """Collects a document's blocks in reading order into sections."""

    sections: list[Section] = field(default_factory=list)
    first_heading: str = ""
    """The first heading of the outermost level."""
    _headings: dict[int, str] = field(default_factory=dict)
    _blocks: list[str] = field(default_factory=list)
    _first_level: int = 99

    def heading(self, level: int, text: str) -> None:
        """Begin a section; headings of the same and of inner levels end."""
        self._end()
        text = " ".join(text.split())
        self._headings = {other: name for other, name in self._headings.items() if other < level}
        if text:
            self._headings[level] = text
            if level < self._first_level:
                self.first_heading, self._first_level = text, level

    def block(self, text: str) -> None:
        """Add a paragraph, a whole list, a table or code; blank ones are left out."""
        if text.strip():
            self._blocks.append(text.strip("\n"))

    def finish(self) -> list[Section]:
        """Return the sections."""
        self._end()
        return self.sections

    def _end(self) -> None:
        if self._blocks:
            path = tuple(self._headings[level] for level in sorted(self._headings))
            self.sections.append(Section(_BETWEEN.join(self._blocks), path))
            self._blocks = []
