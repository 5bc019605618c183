"""A teacher whose answers are scripted by template, a small corpus, and writers that do as they are told."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from zhihui.runs import to_json
from zhihui.synthesis.grading import GradeGiven, GradesGiven
from zhihui.synthesis.query import QueriesWritten, QueryWritten
from zhihui.teacher.asking import Ask, Outcome

SUBJECTS = ["红茶", "绿茶", "自行车", "电动车", "小猫", "小狗", "雨伞", "雨靴", "番茄", "土豆"]
CARE = {
    "怎么清洗": "先用清水冲洗一遍，再拿软布擦干，不要用力揉搓",
    "放在哪里": "通风阴凉的角落最合适，远离窗边的阳光和炉灶",
    "多少钱": "集市上二十元上下，品相好的贵一倍，批发更便宜",
}
FILLERS = [
    "昨天邻居问起",
    "想弄明白",
    "家里老人催着",
    "周末就要办",
    "试了几次不行",
    "网上说法不一",
    "头一回碰到",
    "别太复杂",
]
Answer = Callable[[Ask[Any]], Any]


class Scripted:
    """Answers by the name of the template; a text in place of an answer is a failure, an exception is raised."""

    fingerprint = "scripted"

    def __init__(self, **answers: Answer) -> None:
        self.answers = answers
        self.asked: list[Ask[Any]] = []
        self.memory: dict[str, Any] = {}
        self.paid = 0

    def ask(self, asks: Iterable[Ask[Any]], *, label: str, total: int | None = None) -> Iterator[Outcome[Any]]:
        for one in asks:
            self.asked.append(one)
            key = to_json([one.role, one.system, one.user])
            known = key in self.memory
            if not known:
                self.memory[key] = self.answers[one.template.partition("@")[0]](one)
                self.paid += 1
            found = self.memory[key]
            if isinstance(found, str):
                yield Outcome(ask=one, value=None, failure=found, detail="as scripted", teacher="scripted")  # type: ignore[arg-type]
            else:
                yield Outcome(ask=one, value=found, teacher="scripted", cached=known)

    def asked_with(self, template: str) -> list[Ask[Any]]:
        return [one for one in self.asked if one.template.partition("@")[0] == template]


def shown(ask: Ask[Any], name: str) -> list[str]:
    """Return the fenced texts of a name in the prompt, in their order."""
    found = re.findall(rf"<({name}(?: \d+)?) (\w+)>\n(.*?)\n</\1 \2>", ask.user, flags=re.DOTALL)
    return [text for _, _, text in found]


def write_queries(ask: Ask[Any]) -> QueriesWritten:
    """Write a query of the wanted length for each line of requirements."""
    (passage,) = shown(ask, "材料")
    found = []
    for number, least, most in re.findall(r"^(\d+)\. .*字数：(\d+) 到 (\d+) 字", ask.user, flags=re.MULTILINE):
        words = [passage.partition("？")[0]]
        while len(" ".join(words)) < (int(least) + int(most)) // 2:
            words.append(FILLERS[(len(words) * 3 + int(number) * 2 + len(passage)) % len(FILLERS)])
        found.append(QueryWritten(number=int(number), query=" ".join(words)[: int(most)]))
    return QueriesWritten(queries=found)


def grade_by(judge: Callable[[str, str], int]) -> Answer:
    """Return a judge that grades each passage for the query."""

    def answer(ask: Ask[Any]) -> GradesGiven:
        (query,) = shown(ask, "查询")
        grades = [judge(query, passage) for passage in shown(ask, "材料")]
        return GradesGiven(
            grades=[GradeGiven(number=n, grade=grade, reason=f"等级{grade}") for n, grade in enumerate(grades, 1)]
        )

    return answer


def fits(query: str, passage: str) -> int:
    """Grade 4 for the subject's cleaning, 1 for anything else on either."""
    subject = next((each for each in SUBJECTS if each in query), "")
    return 4 if subject and passage.startswith(subject) and "冲洗" in passage else 1
