from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhihui.errors import InputError
from zhihui.records import Passage, RejectLog, RetrievalSet, is_beir, read_beir, write_beir


def small() -> RetrievalSet:
    return RetrievalSet(
        name="set",
        corpus={"d1": Passage(text="甲"), "d2": Passage(text="乙")},
        queries={"q1": "问", "q2": "题"},
        qrels={"test": {"q1": {"d1": 1}, "q2": {"d2": 2, "d1": 0}}},
    )


@pytest.fixture
def folder(tmp_path):
    write_beir(tmp_path / "set", small())
    return tmp_path / "set"


def test_what_a_folder_needs(tmp_path, folder):
    assert is_beir(folder)
    assert not is_beir(tmp_path)
    (folder / "qrels" / "test.tsv").unlink()
    with pytest.raises(InputError, match=r"no qrels/\*\.tsv"):
        read_beir(folder)
    (folder / "queries.jsonl").unlink()
    with pytest.raises(InputError, match=r"no queries\.jsonl or queries\.jsonl\.gz"):
        read_beir(folder)
    (folder / "corpus.jsonl.gz").write_bytes(b"")
    with pytest.raises(InputError, match=r"both corpus\.jsonl and corpus\.jsonl\.gz; remove one"):
        read_beir(folder)
    with pytest.raises(InputError, match="no such folder"):
        read_beir(tmp_path / "none")


@pytest.mark.parametrize("header", ["", "q1\td1\t1", "query-id corpus-id score"])
def test_judgements_without_a_header_are_refused(folder, header):
    (folder / "qrels" / "test.tsv").write_text(f"{header}\nq1\td1\t1\n")
    with pytest.raises(InputError, match=r"test\.tsv:1: not a header"):
        read_beir(folder)


def test_windows_line_ends_and_a_byte_order_mark(folder):
    (folder / "qrels" / "test.tsv").write_bytes(b"\xef\xbb\xbfquery-id\tcorpus-id\tscore\r\nq1\td1\t1\r\n\r\n")
    assert read_beir(folder).qrels == {"test": {"q1": {"d1": 1}}}


def test_numbers_are_ids_and_titles_may_be_absent(folder):
    (folder / "corpus.jsonl").write_text('{"_id": 1, "text": "甲", "title": null}\n{"id": "d1", "text": "乙"}\n')
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\t1\t1\n")
    assert read_beir(folder).corpus == {"1": Passage(text="甲"), "d1": Passage(text="乙")}


def test_a_rejected_passage_takes_its_judgements_along(folder):
    (folder / "corpus.jsonl").write_text('{"_id": "d1", "text": ""}\n{"_id": "d2", "text": "乙"}\n')
    rejects = RejectLog(None)
    found = read_beir(folder, rejects=rejects)
    assert found.qrels == {"test": {"q2": {"d2": 2}}}
    assert rejects.counts == {"blank_text": 1, "unknown_passage": 2}
    (folder / "corpus.jsonl").write_text('{"_id": "d1", "text": ""}\n')
    with pytest.raises(InputError, match="no usable passages"):
        read_beir(folder, rejects=RejectLog(None))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"qrels": {"a/b": {}}}, "split 'a/b' cannot be a file name"),
        ({"queries": {"q 1": "问"}}, "id 'q 1' cannot be written to qrels"),
        ({"corpus": {"": Passage(text="甲")}}, "id '' cannot be written"),
    ],
)
def test_what_the_layout_cannot_hold(tmp_path, changes, words):
    data = small()
    for name, value in changes.items():
        setattr(data, name, value)
    with pytest.raises(InputError, match=re.escape(words)):
        write_beir(tmp_path / "out", data)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_splits_is_not_written_to(folder):
    data = small()
    data.qrels = {"dev": data.qrels["test"]}
    with pytest.raises(InputError, match=r"has judgements of other splits \(test\)"):
        write_beir(folder, data)


def test_examples_of_a_split():
    data = small()
    data.qrels["test"]["q1"] = {"d1": 1, "d2": 3}
    one, two = data.examples("test")
    assert (one.id, one.source, one.pos, one.pos_scores) == ("q1", "set", ["乙", "甲"], [3.0, 1.0])
    assert two.pos == ["乙"]
    with pytest.raises(InputError, match="set: no split 'dev'; there are: test"):
        data.examples("dev")


@given(seed=st.integers(), count=st.integers(30, 60))
def test_splitting_queries_is_a_stable_partition(seed, count):
    def divide(wanted: int) -> RetrievalSet:
        qrels = {"all": {f"q{n}": {"d": 1} for n in range(wanted)}}
        queries = {f"q{n}": "问" for n in range(wanted)}
        data = RetrievalSet(name="set", corpus={"d": Passage(text="甲")}, queries=queries, qrels=qrels)
        return data.split_queries({"train": 0.5, "dev": 0.5}, seed)

    some, more = divide(count), divide(count + 30)
    assert set(some.qrels["train"]).isdisjoint(some.qrels["dev"])
    assert {**some.qrels["train"], **some.qrels["dev"]}.keys() == {f"q{n}" for n in range(count)}
    for split in ("train", "dev"):
        assert some.qrels[split].items() <= more.qrels[split].items(), "queries added later move no other"


def test_splitting_wrongly():
    data = small()
    with pytest.raises(InputError, match="give shares above 0 that add up to 1"):
        data.split_queries({"train": 0.5, "dev": 0.6}, 0)
    with pytest.raises(InputError, match="split 'b' gets none of the 2 queries"):
        data.split_queries({"a": 0.9999999, "b": 0.0000001}, 0)
    data.qrels["dev"] = {}
    with pytest.raises(InputError, match="only a set with a single split"):
        data.split_queries({"a": 1.0}, 0)


def test_a_folder_that_cannot_be_finished_is_not_there(tmp_path, monkeypatch):
    from zhihui.records import Example
    from zhihui.records.formats import beir

    def full(folder, data):
        write_beir(folder, data)
        raise OSError("disk full")

    monkeypatch.setattr(beir, "write_beir", full)
    with pytest.raises(OSError, match="disk full"):
        beir.write(tmp_path / "out", [Example(query="问", pos=["答"])])
    assert list(tmp_path.iterdir()) == []
