"""Own sentences on four topics, and an encoder that really reads its text."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from zhihui.records import Example, Passage

SUBJECTS = ["红茶", "绿茶", "自行车", "电动车", "小猫", "小狗", "雨伞", "雨靴", "番茄", "土豆"]
CARE = ["怎么清洗", "放在哪里", "多少钱", "要注意什么", "冬天怎么办", "坏了怎么修"]


class BigramEncoder:
    """Hashed character bigrams, L2-normalised; an instruction is read before the query."""

    name = "bigrams"
    fingerprint = "bigrams-128"

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def encode_queries(self, texts: Sequence[str], *, instruction: str | None = None) -> NDArray[np.float32]:
        return self._encode([f"{instruction or ''}{text}" for text in texts])

    def encode_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._encode(texts)

    def _encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.calls.append(list(texts))
        vectors = np.zeros((len(texts), 128), dtype=np.float32)
        for row, text in enumerate(texts):
            for first, second in zip(f"^{text}", text, strict=False):
                digest = hashlib.blake2b(f"{first}{second}".encode(), digest_size=4).digest()
                vectors[row, int.from_bytes(digest, "big") % 128] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def encoder() -> BigramEncoder:
    return BigramEncoder()


@pytest.fixture
def passages() -> dict[str, Passage]:
    """One answer for each subject and question, ten by six."""
    return {
        f"{subject}-{care}": Passage(text=f"{subject}{care}？关于{subject}，第{number}条说得清楚。")
        for subject in SUBJECTS
        for number, care in enumerate(CARE)
    }


@pytest.fixture
def examples(passages) -> list[Example]:
    return [
        Example(
            query=f"{subject}{care}",
            pos=[passages[f"{subject}-{care}"].full],
            id=f"q-{subject}-{care}",
            meta={"pos_ids": [f"{subject}-{care}"]},
        )
        for subject in SUBJECTS
        for care in CARE[:4]
    ]
