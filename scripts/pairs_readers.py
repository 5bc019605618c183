"""Readers of make_pairs.py: one file of a public repository becomes pairs of a query and a passage."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from math import log
from random import Random
from typing import Any, NamedTuple

from zhihui.corpus.cleaning import plain_characters, tidy_spaces
from zhihui.corpus.decoding import decode
from zhihui.corpus.language import chinese_share, converter
from zhihui.corpus.readers import markdown
from zhihui.records import BadRow

SHORTEST, LONGEST = 60, 800
"""Characters of a passage of prose."""
LENGTH, SPREAD = 90, 0.5
"""Median and log-normal width of the characters after which a passage of a document ends."""
MIN_CHINESE = 0.5
"""Share of a passage's letters."""
HEADINGS = 3
"""Pairs with the heading of one section as query, at most; one batch should not be full of one query."""
NEIGHBOUR, ALONE = 0.4, 0.1
"""Chance that a passage gets the one before it as query, and that a heading goes without its document's title."""
CLASSICAL_LENGTH = 30
"""The same median in classical Chinese, which says more in less."""
MODERN_FIRST = 0.6
"""Share of the classical pairs whose query is the modern text."""


class Pair(NamedTuple):
    """A query and the passage it finds."""

    query: str
    passage: str
    title: str
    path: str
    kind: str

    def row(self, source: str) -> dict[str, Any]:
        """Return it as a row of a file of pairs."""
        place = {"source": source, "title": self.title, "url_or_path": self.path}
        return {"query": self.query, "pos": [self.passage], **place, "kind": self.kind}


# --------------------------------------------------------------------------- documents in Markdown

_NUMERALS = "零〇一二三四五六七八九十百千"
_FENCE = re.compile(r"^([ \t]*)(`{3,}|~{3,})[^\n]*\n((?:.*\n)*?)\1\2[ \t]*$", re.MULTILINE)
_LONGEST_CODE = 3  # lines; longer code is no text to retrieve
_REMOVED = re.compile(
    r"<!--[\s\S]*?-->|\{\{[^{}]*\}\}|\{%[^%]*%\}"  # comments, shortcodes
    r"|\$\$[^$]+\$\$|\\\[[\s\S]*?\\\]"  # display maths
    r"|\[!\[[^\]\n]*\]\([^)\n]*\)\]\([^)\n]*\)|!\[[^\]\n]*\](?:\([^)\n]*\)|\[[^\]\n]*\])"  # images, linked or not
    r"|^[ \t]*\|.*$"  # tables
    r"|^\[#\]:.*$"  # the header LCTT writes as link references; true ones are read, for they make links
    r"|^[ \t>]*\[!\w+\].*$|^[ \t]*(?:!!!|\?\?\?)\+?[ \t].*$|^[ \t]*:::.*$"  # marks of admonitions
    r"|^(?:import|export)[ \t].*$"  # MDX
    r"|[ \t]*\{#[^}\n]*\}",  # anchors of headings
    re.MULTILINE,
)
_ASIDE = re.compile(
    r"(?:[\d.、]+ *)?(?:参考(?:文献|资料|链接|书目)?|延伸阅读|相关(?:阅读|链接|文档|资源|文章)|目录"
    r"|版权(?:声明|信息|所有)?|(?:变更|更新|修订)(?:日志|记录|历史)?|下一步(?:操作)?|后续步骤|贡献(?:者|指南|名单)?|致谢|关于(?:作者|译者))[：:]?"
)
"""Headings of sections that are about the document, not its subject."""
_BOILERPLATE = re.compile(
    r"公众号|版权|转载|知识共享|许可协议|Creative Commons"
    r"|(?:译者|校对|选题|作者)[：:]|原创编译|荣誉推出|[上下]一[篇页章节][：:]|via:"
)
_BULLET = re.compile(r"^\s*- ", re.MULTILINE)
_DANGLING = re.compile(r"[^。！？!?\n]*(?:[：:]|如下(?:所示)?。?)\s*\Z")
"""The last sentence of a passage if it announces what was removed after it."""
_SENTENCE = re.compile(r"[。！？；，!?;,]")


def read_markdown(data: bytes, path: str, draws: Random, left_out: Counter[str]) -> Iterator[Pair]:
    """Yield pairs of headings and the passages under them, and of passages and the next of the same section.

    Raises:
        BadRow: no known encoding.
    """
    yield from _document_pairs(decode(data, where=path), path, draws, left_out, _BOILERPLATE)


def read_laws(data: bytes, path: str, draws: Random, left_out: Counter[str]) -> Iterator[Pair]:
    """Yield pairs of a statute in Markdown, without its history, and without the numbers of chapters and articles.

    Nothing in a statute is boilerplate, not even what it says on copyright or permits.

    Raises:
        BadRow: no known encoding.
    """
    text = decode(data, where=path).replace("\r\n", "\n")
    text = re.sub(r"\A(#[^\n]*\n)[\s\S]*?<!--\s*INFO END\s*-->", r"\1", text)
    text = re.sub(rf"^(#+[ \t]*)第[{_NUMERALS}]+[编章节][ \t\u3000]*", r"\1", text, flags=re.MULTILINE)
    article = rf"第[{_NUMERALS}]+条(?:之[{_NUMERALS}]+)?[ \t\u3000]+"
    text = re.sub(rf"\n{{2,}}(?!{article}|#)", "  \n", text)  # an article stays one paragraph, of several lines
    yield from _document_pairs(re.sub(f"^{article}", "", text, flags=re.MULTILINE), path, draws, left_out)


def _document_pairs(
    text: str, path: str, draws: Random, left_out: Counter[str], boilerplate: re.Pattern[str] | None = None
) -> Iterator[Pair]:
    text = _FENCE.sub(lambda found: found[0] if found[3].count("\n") <= _LONGEST_CODE else "", text)
    document = markdown.read(_REMOVED.sub("", plain_characters(text)).encode(), path)
    title = tidy_spaces(document.title)
    for section in document.sections:
        names = [name for heading in section.headings if (name := tidy_spaces(heading)) != title]
        if boilerplate and any(_ASIDE.fullmatch(name) for name in names):
            left_out["aside"] += 1
            continue
        before, headed = "", 0
        paragraphs = _paragraphs(section.text, left_out, boilerplate)
        for passage in _passages(paragraphs, draws, left_out):
            neighbour, alone = draws.random() < NEIGHBOUR, draws.random() < ALONE
            query = names[-1] if names and alone else " ".join([title, *names])
            if passage and before and neighbour:
                yield Pair(before, passage, title, path, "neighbour")
            elif passage and not chinese_share(query):
                left_out["no_chinese_heading"] += 1
            elif passage and headed < HEADINGS:
                headed += 1
                yield Pair(query, passage, title, path, "heading")
            before = passage


def _passages(paragraphs: Iterator[str], draws: Random, left_out: Counter[str]) -> Iterator[str]:
    """Yield a section's passages in order; an empty one stands where one was left out."""
    groups: list[str] = []
    target = 0.0
    for paragraph in paragraphs:
        if not groups or len(groups[-1]) >= target or len(groups[-1]) + len(paragraph) >= LONGEST:
            groups.append(paragraph)
            target = max(SHORTEST, draws.lognormvariate(log(LENGTH), SPREAD))
        else:
            groups[-1] += f"\n{paragraph}"
    if len(groups) > 1 and len(groups[-1]) < SHORTEST and len(groups[-2]) + len(groups[-1]) < LONGEST:
        groups[-2:] = ["\n".join(groups[-2:])]
    yield from (_checked(group, left_out) for group in groups)


def _paragraphs(text: str, left_out: Counter[str], boilerplate: re.Pattern[str] | None) -> Iterator[str]:
    """Yield a section's paragraphs; one that is too long for a passage line by line."""
    for paragraph in tidy_spaces(_BULLET.sub("", text), indented=True).split("\n\n"):
        if boilerplate and boilerplate.search(paragraph):
            left_out["boilerplate"] += 1
        elif paragraph:
            yield from [paragraph] if len(paragraph) <= LONGEST else filter(str.strip, paragraph.split("\n"))


def _checked(passage: str, left_out: Counter[str]) -> str:
    while passage != (shorter := _DANGLING.sub("", passage).strip()):
        passage = shorter
    lines = passage.split("\n")
    bare = sum(not _SENTENCE.search(line) for line in lines)
    if len(lines) >= 3 and bare > 0.7 * len(lines):
        left_out["menu"] += 1
        return ""
    return passage if _fits(passage, left_out) else ""


def _fits(passage: str, left_out: Counter[str], *, shortest: int = SHORTEST, longest: int = LONGEST) -> bool:
    if len(passage) < shortest:
        left_out["too_short"] += 1
    elif len(passage) > longest:
        left_out["too_long"] += 1
    elif chinese_share(passage) < MIN_CHINESE:
        left_out["little_chinese"] += 1
    else:
        return True
    return False


# --------------------------------------------------------------------------- other layouts

_PARALLEL = re.compile(r"^古文[：:](.+)\n现代文[：:](.+)$", re.MULTILINE)


def read_classical(data: bytes, path: str, draws: Random, left_out: Counter[str]) -> Iterator[Pair]:
    """Yield pairs of a chapter's aligned lines, 古文：… above 现代文：…, as many together as make a passage.

    Raises:
        BadRow: no known encoding.
    """
    title = "·".join(path.split("/")[1:-1])
    old = new = ""
    target = draws.lognormvariate(log(CLASSICAL_LENGTH), SPREAD)
    for classical, modern in _PARALLEL.findall(plain_characters(decode(data, where=path))):
        old, new = old + classical.strip(), new + modern.strip()
        if len(old) < max(18, target):
            continue
        if old == new:
            left_out["not_translated"] += 1
        elif _fits(old, left_out, shortest=18, longest=400) and _fits(new, left_out, shortest=11, longest=520):
            if draws.random() < MODERN_FIRST:
                yield Pair(new, old, title, path, "modern->classical")
            else:
                yield Pair(old, new, title, path, "classical->modern")
        old, new, target = "", "", draws.lognormvariate(log(CLASSICAL_LENGTH), SPREAD)
    left_out["too_short"] += bool(old)


def read_poetry(data: bytes, path: str, draws: Random, left_out: Counter[str]) -> Iterator[Pair]:
    """Yield author and title -> poem, and author -> life, all in simplified characters.

    Raises:
        BadRow: not JSON, or a list of something else.
        MissingExtra: OpenCC is not installed.
    """
    simplify = converter("simplified")
    assert simplify is not None
    for poem in _json(data, path, list):
        names = {name: simplify(plain_characters(str(poem.get(name) or "")).strip()) for name in _POEM}
        author, title = names["author"], names["title"] or names["rhythmic"]
        if poem.get("paragraphs") is not None:
            text = simplify(plain_characters("".join(poem["paragraphs"])).strip())
            if author and title and _fits(text, left_out, shortest=40, longest=300):
                yield Pair(f"{author}《{title}》", text, title, path, "title")
        elif names["name"]:
            life = (names["desc"] or names["description"]).removeprefix("--")
            if _fits(life, left_out):
                yield Pair(f"{names['name']}生平简介", life, names["name"], path, "entity")


_POEM = ("author", "title", "rhythmic", "name", "desc", "description")


def read_kdconv(data: bytes, path: str, draws: Random, left_out: Counter[str]) -> Iterator[Pair]:
    """Yield from dialogues question -> what is told of the thing it names, and from a knowledge base thing -> text.

    Raises:
        BadRow: not JSON.
    """
    content = _json(data, path, (list, dict))
    if isinstance(content, dict):
        for name, facts in content.items():
            for _, relation, value in facts:
                what = "简介" if relation == "Information" else relation
                if _fits(tidy_spaces(plain_characters(value)), left_out):
                    yield Pair(name + what, tidy_spaces(plain_characters(value)), name, path, "entity")
        return
    for dialogue in content:
        before = ""
        for turn in dialogue["messages"]:
            for fact in turn.get("attrs", []):
                name = re.sub("（[^（）]*）$", "", fact.get("name", ""))  # which film or song of that name it is
                text = tidy_spaces(plain_characters(fact.get("attrvalue", "")))
                asked = name and name in before and before.endswith(("？", "?"))
                if fact.get("attrname") == "Information" and asked and _fits(text, left_out):
                    yield Pair(before, text, name, path, "dialogue")
            before = plain_characters(turn["message"]).strip()


def read_medical(data: bytes, path: str, draws: Random, left_out: Counter[str]) -> Iterator[Pair]:
    """Yield from a table of department, title, ask and answer: title or ask, as it is drawn, -> answer.

    Raises:
        BadRow: no known encoding, or another table.
    """
    table = csv.DictReader(io.StringIO(plain_characters(decode(data, where=path))))
    if not {"title", "ask", "answer"} <= set(table.fieldnames or []):
        raise BadRow(path, "unknown_layout", f"has columns {table.fieldnames}, not title, ask and answer")
    for row in table:
        title, ask, answer = (tidy_spaces(row[name] or "") for name in ("title", "ask", "answer"))
        query = title if len(ask) < len(title) or draws.random() < 0.5 else ask
        if query and _fits(answer, left_out, shortest=40, longest=300):
            yield Pair(query, answer, title, path, "question")


def _json(data: bytes, path: str, kind: Any) -> Any:
    try:
        content = json.loads(decode(data, where=path))
    except json.JSONDecodeError as error:
        raise BadRow(path, "not_json", f"is no JSON: {error}") from None
    if not isinstance(content, kind):
        raise BadRow(path, "unknown_layout", f"holds a {type(content).__name__}")
    return content


READERS: dict[str, Callable[[bytes, str, Random, Counter[str]], Iterator[Pair]]] = {
    "markdown": read_markdown,
    "laws": read_laws,
    "classical": read_classical,
    "poetry": read_poetry,
    "kdconv": read_kdconv,
    "medical": read_medical,
}
