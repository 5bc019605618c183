"""What a written query must be like before anything is spent on it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from zhihui.errors import InputError

_CHINESE = re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_OTHER_WORD = re.compile(r"[^\W_\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")
# A query that speaks of the text in front of the writer finds nothing in a search.
_POINTING = re.compile(
    r"本文|本段|这篇(?:文章|文档|材料)|这段(?:话|文字|内容|材料)|(?:上述|以上|该|此|给定)(?:材料|文章|文段|段落|文本|资料|内容)"
    r"|材料(?:中|里|提到)|文中|[正负]例|文章(?:中|里)(?:提到|所述|说)|根据(?:材料|文章|资料)|作者(?:认为|提到)"
)


@dataclass(frozen=True, kw_only=True)
class QueryChecks:
    """Bounds of the checks on a query.

    Raises:
        InputError: a bound out of range.
    """

    chinese: float = 0.5
    """Least share of Chinese characters among these and the words and numbers of other scripts; 0 takes any."""
    copied_run: int = 12
    """Characters in a row, shared with the passage, from which a query may count as copied ..."""
    copied_share: float = 0.6
    """... if they are this share of the query. A name may be long; a sentence is not written anew by copying it."""
    length_slack: float = 0.5
    """By which share a query may miss the wanted length."""

    def __post_init__(self) -> None:
        if not 0 <= self.chinese <= 1:
            raise InputError(f"chinese is {self.chinese}; give a share from 0 to 1")
        if self.copied_run < 1:
            raise InputError(f"copied_run is {self.copied_run}; give at least 1 character, usually 12")
        if not 0 <= self.copied_share <= 1:
            raise InputError(f"copied_share is {self.copied_share}; give a share from 0 to 1")
        if not self.length_slack >= 0:
            raise InputError(f"length_slack is {self.length_slack}; give 0 or more, usually 0.5")


def fault_of(
    query: str, checks: QueryChecks, *, passage: str | None = None, length: tuple[int, int] | None = None
) -> tuple[str, str] | None:
    """Return the reason why a query is unusable and its detail, or None.

    Args:
        query: as the teacher wrote it.
        checks: the bounds.
        passage: it was written for; None checks no copying.
        length: characters wanted, least and most; None takes any.
    """
    if not query.strip():
        return "blank_query", "the query is blank"
    if (share := chinese_share(query)) < checks.chinese:
        return "not_chinese", f"{share:.0%} of it is Chinese, below {checks.chinese:.0%}"
    if length is not None:
        least, most = length[0] * (1 - checks.length_slack), length[1] * (1 + checks.length_slack)
        if len(query) < least:
            return "query_too_short", f"{len(query)} characters of {length[0]} to {length[1]}"
        if len(query) > most:
            return "query_too_long", f"{len(query)} characters of {length[0]} to {length[1]}"
    if match := _POINTING.search(query):
        return "points_at_passage", f"speaks of the passage ({match[0]})"
    if passage is not None:
        least_run = max(checks.copied_run, round(checks.copied_share * len(query)))
        if shares_run(query, passage, least_run):
            return "copied", f"{least_run} characters in a row are the passage's"
    return None


def chinese_share(text: str) -> float:
    """Return the share of Chinese characters among these and the words and numbers of other scripts."""
    chinese, others = len(_CHINESE.findall(text)), len(_OTHER_WORD.findall(text))
    return chinese / (chinese + others) if chinese + others else 0.0


def shares_run(one: str, other: str, characters: int) -> bool:
    """Whether two texts have so many characters in a row in common, white space aside."""
    one, other = "".join(one.split()), "".join(other.split())
    return any(one[start : start + characters] in other for start in range(len(one) - characters + 1))
