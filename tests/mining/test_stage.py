from __future__ import annotations

import json
from dataclasses import replace

import pytest

from zhihui.errors import InputError
from zhihui.mining import Miner, MiningConfig
from zhihui.mining.stage import mine_files
from zhihui.records import RetrievalSet, read_examples, write_beir, write_examples
from zhihui.runs import read_manifest

BM25 = MiningConfig(miners=(Miner.parse("bm25:1-20:3"),))
DENSE = MiningConfig(miners=(Miner.parse("bm25:1-20:3"), Miner.parse("dense:1-20:3")), margin=0.3)


@pytest.fixture
def beir(tmp_path, passages, examples):
    """The first half of the queries in train, the second in test; a query of train is in test as well."""
    half = len(examples) // 2
    queries = {example.id: example.query for example in examples}
    train = {example.id: {example.meta["pos_ids"][0]: 1} for example in examples[:half]}
    test = {example.id: {example.meta["pos_ids"][0]: 1} for example in examples[half:]}
    queries["again"] = examples[0].query
    test["again"] = {"番茄-多少钱": 1}
    data = RetrievalSet(name="own", corpus=passages, queries=queries, qrels={"train": train, "test": test})
    write_beir(tmp_path / "own", data)
    return tmp_path / "own"


def mined(out):
    return list(read_examples(out / "train.jsonl"))


def test_a_beir_folder_becomes_training_examples(beir, tmp_path, examples):
    manifest = mine_files(beir, tmp_path / "out", BM25)
    found = mined(tmp_path / "out")
    assert [example.id for example in found] == [example.id for example in examples[:20]]
    assert all(len(example.neg) == 3 for example in found)
    assert manifest.counts["mined"] == {"bm25:1-20:3": 60}
    assert manifest.counts["rejected"] == {}
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["manifest.json", "train.jsonl"]
    assert read_manifest(tmp_path / "out").config["split"] == "train"


def test_positives_of_another_split_are_positives(beir, tmp_path, passages):
    everything = MiningConfig(miners=(Miner.parse("random:60"),))
    mine_files(beir, tmp_path / "out", everything)
    first, second = mined(tmp_path / "out")[:2]
    assert passages["番茄-多少钱"].full not in first.neg
    assert passages["番茄-多少钱"].full in second.neg


def test_the_same_work_is_not_done_twice(beir, tmp_path, encoder):
    out = tmp_path / "out"
    assert not mine_files(beir, out, DENSE, encoder=encoder).reused
    calls = len(encoder.calls)
    assert mine_files(beir, out, DENSE, encoder=encoder).reused
    assert len(encoder.calls) == calls
    with pytest.raises(InputError, match=r"other settings \(mining\)"):
        mine_files(beir, out, replace(DENSE, seed=1), encoder=encoder)
    retrained = type(encoder)()
    retrained.fingerprint = "other weights"
    with pytest.raises(InputError, match="other inputs"):
        mine_files(beir, out, DENSE, encoder=retrained)
    assert not mine_files(beir, out, DENSE, encoder=retrained, overwrite=True).reused


def test_held_back_candidates_are_in_the_rejected_file(beir, tmp_path, encoder):
    manifest = mine_files(beir, tmp_path / "out", DENSE, encoder=encoder)
    lines = (tmp_path / "out" / "rejected.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == manifest.counts["filtered"]["margin"] == manifest.counts["rejected"]["margin"] > 0
    assert {json.loads(line)["reason"] for line in lines} == {"margin"}
    assert manifest.inputs["encoder"] == encoder.fingerprint


def test_a_killed_run_does_not_encode_again(beir, tmp_path, encoder):
    class Killed(type(encoder)):
        def encode_queries(self, texts, *, instruction=None):
            raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        mine_files(beir, out, DENSE, encoder=Killed())
    assert not out.exists()
    mine_files(beir, out, DENSE, encoder=encoder)
    assert [len(call) for call in encoder.calls] == [20]  # the queries alone
    assert sorted(file.name for file in out.iterdir()) == ["manifest.json", "rejected.jsonl", "train.jsonl"]
    mine_files(beir, tmp_path / "whole", DENSE, encoder=encoder)
    assert (out / "train.jsonl").read_bytes() == (tmp_path / "whole" / "train.jsonl").read_bytes()


def test_examples_are_their_own_corpus(tmp_path, examples):
    bare = [replace(example, meta={}) for example in examples]
    bare[0] = replace(bare[0], neg=["这一句只是反例"])
    write_examples(tmp_path / "in.jsonl", bare)
    everything = MiningConfig(miners=(Miner.parse("random:60"),))
    manifest = mine_files(tmp_path / "in.jsonl", tmp_path / "out", everything)
    found = mined(tmp_path / "out")
    assert manifest.counts["passages"] == 41
    assert set(found[1].neg) == {example.pos[0] for example in bare} - {bare[1].pos[0]} | {"这一句只是反例"}
    assert manifest.config["split"] is None


def test_another_corpus(beir, tmp_path, examples, passages):
    write_examples(tmp_path / "in.jsonl", examples[:3])
    rows = [
        {"id": 7, "text": "一段", "title": "题"},
        {"text": "二段"},
        {"_id": "c", "text": examples[0].pos[0]},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    everything = MiningConfig(miners=(Miner.parse("random:100"),))
    mine_files(tmp_path / "in.jsonl", tmp_path / "a", everything, corpus=tmp_path / "rows.jsonl")
    assert set(mined(tmp_path / "a")[0].neg) == {"题 一段", "二段"}
    assert set(mined(tmp_path / "a")[1].neg) == {"题 一段", "二段", examples[0].pos[0]}
    mine_files(tmp_path / "in.jsonl", tmp_path / "b", everything, corpus=beir)
    assert len(mined(tmp_path / "b")[1].neg) == len(passages) - 1
    assert passages["番茄-多少钱"].full not in mined(tmp_path / "b")[0].neg


def test_unusable_rows_stop_or_are_set_aside(tmp_path, examples):
    write_examples(tmp_path / "in.jsonl", examples[:2])
    with (tmp_path / "in.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"query": "没有答案", "pos": []}\n')
    rows = ['{"_id": "a", "text": "一段"}', '{"_id": "a", "text": "二段"}', '{"text": 3}', '{"text": " "}']
    (tmp_path / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    source, corpus = tmp_path / "in.jsonl", tmp_path / "rows.jsonl"
    with pytest.raises(InputError, match=r"in\.jsonl:3"):
        mine_files(source, tmp_path / "out", BM25)
    source.write_text("".join(source.read_text(encoding="utf-8").splitlines(True)[:2]), encoding="utf-8")
    with pytest.raises(InputError, match=r"rows\.jsonl:2.*given twice"):
        mine_files(source, tmp_path / "out", BM25, corpus=corpus)
    manifest = mine_files(source, tmp_path / "out", BM25, corpus=corpus, quarantine=True)
    assert manifest.counts["rejected"] == {"duplicate_id": 1, "wrong_type": 1, "blank_text": 1}
    assert manifest.counts["passages"] == 1
    assert len((tmp_path / "out" / "rejected.jsonl").read_text(encoding="utf-8").splitlines()) == 3


def test_model_and_miners_must_agree(beir, tmp_path, encoder):
    with pytest.raises(InputError, match="dense mining needs a model"):
        mine_files(beir, tmp_path / "out", DENSE)
    with pytest.raises(InputError, match="only dense miners use a model"):
        mine_files(beir, tmp_path / "out", BM25, encoder=encoder)


def test_bad_paths_are_refused(beir, tmp_path, examples):
    with pytest.raises(InputError, match="no split 'dev'"):
        mine_files(beir, tmp_path / "out", BM25, split="dev")
    with pytest.raises(InputError, match="no such file"):
        mine_files(tmp_path / "nothing", tmp_path / "out", BM25)
    (tmp_path / "folder").mkdir()
    write_examples(tmp_path / "in.jsonl", examples)
    with pytest.raises(InputError, match="not a BEIR one"):
        mine_files(tmp_path / "in.jsonl", tmp_path / "out", BM25, corpus=tmp_path / "folder")
