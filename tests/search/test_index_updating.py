"""Bringing an index up to date: what is encoded, what is kept, what goes, and what is refused."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
from word_encoder import WordEncoder

from zhihui.corpus import ChunkConfig
from zhihui.errors import InputError
from zhihui.records import Passage, RetrievalSet, write_beir, write_rows
from zhihui.search import IndexConfig, embedding, open_index, sources, writing

SMALL = IndexConfig(chunk=ChunkConfig(size=24, least=4))


def passages(folder):
    with open_index(folder) as index:
        return {index.row(number)["text"]: index.row(number) for number in range(len(index))}


def counts(report):
    return report.added, report.kept, report.removed, report.embedded


def test_every_format_gives_passages_with_their_place(write, docs, tmp_path):
    report = write(docs)
    assert counts(report) == (5, 0, 0, 5)
    found = passages(tmp_path / "index")
    row = found["如有损坏，可以从押金中扣除维修费用。"]
    assert row["title"] == "租房 > 扣除"
    assert row["metadata"] == {
        "source": "rent.md",
        "document": "rent.md",
        "headings": ["租房", "扣除"],
        "start": 23,
        "end": 41,
    }
    row = found["身份证丢失可以到任意派出所补办。"]
    assert row["metadata"]["document"] == "sub/rows.jsonl:2"
    assert (row["metadata"]["year"], row["metadata"]["tags"]) == (2023, ["证"])
    fields = report.description.fields
    assert (fields["year"], fields["lang"], fields["source"], fields["title"]) == ("number", "text", "text", "text")
    assert "tags" not in fields


def test_only_what_changed_is_encoded(write, docs, tmp_path):
    write(docs)
    encoder = WordEncoder()
    report = write(docs, encoder=encoder)
    assert (report.changed, counts(report), encoder.encoded) == (False, (0, 5, 0, 0), [])

    (docs / "rent.md").write_text((docs / "rent.md").read_text().replace("维修费用", "清洁费用"))
    report = write(docs, encoder=encoder)
    assert (report.changed, counts(report)) == (True, (1, 4, 1, 1))
    assert encoder.encoded == ["租房 > 扣除 如有损坏，可以从押金中扣除清洁费用。"]

    (docs / "train.txt").unlink()
    report = write(docs, encoder=encoder)
    assert counts(report) == (0, 4, 1, 0)
    assert not any("高铁" in text for text in passages(tmp_path / "index"))


def test_a_file_under_another_name_keeps_its_vectors(write, docs, tmp_path):
    write(docs)
    (docs / "train.txt").rename(docs / "rail.txt")
    encoder = WordEncoder()
    assert counts(write(docs, encoder=encoder)) == (0, 5, 0, 0)
    assert encoder.encoded == []
    assert passages(tmp_path / "index")["高铁从北京到上海最快只要四个多小时。"]["metadata"]["source"] == "rail.txt"


def test_an_index_brought_up_to_date_is_the_one_written_anew(write, docs, tmp_path):
    for number in range(4):
        (docs / f"note{number}.txt").write_text(f"内部资料不外传。\n第{number}号通知说的是另外一件事情。\n")
    write(docs)
    (docs / "note0.txt").unlink()
    (docs / "more.txt").write_text("内部资料不外传。\n泡绿茶的水温不要超过八十五度。\n")
    (docs / "sub" / "copy.txt").write_text("高铁从北京到上海最快只要四个多小时。\n")
    again, anew = write(docs), write(docs, out="anew")
    assert again.embedded < anew.embedded
    old, new = (sorted((tmp_path / name).glob("generation-*"))[-1] for name in ("index", "anew"))
    for name in ("passages.jsonl", "vectors.npy", "keys.npy", "places.npy", "files.jsonl", "cut.json", "columns.arrow"):
        assert (old / name).read_bytes() == (new / name).read_bytes(), name


def test_files_are_cut_again_where_others_make_a_line_of_theirs_boilerplate(write, docs, tmp_path):
    for number in range(2):
        (docs / f"note{number}.txt").write_text(f"内部资料不得外传。\n第{number}号通知说的是另外一件事情。\n")
    write(docs)
    assert any("内部资料" in text for text in passages(tmp_path / "index"))
    (docs / "train.txt").write_text("内部资料不得外传。\n高铁从北京到上海最快只要四个多小时。\n")
    write(docs)
    assert not any("内部资料" in text for text in passages(tmp_path / "index"))


def test_a_duplicate_comes_in_when_the_first_goes(write, docs, tmp_path):
    (docs / "a.txt").write_text("高铁从北京到上海最快只要四个多小时。\n")
    report = write(docs)
    assert report.description.rejected == {"duplicate": 1}
    assert passages(tmp_path / "index")["高铁从北京到上海最快只要四个多小时。"]["metadata"]["source"] == "a.txt"
    (docs / "a.txt").unlink()
    report = write(docs)
    assert (counts(report), report.description.rejected) == ((0, 5, 0, 0), {})
    assert passages(tmp_path / "index")["高铁从北京到上海最快只要四个多小时。"]["metadata"]["source"] == "train.txt"


def test_several_inputs_are_told_apart(write, docs, tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "train.txt").write_text("泡绿茶的水温不要超过八十五度。")
    (tmp_path / "alone.txt").write_text("苹果放在冰箱里可以存放更久。")
    write(docs, tmp_path / "more", tmp_path / "alone.txt")
    found = {row["metadata"]["source"] for row in passages(tmp_path / "index").values()}
    assert found == {"docs/rent.md", "docs/train.txt", "docs/sub/rows.jsonl", "more/train.txt", "alone.txt"}


def test_rows_of_a_beir_folder_are_passages_as_they_are(write, tmp_path):
    corpus = {"p1": Passage(" 两个  空格\n和一个换行 ", "标题"), "p2": Passage("短"), "p3": Passage("短")}
    data = RetrievalSet(name="set", corpus=corpus, queries={"q": "短"}, qrels={"test": {"q": {"p2": 1}}})
    write_beir(tmp_path / "set", data)
    encoder = WordEncoder()
    report = write(tmp_path / "set", encoder=encoder)
    # Texts that are equal are encoded once, and stay passages of their own.
    assert (report.description.passages, report.embedded) == (3, 2)
    assert sorted(encoder.encoded) == sorted({passage.full for passage in corpus.values()})
    with open_index(tmp_path / "index") as index:
        assert [index.row(n)["_id"] for n in range(3)] == ["p1", "p2", "p3"]
        assert index.row(0)["text"] == corpus["p1"].text


def test_a_corpus_that_was_cut_keeps_its_places(write, docs, tmp_path):
    from zhihui.corpus.stage import chunk_files

    chunk_files(docs, tmp_path / "corpus", ChunkConfig())
    write(docs)
    direct = passages(tmp_path / "index")
    write(tmp_path / "corpus", out="other")
    other = passages(tmp_path / "other")
    write(tmp_path / "corpus" / "corpus.jsonl", out="file")
    assert passages(tmp_path / "file") == other
    assert direct.keys() == other.keys()
    for text, row in other.items():
        assert {**direct[text]["metadata"], **row["metadata"]} == direct[text]["metadata"]
        assert row["_id"] == direct[text]["_id"]


def test_csv_and_parquet_rows_bring_their_keys(write, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text(
        'text,topic\n"苹果放在冰箱里，可以\n存放更久",水果\n,空\n香蕉不要放进冰箱里去,水果\n'
    )
    write_rows(
        tmp_path / "in" / "b.parquet", [{"content": "高铁从北京到上海只要四个多小时", "stars": 4.5, "new": True}]
    )
    report = write(tmp_path / "in")
    found = passages(tmp_path / "index")
    assert found["香蕉不要放进冰箱里去"]["metadata"]["topic"] == "水果"
    assert found["高铁从北京到上海只要四个多小时"]["metadata"]["stars"] == 4.5
    assert "text" not in report.description.fields
    assert report.description.fields["new"] == "flag"
    assert report.description.rejected == {"blank_text": 1}


def test_a_row_with_an_id_that_was_given_is_set_aside(write, tmp_path):
    write_rows(tmp_path / "a.jsonl", [{"id": "x", "text": "苹果"}, {"id": "x", "text": "香蕉"}])
    report = write(tmp_path / "a.jsonl", config=IndexConfig(whole=True))
    assert (report.description.passages, report.description.rejected) == (1, {"duplicate_id": 1})
    generation = tmp_path / "index" / "generation-000001"
    (rejected,) = map(json.loads, (generation / "rejected.jsonl").read_text().splitlines())
    assert rejected["where"] == "a.jsonl:2@0"


def test_what_cannot_be_read_is_set_aside_and_told_each_time(write, docs, tmp_path):
    (docs / "scan.pdf").write_bytes(b"%PDF-1.4 broken")
    (docs / "clip.mp4").write_bytes(b"\0\1")
    wanted = {"broken_pdf": 1, "unknown_format": 1}
    assert write(docs).description.rejected == wanted
    (docs / "train.txt").write_text("泡绿茶的水温不要超过八十五度。")
    assert write(docs).description.rejected == wanted


# --------------------------------------------------------------------------- other settings


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (SMALL, "size 256 became 24, least 8 became 4"),
        (IndexConfig(store_dtype="float16"), "store_dtype 'float32' became 'float16'"),
        (IndexConfig(dimensions=8), "dimensions None became 8"),
        (IndexConfig(whole=True), "whole False became True"),
    ],
    ids=["chunk", "dtype", "dimensions", "whole"],
)
def test_other_settings_are_refused_and_taken_to_rebuild(write, docs, tmp_path, config, message):
    write(docs)
    with pytest.raises(InputError, match="was made with other settings") as refused:
        write(docs, config=config)
    assert message in str(refused.value)
    assert "--rebuild" in str(refused.value)
    assert write(docs, config=config, rebuild=True).changed
    assert not write(docs).changed, "later runs keep the settings the index has"


def test_to_rebuild_encodes_nothing_twice(write, docs):
    write(docs)
    encoder = WordEncoder()
    assert write(docs, encoder=encoder, config=IndexConfig(k1=1.2), rebuild=True).changed
    assert encoder.encoded == []


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (WordEncoder(dimension=16), "dimension 32 became 16"),
        (WordEncoder(name="trained"), "its weights or tokenizer are others"),
    ],
    ids=["dimension", "weights"],
)
def test_another_model_is_refused_and_encodes_all_to_rebuild(write, docs, tmp_path, encoder, message):
    write(docs)
    with pytest.raises(InputError, match="was made by another model") as refused:
        write(docs, encoder=encoder)
    assert message in str(refused.value)
    assert write(docs, encoder=encoder, rebuild=True).embedded == 5
    with open_index(tmp_path / "index") as index:
        assert index.description.fingerprint == encoder.fingerprint


def test_prompts_and_pooling_are_named(write, docs, model):
    from zhihui import load

    write(docs, encoder=load(model, device="cpu"))
    with pytest.raises(InputError, match="pooling 'lasttoken' became 'mean'"):
        write(docs, encoder=load(model, device="cpu", pooling="mean"))
    with pytest.raises(InputError, match=r"prompts .*'query': 'Q: '"):
        write(docs, encoder=load(model, device="cpu", prompts={"query": "Q: ", "document": ""}))


# --------------------------------------------------------------------------- bad input


def test_bad_input_is_refused_and_leaves_nothing(write, docs, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "short").mkdir()
    (tmp_path / "short" / "a.txt").write_text("短")
    for given, message in [
        (tmp_path / "none", "no such file or folder"),
        (tmp_path / "empty", "holds no files"),
        (tmp_path / "short", "no passage is left of 1 files (1 too_short)"),
    ]:
        with pytest.raises(InputError) as refused:
            write(given)
        assert message in str(refused.value)
        assert not (tmp_path / "index").exists()
    with pytest.raises(InputError, match="lies within"):
        write(docs, out="docs/index")
    with pytest.raises(InputError, match="exists and is not an index"):
        write(docs, out="docs/sub/../../short")


def test_a_folder_that_may_not_be_read_is_refused_not_taken_for_empty(write, docs, monkeypatch):
    write(docs)
    scan = os.scandir

    def closed(path):
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(InputError, match=r"sub: cannot be looked into \(Permission denied\)"):
        write(docs)


def test_two_files_of_one_name_are_refused(write, docs, tmp_path):
    (tmp_path / "train.txt").write_text("泡绿茶的水温不要超过八十五度。")
    with pytest.raises(InputError, match=r"would be called train\.txt"):
        write(tmp_path / "train.txt", docs / "train.txt")


# --------------------------------------------------------------------------- killed and run again


class Stopped(WordEncoder):
    """Stops before the third block."""

    def encode_documents(self, texts):
        if len(self.encoded) >= 4:
            raise KeyboardInterrupt
        return super().encode_documents(texts)


def test_a_run_that_was_stopped_goes_on_with_what_it_encoded_and_read(write, docs, tmp_path, monkeypatch):
    monkeypatch.setattr(embedding, "_BLOCK", 2)
    with pytest.raises(KeyboardInterrupt):
        write(docs, encoder=Stopped())
    with pytest.raises(InputError, match="not an index"):
        open_index(tmp_path / "index")
    monkeypatch.setattr(sources, "read_documents", None)
    encoder = WordEncoder()
    assert write(docs, encoder=encoder).description.passages == 5
    assert len(encoder.encoded) == 1
    assert sorted(os.listdir(tmp_path / "index")) == ["current.json", "generation-000001"]


def test_float16_takes_half_the_space(write, docs, tmp_path):
    write(docs)
    write(docs, config=IndexConfig(store_dtype="float16"), out="half")
    one, half = (
        np.load(next((tmp_path / name).glob("generation-*")) / "vectors.npy", mmap_mode="r")
        for name in ("index", "half")
    )
    assert (one.dtype, half.dtype) == (np.float32, np.float16)
    np.testing.assert_allclose(one, half, atol=1e-3)
    found = []
    for name in ("index", "half"):
        with open_index(tmp_path / name) as index:
            found.append([hit.id for hit in index.search("押金", encoder=WordEncoder(), mode="dense")])
    assert found[0] == found[1]


def test_vectors_are_cut_to_a_length_and_queries_with_them(write, docs, tmp_path):
    write(docs)
    encoder = WordEncoder()
    assert write(docs, config=IndexConfig(dimensions=8), out="short", encoder=encoder).description.dimension == 8
    whole, short = (
        np.load(next((tmp_path / name).glob("generation-*")) / "vectors.npy") for name in ("index", "short")
    )
    assert short.shape == (5, 8)
    np.testing.assert_allclose(short, whole[:, :8] / np.linalg.norm(whole[:, :8], axis=1, keepdims=True), atol=1e-6)
    query = encoder.encode_queries(["押金"])[0, :8]
    with open_index(tmp_path / "short") as index:
        hits = index.search("押金", encoder=WordEncoder(), mode="dense", top_k=5)
    expected = sorted((short @ (query / np.linalg.norm(query))).tolist(), reverse=True)
    assert [hit.score for hit in hits] == pytest.approx(expected, abs=1e-5)


def test_an_index_rebuilt_shorter_encodes_nothing_and_longer_all(write, docs):
    write(docs)
    encoder = WordEncoder()
    assert write(docs, encoder=encoder, config=IndexConfig(dimensions=8), rebuild=True).embedded == 0
    assert encoder.encoded == []
    assert write(docs, encoder=encoder, config=IndexConfig(dimensions=16), rebuild=True).embedded == 5


@pytest.mark.parametrize(
    ("dimensions", "message"),
    [(33, "dimensions 33 is out of range; words gives 1 to 32"), (12, "12 was not trained; words can be cut to 8, 32")],
)
def test_vectors_that_cannot_be_cut_so_are_refused(write, docs, tmp_path, dimensions, message):
    encoder = WordEncoder()
    encoder.backbone = SimpleNamespace(config=SimpleNamespace(matryoshka_dimensions=[8, 32]))
    with pytest.raises(InputError, match=message):
        write(docs, encoder=encoder, config=IndexConfig(dimensions=dimensions))
    assert not (tmp_path / "index").exists()
    assert write(docs, encoder=encoder, config=IndexConfig(dimensions=8)).description.dimension == 8


def test_the_number_of_passages_decides_on_the_backend(write, docs, monkeypatch):
    pytest.importorskip("lancedb")
    assert write(docs).description.backend == "flat"
    monkeypatch.setattr(writing, "SMALL", 5)
    assert write(docs, out="large").description.backend == "lancedb"
    monkeypatch.setattr(writing, "find_spec", lambda name: None)
    assert write(docs, out="without").description.backend == "flat"


def test_what_was_read_and_half_removed_is_read_again(docs, tmp_path):
    spool = sources.Spool(tmp_path / "read", field=None)
    (file, *_) = sources.find_files([docs], whole=False)
    spool.read(file)
    (documents,) = (tmp_path / "read").glob("*.jsonl")
    documents.unlink()  # a writer was killed as it cleared up
    spool.read(file)
    assert [document.title for document, _ in spool.documents(file)] == ["租房"]
