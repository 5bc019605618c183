"""What mining takes from disk: shared vectors, and an approximate index in place of the exact search."""

from __future__ import annotations

import numpy as np
import pytest

from zhihui.mining import Miner, MiningConfig, mine
from zhihui.mining.shards import Shards
from zhihui.mining.stage import mine_files
from zhihui.ranking import BM25, STOP_WORDS, TopK
from zhihui.records import Example, Passage, read_examples, write_examples


def config(*specs, **settings):
    return MiningConfig(miners=tuple(Miner.parse(spec) for spec in specs), **settings)


def test_two_runs_share_their_vectors(examples, tmp_path, encoder):
    write_examples(tmp_path / "in.jsonl", examples)
    for name, setting in (("a", config("dense:1-20:3")), ("b", config("dense:1-20:3", seed=1))):
        mine_files(tmp_path / "in.jsonl", tmp_path / name, setting, encoder=encoder, cache=tmp_path / "cache")
    assert sum(map(len, encoder.calls)) == 2 * len(examples), "each query and each passage once"
    retrained = type(encoder)()
    retrained.fingerprint = "other weights"
    mine_files(
        tmp_path / "in.jsonl", tmp_path / "c", config("dense:1-20:3"), encoder=retrained, cache=tmp_path / "cache"
    )
    assert sum(map(len, retrained.calls)) == 2 * len(examples), "vectors of other weights are not taken"
    mine_files(tmp_path / "in.jsonl", tmp_path / "d", config("dense:1-20:3"), encoder=encoder)
    one, other = (list(read_examples(tmp_path / name / "train.jsonl")) for name in ("a", "d"))
    assert one == other, "a cache changes no result"


def test_an_approximate_index_counts_its_recall(examples, passages, encoder):
    exact, approximate = (
        mine(examples, passages, config("dense:1-60:60", index=index), encoder=encoder) for index in ("exact", "faiss")
    )
    assert approximate.counts["faiss"]["recall"] == 1.0, "a corpus this small is searched whole"
    assert approximate.counts["faiss"]["sample"] == len(examples)
    assert "faiss" not in exact.counts
    for one, other in zip(approximate.examples, exact.examples, strict=True):
        assert set(one.neg) == set(other.neg), "equal scores may be ranked otherwise"


def test_stop_words_do_not_count():
    passages = ["我们的自己的这个那个的的", "红茶要用沸水冲泡"]
    query = ["请问我们可以怎么冲泡红茶的"]
    assert BM25(passages, stop_words=STOP_WORDS).search(query, 2).indices.tolist() == [[1, -1]]
    assert sorted(BM25(passages).search(query, 2).indices[0].tolist()) == [0, 1]
    corpus = {text: Passage(text) for text in (*passages, "绿茶")}
    example = Example(query=query[0], pos=["绿茶"])
    assert mine([example], corpus, config("bm25:1-2:2", stop_words=True)).examples[0].neg == [passages[1]]
    assert len(mine([example], corpus, config("bm25:1-2:2")).examples[0].neg) == 2


def test_shards_are_joined_and_kept(tmp_path):
    asked = []

    def search(part: slice) -> TopK:
        asked.append((part.start, part.stop))
        rows = np.arange(part.start, part.stop)[:, None]
        return TopK(indices=rows + np.arange(3), scores=(rows * np.ones(3)).astype(np.float32))

    expected = search(slice(0, 10))
    for folder in (None, tmp_path / "work"):
        asked.clear()
        found = Shards(folder, "dense").rank(10, search, size=4)
        assert asked == [(0, 4), (4, 8), (8, 10)]
        assert (found.indices == expected.indices).all()
        assert (found.scores == expected.scores).all()
    (tmp_path / "work" / "dense-0000000004.npz").unlink()
    asked.clear()
    again = Shards(tmp_path / "work", "dense").rank(10, search, size=4)
    assert asked == [(4, 8)]
    assert (again.indices == expected.indices).all()
    assert not any(path.name.startswith(".") for path in (tmp_path / "work").iterdir())


@pytest.mark.parametrize("method", ["bm25", "dense"])
def test_rankings_do_not_depend_on_the_shards(examples, passages, encoder, tmp_path, monkeypatch, method):
    setting = config(f"{method}:1-20:5")
    whole = mine(examples, passages, setting, encoder=encoder)
    monkeypatch.setattr("zhihui.mining.shards.QUERIES", 7)
    parts = mine(examples, passages, setting, encoder=encoder, folder=tmp_path / "work")
    assert [example.to_row() for example in parts.examples] == [example.to_row() for example in whole.examples]
    assert len(list((tmp_path / "work").glob(f"{method}-*.npz"))) == 6
