"""Markdown: headings become the path, lists and tables lines, code stays as text; links keep their words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import yaml

from zhihui.corpus.decoding import decode
from zhihui.corpus.document import Document, Outline
from zhihui.corpus.readers.text import title_of
from zhihui.corpus.wrapping import glue
from zhihui.errors import require

if TYPE_CHECKING:
    from markdown_it.token import Token

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_UNSEEN = re.compile(r"<!--.*?-->|<(script|style)\b.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_CONTAINER = re.compile(r":{3,}.*")  # ::: tip


def read(data: bytes, source: str) -> Document:
    """Read a Markdown file; a title in its front matter goes before its first heading.

    Raises:
        BadRow: no known encoding.
        MissingExtra: markdown-it-py is not installed.
    """
    parser = require("markdown_it", extra="corpus", purpose="reading Markdown")
    text = decode(data, where=source).replace("\r\n", "\n").replace("\r", "\n")
    title, body = _front_matter(text)
    tokens = parser.MarkdownIt("commonmark").enable("table").parse(body)
    walk = _Walk()
    walk.through(tokens)
    sections = walk.outline.finish()
    return Document(
        source=source,
        where=source,
        title=title or walk.outline.first_heading or title_of(source),
        sections=sections,
        indented=True,
    )


def _front_matter(text: str) -> tuple[str, str]:
    found = _FRONT_MATTER.match(text)
    if found is None:
        return "", text
    try:
        settings = yaml.safe_load(found[1])
    except yaml.YAMLError:
        return "", text[found.end() :]
    title = settings.get("title") if isinstance(settings, dict) else None
    return (title.strip() if isinstance(title, str) else ""), text[found.end() :]


class _Walk:
    def __init__(self) -> None:
        self.outline = Outline()
        self._lists: list[int | None] = []
        """Of each list around: the number of the next item, None for bullets."""
        self._mark = ""
        self._lines: list[str] = []
        """Of the outermost list or the table that is open."""
        self._cells: list[str] | None = None
        self._heading: int | None = None

    def through(self, tokens: Iterable[Token]) -> None:
        for token in tokens:
            match token.type:
                case "heading_open":
                    self._heading = int(token.tag[1:])
                case "inline":
                    self._text(_inline(token.children or []))
                case "fence" | "code_block":
                    self._text(token.content.rstrip("\n"))
                case "html_block":
                    self._text(_TAG.sub("", _BREAK.sub("\n", _UNSEEN.sub("", token.content))).strip())
                case "bullet_list_open":
                    self._lists.append(None)
                case "ordered_list_open":
                    self._lists.append(int(token.attrs.get("start", 1)))
                case "list_item_open":
                    self._mark = self._next_mark()
                case "bullet_list_close" | "ordered_list_close":
                    self._lists.pop()
                    self._close_lines()
                case "tr_open":
                    self._cells = []
                case "tr_close":
                    self._lines.append(" | ".join(self._cells or []))
                    self._cells = None
                case "table_close":
                    self._close_lines()
                case _:
                    pass

    def _text(self, text: str) -> None:
        if self._heading is not None:
            self.outline.heading(self._heading, text)
            self._heading = None
        elif self._cells is not None:
            self._cells.append(" ".join(text.split()))
        elif self._lists:
            indent = "  " * (len(self._lists) - 1)
            first, *rest = text.split("\n")
            self._lines.append(f"{indent}{self._mark or '  '}{first}")
            self._lines += [f"{indent}  {line}" for line in rest]
            self._mark = ""
        else:
            self.outline.block(text)

    def _next_mark(self) -> str:
        number = self._lists[-1]
        if number is None:
            return "- "
        self._lists[-1] = number + 1
        return f"{number}. "

    def _close_lines(self) -> None:
        if not self._lists:
            self.outline.block("\n".join(self._lines))
            self._lines = []


def _inline(tokens: Iterable[Token]) -> str:
    lines: list[tuple[str, bool]] = []
    """Each with whether the line before goes on in it."""
    line, goes_on = "", False
    for token in tokens:
        if token.type in ("softbreak", "hardbreak") or (token.type == "html_inline" and _BREAK.match(token.content)):
            lines.append((line, goes_on))
            line, goes_on = "", token.type == "softbreak"
        elif token.type in ("text", "code_inline", "image", "text_special"):
            line += token.content
    whole = ""
    for text, glued in [*lines, (line, goes_on)]:
        text = text.strip()
        if not _CONTAINER.fullmatch(text):
            whole = glue(whole, text) if glued or not whole else f"{whole}\n{text}"
    return whole.strip()
