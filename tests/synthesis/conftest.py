"""A small corpus and examples on it."""

from __future__ import annotations

import pytest
from scripted import CARE, SUBJECTS

from zhihui.records import Example, write_rows


@pytest.fixture
def corpus(tmp_path):
    """A file of thirty passages, ten subjects by three questions."""
    path = tmp_path / "corpus.jsonl"
    rows = [
        {"_id": f"{subject}-{number}", "text": f"{subject}{care}？{subject}这件事，{answer}。"}
        for subject in SUBJECTS
        for number, (care, answer) in enumerate(CARE.items())
    ]
    write_rows(path, rows)
    return path


@pytest.fixture
def examples() -> list[Example]:
    """Ten examples with one positive, and a negative on the same subject and on another."""
    found = []
    for place, subject in enumerate(SUBJECTS):
        other = SUBJECTS[(place + 1) % len(SUBJECTS)]
        found.append(
            Example(
                query=f"{subject}怎么清洗",
                pos=[f"{subject}要用清水冲洗，再用软布擦干。"],
                neg=[f"{subject}要放在通风阴凉的地方。", f"{other}要用清水冲洗，再用软布擦干。"],
                id=f"q{place}",
                meta={"negatives": [{"miner": "bm25", "rank": 1}, {"miner": "dense", "rank": 2}]},
            )
        )
    return found
