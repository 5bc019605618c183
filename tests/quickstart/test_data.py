from __future__ import annotations

from dataclasses import replace

import pytest

from zhihui.errors import InputError
from zhihui.quickstart.data import read_set, watched, with_splits


def test_the_shipped_set_keeps_its_own_splits():
    data = read_set(None, seed=0)
    assert data.name == "starter"
    assert {split: len(judged) for split, judged in data.qrels.items()} == {"dev": 140, "test": 287, "train": 719}


def test_a_set_with_one_split_is_divided_by_the_seed(folder, small_set):
    data = read_set(folder, seed=0)
    assert set(data.qrels) == {"train", "dev", "test"}
    divided = [set(judged) for judged in data.qrels.values()]
    assert set().union(*divided) == set(small_set.queries)
    assert sum(map(len, divided)) == len(small_set.queries), "a query must be in one split only"
    assert data.qrels == read_set(folder, seed=0).qrels
    assert data.qrels != read_set(folder, seed=1).qrels


def test_dev_is_taken_from_train_when_only_that_is_missing(small_set):
    judged = small_set.qrels["test"]
    keys = list(judged)
    data = replace(
        small_set, qrels={"train": {k: judged[k] for k in keys[:40]}, "test": {k: judged[k] for k in keys[40:]}}
    )
    found = with_splits(data, seed=0)
    assert found.qrels["test"] == data.qrels["test"]
    assert found.qrels["train"] | found.qrels["dev"] == data.qrels["train"]
    assert 0 < len(found.qrels["dev"]) < len(found.qrels["train"])


def test_splits_without_train_are_refused_by_name(small_set):
    data = replace(small_set, qrels={"dev": small_set.qrels["test"], "test": small_set.qrels["test"]})
    with pytest.raises(InputError, match="its splits are dev, test; one split, or train and test, are needed"):
        with_splits(data, seed=0)


def test_too_few_queries_are_refused(small_set):
    few = dict(list(small_set.qrels["test"].items())[:19])
    with pytest.raises(InputError, match="19 judged queries are too few to train and measure on; give 20"):
        with_splits(replace(small_set, qrels={"test": few}), seed=0)


def test_the_watched_set_is_small_and_holds_every_judged_passage(small_set):
    found = watched(small_set, "test", queries=5, passages=12)
    assert len(found.qrels["test"]) == 5
    assert 5 <= len(found.corpus) <= 12
    assert all(key in found.corpus for grades in found.qrels["test"].values() for key in grades)
    tight = watched(small_set, "test", queries=5, passages=1)
    assert set(tight.corpus) == {f"p{i}" for i in ("0-0", "0-1", "0-2", "0-3", "1-0")}


@pytest.mark.parametrize("name", ["nothing", "empty"])
def test_what_is_no_set_is_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=name):
        read_set(tmp_path / name, seed=0)
