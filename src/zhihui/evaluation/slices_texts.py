"""Queries as people really type them: the same question in another script, with typos, punctuation or small talk.

Every change depends on the seed and on the query alone, so that the same query is changed the same way in any set.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import cast

from zhihui.errors import require
from zhihui.records.script import script_table

Change = Callable[[str, random.Random], str]
"""Returns the query changed, or as it was where there is nothing to change."""

HOMOPHONES = (
    *("的地得", "在再", "做作坐座", "那哪", "他她它", "像象向", "帐账", "以已", "分份", "令另", "即既", "需须", "至致"),
    *("带戴", "和合何", "付副负", "密蜜", "按安", "式试", "其期", "只支枝", "园圆", "辩辨", "词辞", "反返", "历厉"),
    *("克刻", "长常", "工公", "事是", "有又", "时十", "号好", "元圆", "机鸡", "新心", "里理", "到道", "会汇", "药要"),
)
"""Characters of one sound that are mistaken for one another by who types by sound."""
PREFIXES = (
    *(
        "请问一下，",
        "你好，麻烦问下",
        "想问问大家，",
        "有没有人知道",
        "帮我查一下",
        "那个，我想了解一下",
        "急！",
        "求助：",
    ),
    *("小白提问，", "不好意思打扰了，", "各位老师好，", "我就想知道"),
)
SUFFIXES = ("", "", "，谢谢", "啊", "呢", "，在线等", "，有人懂吗", "，求解答")
_ENDING = "？?！!。.…~～"
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
_PER_EDIT = 10  # characters of a query for each of its typos


def swapped(text: str, draw: random.Random) -> str:
    """Let neighbouring Chinese characters change places, once in ten characters and at least once."""
    characters = list(text)
    places = [i for i in range(len(text) - 1) if _han(text[i]) and _han(text[i + 1]) and text[i] != text[i + 1]]
    for place in _drawn(places, text, draw):
        characters[place], characters[place + 1] = characters[place + 1], characters[place]
    return "".join(characters)


def dropped(text: str, draw: random.Random) -> str:
    """Leave a Chinese character out, once in ten characters and at least once; one is always left."""
    places = [i for i, character in enumerate(text) if _han(character)]
    gone = set(_drawn(places, text, draw)) if len(places) > 1 else set()
    return "".join(character for i, character in enumerate(text) if i not in gone)


def misheard(text: str, draw: random.Random) -> str:
    """Replace Chinese characters by others of the same sound, once in ten characters and at least once."""
    others = _same_sound()
    characters = list(text)
    for place in _drawn([i for i, character in enumerate(text) if character in others], text, draw):
        characters[place] = draw.choice(others[text[place]])
    return "".join(characters)


def unpunctuated(text: str, draw: random.Random) -> str:
    """Leave out all punctuation; a query of nothing else stays."""
    bare = "".join(character for character in text if not unicodedata.category(character).startswith("P"))
    return bare if bare.strip() else text


def punctuated(text: str, draw: random.Random) -> str:
    """Put a comma between two Chinese characters in the middle, and question marks at the end."""
    bare = text.rstrip(_ENDING) or text
    third = len(bare) // 3
    places = [i for i in range(max(1, third), len(bare) - third) if _han(bare[i - 1]) and _han(bare[i])]
    if places:
        place = draw.choice(places)
        bare = f"{bare[:place]}，{bare[place:]}"
    return f"{bare}{draw.choice(('？', '？？', '?', '！？'))}"


def chatty(text: str, draw: random.Random) -> str:
    """Wrap the query in what people say around a question."""
    return f"{draw.choice(PREFIXES)}{text.rstrip(_ENDING) or text}{draw.choice(SUFFIXES)}"


def other_script(texts: Sequence[str]) -> tuple[str, Change]:
    """Return the script most of the texts are not in, traditional or simplified, and the change into it.

    Raises:
        MissingExtra: OpenCC is not installed.
    """
    table = script_table()
    scripts = Counter(table.of(text) for text in texts)
    target = "simplified" if scripts["traditional"] > scripts["simplified"] else "traditional"
    convert = _converter({"simplified": "t2s", "traditional": "s2t"}[target])
    return target, lambda text, draw: convert(text)


@cache
def _converter(name: str) -> Callable[[str], str]:
    opencc = require("opencc", extra="mine", purpose="writing queries in the other script")
    return cast("Callable[[str], str]", opencc.OpenCC(name).convert)


@cache
def _same_sound() -> dict[str, list[str]]:
    others: dict[str, list[str]] = {}
    for group in HOMOPHONES:
        for character in group:
            others.setdefault(character, []).extend(one for one in group if one != character)
    return others


def _drawn(places: Sequence[int], text: str, draw: random.Random) -> list[int]:
    """Return some of the places, none beside another, so that no typo undoes the one before it."""
    wanted = max(1, len(text) // _PER_EDIT)
    chosen: list[int] = []
    for place in draw.sample(places, len(places)):
        if len(chosen) < wanted and all(abs(place - other) > 1 for other in chosen):
            chosen.append(place)
    return chosen


def _han(character: str) -> bool:
    return _HAN.match(character) is not None
