"""Which Chinese script a text is in, by the characters that only one of the two has."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

from zhihui.errors import require

Script = Literal["simplified", "traditional", "mixed", "shared", "none"]
SCRIPTS: tuple[Script, ...] = ("simplified", "traditional", "mixed", "shared", "none")
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
_MINORITY = 0.1  # a quoted name in the other script does not make a text mixed


@dataclass(frozen=True)
class ScriptTable:
    """The characters that exist in one script only."""

    simplified: frozenset[str]
    traditional: frozenset[str]

    def of(self, text: str) -> Script:
        """Return the script of a text.

        "mixed" has at least 10% of the rarer script among its distinct one-script characters; "shared" is
        Chinese without any such character; "none" has no Chinese character.
        """
        if not _HAN.search(text):
            return "none"
        characters = set(text)
        simplified = len(characters & self.simplified)
        traditional = len(characters & self.traditional)
        if not simplified and not traditional:
            return "shared"
        if min(simplified, traditional) >= _MINORITY * (simplified + traditional):
            return "mixed"
        return "simplified" if simplified > traditional else "traditional"


@cache
def script_table() -> ScriptTable:
    """Return the table, from OpenCC's character tables and the two scripts' national character sets.

    OpenCC alone is not enough: it maps 后 to 後 and 里 to 裏, yet both are good traditional characters as
    well. So a simplified character must also be absent from Big5, and a traditional one from GB 2312.

    Raises:
        MissingExtra: OpenCC is not installed.
    """
    opencc = require("opencc", extra="mine", purpose="telling simplified from traditional text")
    han = [chr(code) for code in (*range(0x3400, 0x4DC0), *range(0x4E00, 0xA000))]
    to_traditional = opencc.OpenCC("s2t").convert("\n".join(han)).split("\n")
    to_simplified = opencc.OpenCC("t2s").convert("\n".join(han)).split("\n")
    assert len(to_traditional) == len(to_simplified) == len(han), "one line in, one line out"
    simplified, traditional = set(), set()
    for character, upward, downward in zip(han, to_traditional, to_simplified, strict=True):
        if upward != character == downward and not _encodes(character, "big5"):
            simplified.add(character)
        if downward != character == upward and not _encodes(character, "gb2312"):
            traditional.add(character)
    return ScriptTable(frozenset(simplified), frozenset(traditional))


def _encodes(character: str, charset: str) -> bool:
    try:
        character.encode(charset)
    except UnicodeEncodeError:
        return False
    return True
