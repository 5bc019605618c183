"""A small set in the BEIR layout, written for these tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from zhihui.records import Passage, RetrievalSet, write_beir

SUBJECTS = ["红茶", "绿茶", "自行车", "电动车", "小猫", "小狗", "雨伞", "雨靴", "番茄", "土豆", "铁锅", "砂锅"]
NEEDS = ["怎么清洗", "放在哪里好", "要多少钱", "冬天要注意什么"]
ANSWERS = ["用温水和软布擦洗，再晾干", "放在干燥阴凉的地方", "在市场里几十元就能买到", "天冷时要保暖，避免受冻"]


@pytest.fixture(scope="session")
def small_set() -> RetrievalSet:
    corpus, queries, judged = {}, {}, {}
    for i, subject in enumerate(SUBJECTS):
        for j, (need, answer) in enumerate(zip(NEEDS, ANSWERS, strict=True)):
            corpus[f"p{i}-{j}"] = Passage(f"{subject}，{answer}。")
            queries[f"q{i}-{j}"] = f"{subject}{need}"
            judged[f"q{i}-{j}"] = {f"p{i}-{j}": 1}
    return RetrievalSet(name="small", corpus=corpus, queries=queries, qrels={"test": judged})


@pytest.fixture(scope="session")
def folder(small_set: RetrievalSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sets") / "small"
    write_beir(path, small_set)
    return path
