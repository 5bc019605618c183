from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from zhihui.errors import InputError
from zhihui.ranking import BM25, segment

PASSAGES = [
    "红茶是全发酵茶，泡红茶用沸水。",
    "绿茶不发酵，水温八十度就好。",
    "咖啡豆要现磨现冲。",
    "红茶红茶红茶，三遍也还是红茶。",
    "！！！",
]
QUERIES = ["红茶怎么泡", "泡紅茶的水溫", "红茶红茶", "咖啡豆", "量子力学", "？"]


def reference(query, passages, k1, b):
    """The formula of BM25, word by word in float64."""
    documents = [Counter(segment(passage)) for passage in passages]
    average = sum(sum(words.values()) for words in documents) / len(documents)
    scores = []
    for words in documents:
        score = 0.0
        for word in segment(query):
            df = sum(word in other for other in documents)
            idf = math.log(1 + (len(documents) - df + 0.5) / (df + 0.5))
            length = 1 - b + b * sum(words.values()) / average
            score += idf * words[word] / (words[word] + k1 * length) if words[word] else 0.0
        scores.append(score)
    return np.array(scores)


@pytest.mark.parametrize(("k1", "b"), [(1.5, 0.75), (0.9, 0.4), (2.0, 0.0)])
def test_equals_the_formula(k1, b):
    found = BM25(PASSAGES, k1=k1, b=b).search(QUERIES, 5)
    for row, query in enumerate(QUERIES):
        scores = reference(query, PASSAGES, k1, b)
        order = [i for i in np.argsort(-scores, kind="stable") if scores[i] > 0]
        assert list(found.indices[row]) == order + [-1] * (5 - len(order))
        np.testing.assert_allclose(found.scores[row, : len(order)], scores[order], rtol=1e-5)
        assert np.isneginf(found.scores[row, len(order) :]).all()
    assert [int((row >= 0).sum()) for row in found.indices[3:]] == [1, 0, 0]


def test_a_shorter_list_is_the_beginning_of_a_longer_one_and_ties_go_to_the_lower_index():
    index = BM25(["苹果", "苹果和梨", "苹果", "梨", "苹果"])
    assert len(index) == 5
    long = index.search(["苹果"], 10)
    assert list(long.indices[0]) == [0, 2, 4, 1, -1, -1, -1, -1, -1, -1]
    for k in (1, 2, 3, 4):
        np.testing.assert_array_equal(index.search(["苹果"], k).indices, long.indices[:, :k])


def test_traditional_and_simplified_match_each_other():
    index = BM25(["电脑的内存条", "電腦的記憶卡"])
    assert set(index.search(["電腦"], 2).indices[0]) == {0, 1}


def test_more_texts_than_a_batch_keep_their_places():
    passages = [f"编号{number}号零件" for number in range(2500)]
    found = BM25(passages).search([f"{number}" for number in range(2500)], 1)
    assert list(found.indices[:, 0]) == list(range(2500))


@pytest.mark.parametrize("passages", [[], ["。。", "！"]])
def test_a_corpus_without_words_lists_nothing(passages):
    found = BM25(passages).search(["红茶"], 3)
    assert (found.indices == -1).all()
    assert found.indices.shape == (1, 3)


@pytest.mark.parametrize("settings", [{"k1": -0.1}, {"k1": math.nan}, {"b": 1.1}, {"b": -0.1}])
def test_settings_out_of_bounds_are_refused(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        BM25(PASSAGES, **settings)


def test_k_below_one_is_refused():
    with pytest.raises(InputError, match="k is 0"):
        BM25(PASSAGES).search(["红茶"], 0)


def test_a_saved_index_is_the_same(tmp_path):
    index = BM25(PASSAGES, k1=0.9, b=0.4, stop_words={"怎么"})
    index.save(tmp_path / "index")
    found, wanted = BM25.load(tmp_path / "index").search(QUERIES, 5), index.search(QUERIES, 5)
    np.testing.assert_array_equal(found.indices, wanted.indices)
    np.testing.assert_array_equal(found.scores, wanted.scores)
    assert len(BM25.load(tmp_path / "index")) == len(PASSAGES)
    assert BM25.load(tmp_path / "index").search(["怎么"], 5).indices.max() == -1


def test_a_saved_index_without_a_word_finds_nothing(tmp_path):
    BM25(["！！！"]).save(tmp_path)
    assert BM25.load(tmp_path).search(QUERIES, 1).indices.max() == -1


def test_passages_that_are_not_allowed_are_not_listed():
    index = BM25(PASSAGES)
    allowed = np.array([False, True, True, True, True])
    assert index.search(["红茶"], 5).indices[0].tolist()[:2] == [3, 0]
    found = index.search(["红茶"], 5, allowed=allowed)
    assert found.indices[0].tolist() == [3, -1, -1, -1, -1]
    assert found.scores[0, 0] == index.search(["红茶"], 5).scores[0, 0]
