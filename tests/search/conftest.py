from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from word_encoder import WordEncoder

from zhihui.encoder import build
from zhihui.search import IndexReport, update_index

TEXTS = [
    "租房合同到期后，房东应当在七日内退还押金。",
    "如有损坏，可以从押金中扣除维修费用。",
    "高铁从北京到上海最快只要四个多小时。",
    "空调外机漏水，先看排水管是不是堵了。",
    "身份证丢失可以到任意派出所补办。",
    "泡绿茶的水温不要超过八十五度。",
]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an untrained model, whose tokenizer measures passages."""
    folder = tmp_path_factory.mktemp("search") / "model"
    encoder = build("tiny", TEXTS, seed=0)
    encoder.backbone.save_pretrained(folder)
    encoder.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A folder of documents in three formats."""
    root = tmp_path / "docs"
    (root / "sub").mkdir(parents=True)
    (root / "rent.md").write_text(f"# 租房\n\n{TEXTS[0]}\n\n## 扣除\n\n{TEXTS[1]}\n")
    (root / "train.txt").write_text(f"{TEXTS[2]}\n")
    rows = ['{"text": "%s", "year": 2020, "lang": "zh"}', '{"text": "%s", "year": 2023, "lang": "zh", "tags": ["证"]}']
    lines = [row % text for row, text in zip(rows, TEXTS[3:5], strict=True)]
    (root / "sub" / "rows.jsonl").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def write(tmp_path: Path, model: Path) -> Callable[..., IndexReport]:
    """Bring the index `index` up to date with files or folders by a cheap encoder, or by another."""

    def run(*inputs: Path, encoder: Any = None, config: Any = None, out: str = "index", **options: Any) -> IndexReport:
        encoder = encoder or WordEncoder()
        return update_index(inputs, tmp_path / out, config, model=str(model), encoder=encoder, **options)

    return run
