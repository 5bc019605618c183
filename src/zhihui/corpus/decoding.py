"""Bytes to text: UTF-8 where it is UTF-8, else the Chinese encoding whose characters make sense."""

from __future__ import annotations

import codecs
import re
from functools import cache

from zhihui.records import BadRow

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DECLARED = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?([\w-]+)", re.IGNORECASE)
_SENSIBLE = 0.8
"""Share of everyday characters that tells Chinese from bytes read in a wrong encoding: already in 60 characters of real
text it is 0.95 and more for nearly all, and below 0.7 for nearly all that are read wrongly."""
_LEGACY = ("gb18030", "big5hkscs")
_FIRST_LEVEL = {"gb2312": range(0xA1, 0xD8), "big5": range(0xA1, 0xC7)}
"""First bytes of the everyday characters, and of the punctuation and letters before them, in either standard."""
_SAMPLE = 20_000  # characters that are looked at


def decode(data: bytes, *, where: str) -> str:
    """Return the text of a file's bytes.

    A byte order mark decides; then UTF-8 if the bytes are valid as such; then GB18030 or Big5, whichever gives mostly
    everyday characters. Line ends and all else stay as they are.

    Raises:
        BadRow: none of these, or not text at all.
    """
    for mark, name in _MARKS:
        if data.startswith(mark):
            return _strictly(data[len(mark) :], name, where)
    if b"\0" in data[:8192]:
        raise BadRow(where, "not_text", "holds zero bytes, so it is no text; remove it, or give it its true suffix")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    candidates = [(_everyday(text), text) for name in _LEGACY if (text := _try(data, name)) is not None]
    if candidates and max(candidates)[0] >= _SENSIBLE:
        return max(candidates)[1]
    mend = "convert it, e.g. iconv -f ENCODING -t UTF-8"
    raise BadRow(where, "unknown_encoding", f"neither UTF-8 nor GB18030 nor Big5 that makes sense; {mend}")


def decode_html(data: bytes, *, where: str) -> str:
    """Return the text of a page, by the encoding it declares if that one fits.

    Raises:
        BadRow: as `decode`.
    """
    declared = _DECLARED.search(data[:4096])
    if declared is not None and not data.startswith(tuple(mark for mark, _ in _MARKS)):
        name = declared[1].decode("ascii").lower()
        try:
            # What calls itself GB2312 is GBK in practice, and GB18030 reads both.
            return data.decode("gb18030" if name in ("gb2312", "gbk") else name)
        except (UnicodeDecodeError, LookupError):
            pass
    return decode(data, where=where)


def _strictly(data: bytes, name: str, where: str) -> str:
    try:
        return data.decode(name)
    except UnicodeDecodeError as error:
        reason = f"begins like {name.upper()} and is not at byte {error.start + 1}; fetch or convert it again"
        raise BadRow(where, "unknown_encoding", reason) from None


def _try(data: bytes, name: str) -> str | None:
    try:
        return data.decode(name)
    except UnicodeDecodeError:
        return None


def _everyday(text: str) -> float:
    """Return the share of a text's non-ASCII characters that are everyday ones of either script, or punctuation."""
    characters = [character for character in text[:_SAMPLE] if character >= "\x80"]
    return sum(map(_is_everyday, characters)) / len(characters) if characters else 0.0


@cache
def _is_everyday(character: str) -> bool:
    for charset, leads in _FIRST_LEVEL.items():
        try:
            if character.encode(charset)[0] in leads:
                return True
        except UnicodeEncodeError:
            continue
    return character in "“”‘’—…·"
