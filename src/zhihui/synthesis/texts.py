"""Texts on their way into a prompt: cleaned, cut where a sentence ends, and fenced as material."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

# What cannot be seen and can still be read by a model: control characters, zero-width and direction marks, the tag
# characters that spell hidden text, halves of surrogate pairs.
_UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)
_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
# Words that chat templates use to begin and end a turn; a server may read them as such wherever they stand.
_TURNS = re.compile(
    r"[<\[](?=[|｜][^<>|｜]{1,40}[|｜]>|/?INST\]|<?/?SYS>|/?(?:s|think|start_of_turn|end_of_turn|bos|eos)>)"
)
_WIDE = {"<": "＜", "[": "［"}
_SENTENCE_END = re.compile(r"(?:[。！？!?；;…]|\.(?=\s))[”’」』）)\"']*|\n")


def cleaned(text: str) -> str:
    """Return a text without characters that nobody sees, and without working turn marks of chat templates."""
    text = _UNSEEN.sub("", _LINE_ENDS.sub("\n", text))
    return _TURNS.sub(lambda match: _WIDE[match[0]], text).strip()


def cut(text: str, characters: int) -> str:
    """Return the beginning of a text up to the last end of a sentence within so many characters.

    A text without one in the second half of what fits is cut in the middle of a sentence.
    """
    return next((part for _, part in windows(text, characters)), "")


def windows(text: str, characters: int) -> Iterator[tuple[int, str]]:
    """Yield a text in parts of at most so many characters, each ending with a sentence where one ends in time.

    Each comes with the place where it begins in the text; white space at its ends is left out.
    """
    start = 0
    while start < len(text):
        end = start + characters
        if end < len(text):
            ends = [match.end() for match in _SENTENCE_END.finditer(text, start + characters // 2, end)]
            end = ends[-1] if ends else end
        part = text[start:end]
        if part.strip():
            yield start + len(part) - len(part.lstrip()), part.strip()
        start = end


@dataclass(frozen=True)
class Material:
    """A text that a template shows to a teacher: it always comes out fenced, and cannot close its own fence.

    The fence holds a hash of the text, so whoever wrote the text could not know it.
    """

    text: str
    name: str
    """What it is called in the prompt, as in "材料 3"."""

    def __str__(self) -> str:
        mark = hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()[:10]
        return f"<{self.name} {mark}>\n{self.text}\n</{self.name} {mark}>"
