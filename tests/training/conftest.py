"""A tiny model and examples on a few subjects, written for these tests."""

from __future__ import annotations

import copy

import pytest

from zhihui.encoder import Encoder, build
from zhihui.records import Example

SUBJECTS = ["红茶", "绿茶", "自行车", "电动车", "小猫", "小狗", "雨伞", "雨靴", "番茄", "土豆", "铁锅", "砂锅"]
NEEDS = ["怎么清洗", "放在哪里好", "要多少钱", "冬天要注意什么"]
ANSWERS = ["用温水和软布擦洗，再晾干", "放在干燥阴凉的地方", "在市场里几十元就能买到", "天冷时要保暖，避免受冻"]


def make_examples() -> list[Example]:
    found = []
    for subject in SUBJECTS:
        for number, (need, answer) in enumerate(zip(NEEDS, ANSWERS, strict=True)):
            others = [f"{subject}，{other}。" for other in ANSWERS if other != answer]
            query, positive = f"{subject}{need}", f"{subject}，{answer}。"
            source = "用法" if number < 2 else "购买"
            row = Example(query=query, pos=[positive], neg=others, id=f"{subject}-{number}", source=source)
            found.append(row)
    return found


@pytest.fixture(scope="session")
def examples() -> list[Example]:
    return make_examples()


@pytest.fixture(scope="session")
def shared_model(examples: list[Example]) -> Encoder:
    return build("tiny", [text for e in examples for text in (e.query, *e.pos)], seed=0)


@pytest.fixture
def model(shared_model: Encoder) -> Encoder:
    """A tiny model of one's own."""
    return copy.deepcopy(shared_model)
