"""What kind of query is written: who asks, in which form, how hard and how long, drawn by seed for each passage."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from zhihui.errors import InputError

QueryType = Literal["keyword", "question", "colloquial", "long", "title"]
Difficulty = Literal["easy", "medium", "hard"]
Length = Literal["short", "medium", "long"]

TYPES: dict[str, str] = {
    "keyword": "关键词：两三个词或词组，用空格隔开，像在搜索框里随手输入，不成句，不带问号",
    "question": "问句：一个完整、书面的问题",
    "colloquial": "口语：像发帖求助或问朋友，可省略主语、带语气词，不用书面套话",
    "long": "长问：先交代处境和已知条件，再说要解决什么",
    "title": "标题：像一篇文章的标题，概括要找的内容，不是问句",
}
DIFFICULTIES: dict[str, str] = {
    "easy": "直接：答案在材料中明说，可以用材料的关键词",
    "medium": "换说法：不沿用材料的措辞，改用同义词、上位词或日常叫法",
    "hard": "需理解：写处境、现象或目的，读懂材料才知道它能回答，尽量不出现材料里的术语",
}
LENGTHS: dict[str, dict[str, tuple[int, int]]] = {
    "keyword": {"short": (2, 6), "medium": (5, 12), "long": (10, 20)},
    "question": {"short": (6, 14), "medium": (12, 24), "long": (20, 40)},
    "colloquial": {"short": (8, 18), "medium": (15, 32), "long": (28, 60)},
    "long": {"short": (30, 60), "medium": (50, 100), "long": (80, 150)},
    "title": {"short": (6, 12), "medium": (10, 20), "long": (18, 34)},
}
"""Characters, least and most, by type and length."""
PERSONAS = (
    "准备考试的高中生",
    "写课程论文的大学生",
    "刚入行的工程师",
    "经验丰富的同行专家",
    "做科普的自媒体作者",
    "备课的中学老师",
    "第一次遇到这个问题的普通市民",
    "不太会用搜索引擎的老人",
    "替父母打听的上班族",
    "带孩子的家长",
    "个体店主",
    "公司法务",
    "基层公务员",
    "记者",
    "病人家属",
    "产品经理",
    "客服人员",
    "自学的爱好者",
    "赶时间、只想要结论的人",
    "对说法存疑、想核实的人",
)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One query that is wanted."""

    number: int
    """From 1, within its passage."""
    persona: str
    type: str
    difficulty: str
    length: str

    @property
    def characters(self) -> tuple[int, int]:
        """Least and most."""
        return LENGTHS[self.type][self.length]

    def described(self) -> dict[str, Any]:
        """Return what a template shows of it, in Chinese."""
        least, most = self.characters
        return {
            "number": self.number,
            "persona": self.persona,
            "type": TYPES[self.type],
            "difficulty": DIFFICULTIES[self.difficulty],
            "least": least,
            "most": most,
        }

    def noted(self) -> dict[str, Any]:
        """Return what is kept of it in `meta`."""
        return {"persona": self.persona, "type": self.type, "difficulty": self.difficulty, "length": self.length}


@dataclass(frozen=True, kw_only=True)
class Variety:
    """What is drawn from, each with equal chance.

    Raises:
        InputError: a choice is empty.
    """

    personas: tuple[str, ...] = PERSONAS
    """Who asks, in Chinese words."""
    types: tuple[QueryType, ...] = get_args(QueryType)
    difficulties: tuple[Difficulty, ...] = get_args(Difficulty)
    lengths: tuple[Length, ...] = get_args(Length)

    def __post_init__(self) -> None:
        for name in ("personas", "types", "difficulties", "lengths"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
            if not getattr(self, name):
                raise InputError(f"{name} is empty; name at least one, or leave it out for all")
        if not all(persona.strip() for persona in self.personas):
            raise InputError("personas holds a blank one; fill it or remove it")

    def draw(self, count: int, seed: str) -> list[Wanted]:
        """Return so many wanted queries; personas and types recur only when all have had their turn."""
        draw = random.Random(seed)
        personas, types = (_in_turn(each, count, draw) for each in (self.personas, self.types))
        return [
            Wanted(
                number=place + 1,
                persona=personas[place],
                type=types[place],
                difficulty=draw.choice(self.difficulties),
                length=draw.choice(self.lengths),
            )
            for place in range(count)
        ]


def _in_turn(choices: Sequence[str], count: int, draw: random.Random) -> list[str]:
    found: list[str] = []
    while len(found) < count:
        found += draw.sample(choices, len(choices))
    return found[:count]
