"""Sampling: fewer queries, all passages, the same ones whenever and in whatever company."""

from __future__ import annotations

from dataclasses import replace

import pytest

from zhihui.errors import InputError
from zhihui.records import Passage, RetrievalSet, read_beir, write_beir
from zhihui.records.sampling import SampleConfig, sample_files, sampled


@pytest.fixture
def data():
    many = range(40)
    return RetrievalSet(
        name="set",
        corpus={f"p{number}": Passage(f"第{number}段") for number in many},
        queries={f"q{number}": f"第{number}问" for number in many},
        qrels={
            "train": {f"q{number}": {f"p{number}": 1} for number in many if number < 10},
            "test": {f"q{number}": {f"p{number}": 2} for number in many if number >= 10},
        },
    )


def test_some_queries_of_the_split_stay_with_all_passages(data):
    part = sampled(data, SampleConfig(queries=8))
    assert part.corpus == data.corpus
    assert len(part.queries) == 8
    assert part.qrels == {"test": {key: data.qrels["test"][key] for key in part.queries}}
    assert list(part.queries) == [key for key in data.queries if key in part.queries]
    assert part.queries != sampled(data, SampleConfig(queries=8, seed=1)).queries


def test_queries_that_come_or_go_leave_the_others_where_they_are(data):
    chosen = [*sampled(data, SampleConfig(queries=8)).queries]
    judged = {key: grades for key, grades in data.qrels["test"].items() if key != chosen[3]}
    fewer = sampled(replace(data, qrels={"test": judged}), SampleConfig(queries=8))
    assert len(set(chosen) & set(fewer.queries)) == 7


def test_a_small_set_keeps_all(data):
    assert sampled(data, SampleConfig(queries=500)).qrels["test"] == data.qrels["test"]


def test_each_set_is_written_into_a_folder_of_sets(data, tmp_path):
    for name in ("a", "b"):
        write_beir(tmp_path / name, data)
    folders = {name: tmp_path / name for name in ("a", "b")}
    manifest = sample_files(folders, tmp_path / "out", SampleConfig(queries=8))
    assert manifest.counts == {"sets": 2, "queries": 16, "queries_by_set": {"a": 8, "b": 8}}
    read = read_beir(tmp_path / "out" / "sets" / "b")
    assert (read.corpus, read.queries) == (data.corpus, sampled(data, SampleConfig(queries=8)).queries)


def test_no_queries_and_no_split_are_refused(data):
    with pytest.raises(InputError, match="queries is 0; keep at least 1"):
        SampleConfig(queries=0)
    with pytest.raises(InputError, match="no split 'dev'; there are: test, train"):
        sampled(data, SampleConfig(split="dev"))
