from __future__ import annotations

import pytest

from zhihui.errors import InputError
from zhihui.mining import Miner, MiningConfig


@pytest.mark.parametrize(
    "spec", ["bm25:1-50:4", "dense:10-60:3", "cross:1-20:4", "random:2", "bm25:7-7:1", "bm25:1-50:0"]
)
def test_a_spec_is_read_and_written(spec):
    assert str(Miner.parse(f" {spec} ")) == spec


def test_a_spec_means_its_numbers():
    assert Miner.parse("dense:10-60:3") == Miner(method="dense", first=10, last=60, count=3)
    assert Miner.parse("random:2") == Miner(method="random", count=2)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("bm25", "cannot be read"),
        ("bm25:1-50", "cannot be read"),
        ("bm25:-1-50:4", "cannot be read"),
        ("bm25:1-50:4:x", "cannot be read"),
        ("", "cannot be read"),
        ("sparse:1-50:4", "unknown mining method 'sparse'"),
        ("bm25:4", "no rank window"),
        ("random:1-5:2", "random has no ranks"),
        ("bm25:0-5:2", "ranks 0-5"),
        ("dense:9-5:2", "ranks 9-5"),
        ("random:0", "count is 0"),
        ("cross:1-50:0", "count is 0"),
        ("bm25:1-3:4", "4 negatives of 3 ranks"),
    ],
)
def test_a_bad_spec_is_refused(spec, message):
    with pytest.raises(InputError, match=message):
        Miner.parse(spec)


DENSE = Miner.parse("dense:1-9:2")
CROSS = Miner.parse("cross:1-9:2")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"miners": ()}, "no miner"),
        ({"miners": (DENSE, DENSE)}, "dense:1-9:2 is given twice"),
        ({"miners": (DENSE,), "margin": -0.1}, "margin is -0.1"),
        ({"miners": (DENSE,), "margin": float("nan")}, "margin is nan"),
        ({"miners": (DENSE,), "ratio": 0.0}, "ratio is 0.0"),
        ({"miners": (DENSE,), "ratio": 1.1}, "ratio is 1.1"),
        ({"margin": 0.1}, "dense miners find, and there is none"),
        ({"ratio": 0.9}, "dense miners find, and there is none"),
        ({"miners": (DENSE,), "cross_ratio": 0.0}, "cross_ratio is 0.0"),
        ({"miners": (DENSE,), "cross_margin": -1.0}, "cross_margin is -1.0"),
        ({"near_duplicates": 1.5}, "near_duplicates is 1.5"),
        ({"max_grade": float("inf")}, "max_grade is inf"),
        ({"miners": (CROSS,)}, "re-ranks what bm25 and dense miners find"),
        ({"miners": (Miner.parse("random:1"),), "cross_ratio": 0.9}, "re-ranks what bm25 and dense miners find"),
        ({"miners": (Miner.parse("bm25:1-9:0"),)}, "only feeds a cross miner"),
        ({"index": "hnsw"}, "unknown index 'hnsw'"),
        ({"index": "faiss"}, "index faiss is for dense miners"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        MiningConfig(**settings)


def test_depth_is_that_of_the_deepest_window():
    config = MiningConfig(miners=(DENSE, Miner.parse("dense:20-30:1"), Miner.parse("random:1")))
    assert (config.depth("dense"), config.depth("bm25"), config.depth("random")) == (30, 0, 0)
