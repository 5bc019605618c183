"""Language and script of passages: which are kept, and the script every text is brought to."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import cast

from zhihui.corpus.config import Fold, ScriptWanted
from zhihui.errors import require
from zhihui.records.script import script_table

_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_LETTER = re.compile(r"[^\W\d_]")
_CONVERTERS = {"simplified": "t2s", "traditional": "s2tw"}


def chinese_share(text: str) -> float:
    """Return the share of Chinese characters among a text's letters; 0 for a text without letters."""
    letters = len(_LETTER.findall(text))
    return len(_HAN.findall(text)) / letters if letters else 0.0


def in_script(text: str, wanted: ScriptWanted) -> bool:
    """Whether a text is not in the other Chinese script than the wanted one.

    Raises:
        MissingExtra: OpenCC is not installed.
    """
    if wanted == "any":
        return True
    return script_table().of(text) != ("traditional" if wanted == "simplified" else "simplified")


def converter(fold: Fold) -> Callable[[str], str] | None:
    """Return what brings a text to a script; None for "none".

    Raises:
        MissingExtra: OpenCC is not installed.
    """
    return None if fold == "none" else _opencc(_CONVERTERS[fold])


@cache
def _opencc(name: str) -> Callable[[str], str]:
    opencc = require("opencc", extra="corpus", purpose="bringing texts to one Chinese script")
    return cast("Callable[[str], str]", opencc.OpenCC(name).convert)
