"""The shipped model: small, loaded by its name, and better than BM25 where queries avoid their passage's words."""

from __future__ import annotations

import numpy as np
import pytest

import zhihui
from zhihui.errors import InputError
from zhihui.evaluation import Bm25System, DenseSystem, evaluate
from zhihui.records import read_beir
from zhihui.records.shipped import SHIPPED_MODELS, STARTER

MOST_BYTES = 16_000_000


@pytest.fixture(scope="module")
def nano() -> zhihui.Encoder:
    return zhihui.load("nano", dtype="float32")


def test_it_is_small_enough_to_be_shipped():
    assert sum(path.stat().st_size for path in SHIPPED_MODELS["nano"].rglob("*") if path.is_file()) <= MOST_BYTES


def test_it_finds_what_is_meant_in_either_script_with_and_without_a_passage_prompt(nano):
    passages = [
        "出租人无正当理由不退还押金的，承租人可以向人民法院起诉。",
        "干香菇先冲去浮灰，再用温水泡半小时，水里加一小撮白糖。",
        "高铁票在开车前八天以上退票不收手续费。",
    ]
    queries = nano.encode_queries(["租房押金不退怎么办", "乾香菇怎麼泡", "退高鐵票要手續費嗎"])
    assert (queries @ nano.encode_documents(passages).T).argmax(1).tolist() == [0, 1, 2]
    assert (queries @ nano.encode_queries(passages).T).argmax(1).tolist() == [0, 1, 2]
    assert np.allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-5)


def test_it_beats_bm25_on_the_shipped_set(nano):
    starter = read_beir(STARTER)
    found = evaluate(starter, "test", [Bm25System(), DenseSystem(nano, name="nano")], k=100)
    bm25, dense = (result.intervals["ndcg_at_10"].value for result in found.systems)
    assert dense > bm25


def test_a_folder_of_its_name_is_not_taken_for_it(tmp_path, monkeypatch):
    (tmp_path / "nano").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"nano: is a shipped model and a folder here; write \./nano"):
        zhihui.load("nano")
