"""Cleaning: what stands in a file for its looks goes; every character that is read stays."""

from __future__ import annotations

import re
import unicodedata

_LINE_END = re.compile("\r\n|[\r\v\x85\u2028]")
_PAGE_END = re.compile("[\f\u2029]")
# Controls, soft hyphen, zero-width marks, directions, byte order marks, halves of surrogate pairs, noncharacters.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ufffe\uffff\ud800-\udfff]"
)
_SPACES = re.compile(r"[^\S\n]+")
_EDGES = re.compile(r"^[^\S\n]+|[^\S\n]+$", re.MULTILINE)
_ENDS = re.compile(r"[^\S\n]+$", re.MULTILINE)
_INNER = re.compile(r"(?<=\S)[^\S\n]+")
_BLANKS = re.compile(r"\n{3,}")
# Fonts map a radical and the character that looks like it to one glyph, so a PDF gives either back. For Kangxi radicals
# Unicode knows the character; of the supplement it does not, these are the ones that are whole characters.
_RADICALS = {code: unicodedata.normalize("NFKC", chr(code)) for code in (*range(0x2F00, 0x2FD6), 0x2E9F, 0x2EF3)} | {
    ord(radical): character
    for radical, character in zip(
        "⺁⺇⺈⺊⺎⺒⺓⺗⺜⺝⺠⺧⺩⺪⺫⺬⺮⺶⺻⺼⺽⻁⻄⻅⻆⻉⻋⻑⻒⻓⻔⻗⻘⻙⻚⻛⻜⻝⻢⻣⻤⻥⻦⻧⻨⻩⻪⻬⻮⻰⻳",
        "厂几刀卜兀巳幺心日月民牛王疋目示竹羊聿肉臼虎西见角贝车長镸长门雨青韦页风飞食马骨鬼鱼鸟卤麦黄黾齐齿龙龟",
        strict=True,
    )
}
_LIGATURES = {code: unicodedata.normalize("NFKC", chr(code)) for code in range(0xFB00, 0xFB07)}
_DISPLAY_FORMS = _RADICALS | _LIGATURES
# What NFKC would turn into ASCII, or take apart, though Chinese is written with it.
_KEPT_BY_NFKC = re.compile("([！（），：；？～…　“”‘’￥]+)")


def plain_characters(text: str, *, nfkc: bool = False) -> str:
    """Return a text in NFC with one kind of line end, without invisible characters, radicals made characters.

    Args:
        text: any text.
        nfkc: also make compatibility forms plain; Chinese punctuation stays as it is.
    """
    text = _PAGE_END.sub("\n\n", _LINE_END.sub("\n", text))
    text = _INVISIBLE.sub("", text).translate(_DISPLAY_FORMS)
    if nfkc:
        parts = _KEPT_BY_NFKC.split(text)
        return "".join(part if place % 2 else unicodedata.normalize("NFKC", part) for place, part in enumerate(parts))
    return unicodedata.normalize("NFC", text)


def tidy_spaces(text: str, *, indented: bool = False) -> str:
    """Return a text with single spaces, bare line ends and at most one blank line in a row.

    Args:
        text: as `plain_characters` returns it.
        indented: keep the spaces a line begins with.
    """
    if indented:
        text = _ENDS.sub("", _INNER.sub(" ", text))
        return _BLANKS.sub("\n\n", text).strip("\n")
    return _BLANKS.sub("\n\n", _EDGES.sub("", _SPACES.sub(" ", text))).strip()
