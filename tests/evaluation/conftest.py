"""A small set of our own sentences and an encoder that really reads its text."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from zhihui.records import Passage, RetrievalSet

TOPICS = {
    "茶": "绿茶用八十度的水冲泡，时间不要超过两分钟，否则茶汤会发苦。",
    "雨": "台风登陆前后，沿海地区会出现持续的大雨，出门请带好雨具。",
    "猫": "小猫满两个月以后可以接种疫苗，接种后观察半天再洗澡。",
    "车": "电动汽车冬天续航会缩短，停车时尽量选择有暖气的车库。",
    "书": "图书馆周末开放到晚上九点，借书需要先办理读者证。",
    "火": "高铁车票可以在发车前免费改签一次，改签要在开车前办理。",
    "菜": "番茄炒蛋要先炒鸡蛋再炒番茄，最后放盐和少许白糖。",
    "病": "感冒发烧超过三天没有好转，应当去医院检查血常规。",
}
QUESTIONS = {
    "q1": ("泡绿茶的水要多热", {"茶": 2, "菜": 1}),
    "q2": ("小猫什么时候打疫苗", {"猫": 1}),
    "q3": ("冬天开电动车为什么跑不远", {"车": 3}),
    "q4": ("周末几点关门", {"书": 1}),
    "q5": ("发烧了怎么办", {"病": 1}),
    "q6": ("出远门要带什么", {"雨": 1, "火": 1}),
    "q7": ("zzz", {"火": 1}),
}


class BigramEncoder:
    """Hashed character bigrams, L2-normalised; an instruction is read before the query."""

    name = "bigrams"
    fingerprint = "bigrams-64"

    def __init__(self) -> None:
        self.documents_encoded = 0

    def encode_queries(self, texts: Sequence[str], *, instruction: str | None = None) -> NDArray[np.float32]:
        return self._encode([f"{instruction or ''}{text}" for text in texts])

    def encode_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.documents_encoded += len(texts)
        return self._encode(texts)

    def _encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.zeros((len(texts), 64), dtype=np.float32)
        for row, text in enumerate(texts):
            for first, second in zip(f"^{text}", text, strict=False):
                digest = hashlib.blake2b(f"{first}{second}".encode(), digest_size=4).digest()
                vectors[row, int.from_bytes(digest, "big") % 64] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def encoder() -> BigramEncoder:
    return BigramEncoder()


@pytest.fixture
def tiny() -> RetrievalSet:
    """Eight topics with three passages each, of which only the first answers; seven judged queries."""
    corpus = {}
    for number, (topic, text) in enumerate(TOPICS.items()):
        corpus[topic] = Passage(text=text, title="小常识" if number % 2 else "")
        corpus[f"{topic}-2"] = Passage(text=f"第{number}节的练习题，答案见书后。")
        corpus[f"{topic}-3"] = Passage(text="本页留白。")
    return RetrievalSet(
        name="tiny",
        corpus=corpus,
        queries={key: text for key, (text, _) in QUESTIONS.items()},
        qrels={"test": {key: grades for key, (_, grades) in QUESTIONS.items()}},
    )
