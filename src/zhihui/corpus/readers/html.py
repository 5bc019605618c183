"""HTML: the main text of a page, headings as the path; menus, related links, comments and footers are left out.

By structure alone, not by statistics of text length: those are tuned on Latin text, and short Chinese pages fail them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from zhihui.corpus.decoding import decode_html
from zhihui.corpus.document import Document, Outline, Section
from zhihui.corpus.readers.text import title_of
from zhihui.corpus.wrapping import glue
from zhihui.errors import require
from zhihui.records import BadRow


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NO_TEXT = _words(
    "script style noscript template head nav footer aside form button select textarea input svg canvas iframe object "
    "audio video dialog menu"
)
_NO_TEXT_ROLES = _words("navigation contentinfo search complementary menu menubar dialog alert banner tooltip")
_NO_TEXT_NAMES = _words(
    "nav navbar navigation menu sidebar breadcrumb breadcrumbs crumb crumbs footer foot related recommend recommended "
    "recommendation comment comments share sharing social copyright toolbar pagination pager ad ads advert "
    "advertisement banner popup modal cookie toc search login topbar toplink friendlink widget"
)
"""Words of a class or id that say an element is not the page's own text."""
_BLOCKS = _words(
    "p div section article main body header h1 h2 h3 h4 h5 h6 ul ol li dl dt dd table thead tbody tfoot tr td th "
    "caption pre blockquote figure figcaption hr details summary center address fieldset"
)
_WORD = re.compile(r"[a-z]+|[A-Z][a-z]*")
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_SITE = re.compile(r"\s+[-–—|·]\s+|\s*[_|｜]\s*")  # between a page's title and the site's
_MOSTLY_LINKS = 0.6  # share of a block's characters that are links, from which on it is a menu
_FEWEST_LINKS = 3
_MOST_OF_A_PAGE = 0.5  # what holds this share of the text is the text, whatever it is called


def read(data: bytes, source: str) -> Document:
    """Read a page.

    Raises:
        BadRow: no known encoding, or not HTML at all.
        MissingExtra: lxml is not installed.
    """
    require("lxml", extra="corpus", purpose="reading HTML")
    from lxml import etree, html

    text = decode_html(data, where=source)
    # A declared encoding has been seen to; lxml refuses one in text that is already decoded.
    text = re.sub(r"^\s*<\?xml[^>]*\?>", "", text)
    try:
        page = html.document_fromstring(
            text, parser=html.HTMLParser(remove_comments=True, remove_pis=True, huge_tree=True)
        )
    except (etree.ParserError, ValueError) as error:
        raise BadRow(source, "broken_html", f"not readable as HTML ({error}); fetch it again") from None
    title = _page_title(page)
    body = page.find("body")
    if body is None:
        raise BadRow(source, "no_text", "the page has no body")
    _strip(body)
    main = _main(body)
    sections, heading = _outlined(main, menus=False)
    if not sections:  # a page of links is still a page
        sections, heading = _outlined(main, menus=True)
    return Document(
        source=source,
        where=source,
        title=heading or title or title_of(source),
        sections=sections,
        indented=True,
    )


def _page_title(page: Any) -> str:
    whole = " ".join((page.findtext(".//title") or "").split())
    own = _SITE.split(whole)[0]
    return own if len(own) > 1 else whole


# --------------------------------------------------------------------------- what is not text


def _strip(body: Any) -> None:
    """Take out elements that are not the page's own text; what follows them stays."""
    most = _MOST_OF_A_PAGE * len(_bare(body))
    for element in list(body.iterdescendants()):
        if element.tag in _NO_TEXT or (_says_no_text(element) and len(_bare(element)) < most):
            _drop(element)


def _says_no_text(element: Any) -> bool:
    if element.get("hidden") is not None or element.get("aria-hidden") == "true":
        return True
    if _HIDDEN.search(element.get("style") or "") or (element.get("role") or "") in _NO_TEXT_ROLES:
        return True
    if element.tag == "header":
        return element.find(".//h1") is None
    if element.tag not in _BLOCKS or element.tag in ("h1", "main", "article", "body"):
        return False
    names = f"{element.get('class') or ''} {element.get('id') or ''}"
    words = {word.lower() for word in _WORD.findall(names)}
    return bool(words & _NO_TEXT_NAMES) and element.find(".//h1") is None


def _drop(element: Any) -> None:
    if element.getparent() is not None:
        element.drop_tree()


def _main(body: Any) -> Any:
    """Return the element that says it is the page's text, if it holds most of it."""
    whole = len(_bare(body))
    for path in (".//main", ".//*[@role='main']", ".//article"):
        found = body.findall(path)
        if len(found) == 1 and len(_bare(found[0])) >= _MOST_OF_A_PAGE * whole:
            return found[0]
    return body


def _is_menu(element: Any) -> bool:
    links = element.findall(".//a")
    if len(links) < _FEWEST_LINKS or element.find(".//h1") is not None:
        return False
    return sum(len(_bare(link)) for link in links) > _MOSTLY_LINKS * len(_bare(element))


def _bare(element: Any) -> str:
    return re.sub(r"\W", "", "".join(element.itertext()))


# --------------------------------------------------------------------------- what is


def _outlined(main: Any, *, menus: bool) -> tuple[list[Section], str]:
    outline = Outline()
    _walk(main, outline, menus)
    return outline.finish(), outline.first_heading


def _walk(element: Any, outline: Outline, menus: bool) -> None:
    """Add an element's blocks; loose text between them is a paragraph."""
    loose = _flat(element.text)
    for child in element:
        if not _is_block(child):
            loose += _inline(child)
        else:
            outline.block(loose)
            loose = ""
            if menus or child.tag == "pre" or not _is_menu(child) or _inner_blocks(child):
                _add(child, outline, menus)
        loose += _flat(child.tail)
    outline.block(loose)


def _add(element: Any, outline: Outline, menus: bool) -> None:
    if re.fullmatch(r"h[1-6]", element.tag):
        outline.heading(int(element.tag[1]), _inline(element))
    elif element.tag in ("ul", "ol"):
        outline.block("\n".join(_items(element)))
    elif element.tag == "table" and element.find(".//table") is None and element.find(".//p") is None:
        outline.block("\n".join(_rows(element)))
    elif element.tag == "pre":
        outline.block("".join(element.itertext()).rstrip())
    elif any(_is_block(inner) for inner in element.iterdescendants()):
        _walk(element, outline, menus)
    else:
        outline.block(_inline(element))


def _inner_blocks(element: Any) -> bool:
    """Whether an element holds blocks that are looked at one by one, so that links in some do not condemn all."""
    return element.tag not in ("ul", "ol", "table") and any(_is_block(child) for child in element)


def _is_block(element: Any) -> bool:
    return element.tag in _BLOCKS or any(child.tag in _BLOCKS for child in element)


def _items(element: Any, depth: int = 0) -> Iterator[str]:
    for number, item in enumerate(element.iterchildren("li"), start=1):
        mark = f"{number}. " if element.tag == "ol" else "- "
        yield "  " * depth + mark + _inline(item, skip=("ul", "ol")).replace("\n", " ").strip()
        for inner in item.iterchildren("ul", "ol"):
            yield from _items(inner, depth + 1)


def _rows(table: Any) -> Iterator[str]:
    for row in table.iter("tr"):
        cells = [" ".join(_inline(cell).split()) for cell in row.iterchildren("td", "th")]
        if any(cells):
            yield " | ".join(cells)


def _inline(element: Any, *, skip: tuple[str, ...] = ()) -> str:
    text = _flat(element.text)
    for child in element:
        if child.tag == "br":
            text += "\n"
        elif child.tag not in skip:
            inner = _inline(child, skip=skip)
            text += f"\n{inner}\n" if child.tag in _BLOCKS and inner else inner
        text += _flat(child.tail)
    lines = text.split("\n")
    return "\n".join(line for line in lines if line.strip())


def _flat(text: str | None) -> str:
    """Return text as a browser shows it: a line end in the source is a space, and between Chinese nothing."""
    if not text:
        return ""
    first, *rest = text.split("\n")
    for line in rest:
        if line.strip():
            first = glue(first.rstrip(), line.strip()) + (" " if line != line.rstrip() else "")
        elif first and not first.endswith(" "):
            first += " "
    return first
