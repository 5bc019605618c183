from __future__ import annotations

import gzip
import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from zhihui.encoder.shards import ShardConfig, encode_file, read_shards
from zhihui.encoder.texts import read_texts
from zhihui.errors import InputError, RunFailure
from zhihui.records import write_rows
from zhihui.runs import read_manifest

DOCUMENTS = ShardConfig(role="document", size=4)
QUERIES = ShardConfig(role="query", size=4)
ROWS = [{"_id": f"d{n}", "title": f"题{n}" if n % 2 else "", "text": f"第{n}段文字"} for n in range(10)]
FULL = [f"{row['title']} {row['text']}".strip() for row in ROWS]


class Reader:
    """Vectors that say which text was read, and a log of the calls."""

    name, fingerprint = "reader", "reader-1"

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def encode_queries(self, texts, *, instruction=None):
        return self.encode_documents([f"{instruction}|{text}" for text in texts])

    def encode_documents(self, texts):
        self.calls.append(list(texts))
        return np.array([vector(text) for text in texts], np.float32).reshape(-1, 3)


def vector(text):
    return [len(text), sum(map(ord, text)) % 997, 1 / 3]


@pytest.fixture
def source(tmp_path):
    write_rows(tmp_path / "corpus.jsonl", ROWS)
    return tmp_path / "corpus.jsonl"


def texts_of(path, **options):
    return [(text.id, text.text) for text in read_texts(path, **{"role": "document", **options})]


def files(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "manifest.json"}


# --------------------------------------------------------------------------- what is read


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_rows_with_title_and_text(tmp_path, name):
    write_rows(tmp_path / name, ROWS)
    assert texts_of(tmp_path / name) == list(zip([row["_id"] for row in ROWS], FULL, strict=True))


def test_plain_text_is_known_by_its_lines(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeff第一句\r\n\n  第三句 \n{}".encode())
    assert texts_of(tmp_path / "a.txt") == [("1", "第一句"), ("3", "第三句"), ("4", "{}")]
    with pytest.raises(InputError, match="plain text has no fields"):
        texts_of(tmp_path / "a.txt", field="text")


@pytest.mark.parametrize(
    ("row", "options", "text"),
    [
        ({"query": "问", "pos": ["答"]}, {"role": "query"}, "问"),
        ({"question": " 问 "}, {"role": "query"}, " 问 "),
        ({"text": "问", "query": "不", "title": "不"}, {"role": "query"}, "问"),
        ({"passage": " 段 "}, {}, "段"),
        ({"content": "段", "title": "题"}, {}, "题 段"),
        ({"text": "", "title": "题"}, {}, "题"),
        ({"text": "段", "title": "题"}, {"field": "text"}, "段"),
        ({"text": "段", "摘要": "要"}, {"field": "摘要"}, "要"),
    ],
)
def test_the_text_of_a_row(tmp_path, row, options, text):
    write_rows(tmp_path / "a.jsonl", [row])
    assert texts_of(tmp_path / "a.jsonl", **options) == [("1", text)]


def test_ids_are_the_rows_own_or_their_numbers(tmp_path):
    write_rows(tmp_path / "a.jsonl", [{"id": 7, "text": "一"}, {"_id": "x\ny", "id": 9, "text": "二"}])
    assert [key for key, _ in texts_of(tmp_path / "a.jsonl")] == ["7", "x\ny"]
    (tmp_path / "b.jsonl").write_text('\n{"text": "一"}\n\n{"text": "二"}\n', encoding="utf-8")
    assert [key for key, _ in texts_of(tmp_path / "b.jsonl")] == ["2", "4"]


UNUSABLE = [
    (b'{"_id": "b"}', "no_field", r"has no 'text' or 'passage' or .*; it has _id; name the text's key with --field"),
    (b'{"_id": "b", "text": 3}', "wrong_type", '"text" is int, not a string'),
    (b'{"_id": "b", "text": "x", "title": ["y"]}', "wrong_type", '"title" is list, not a string'),
    (b'{"_id": "b", "text": " \\t"}', "blank_text", '"text" is blank; fill it or remove the row'),
    (b'{"_id": true, "text": "x"}', "wrong_type", "its id is True; an id is a string or a whole number"),
    (b'{"text": "x"}', "mixed_ids", "has no id, rows before it have one"),
    (b'{"_id": "b", "text": "\xff"}', "not_utf8", "not UTF-8 at byte 23"),
    (b"[1]", "not_object", "holds list, not an object"),
]


@pytest.mark.parametrize(("line", "code", "message"), UNUSABLE)
def test_an_unusable_row_stops_before_anything_is_written(tmp_path, line, code, message):
    (tmp_path / "in.jsonl").write_bytes(b'{"_id": "a", "text": "x"}\n' + line + b'\n{"_id": "c", "text": "y"}\n')
    encoder = Reader()
    with pytest.raises(InputError, match=rf"in\.jsonl:2: .*{message}"):
        encode_file(tmp_path / "in.jsonl", tmp_path / "out", encoder, replace(DOCUMENTS, size=1))
    assert [file.name for file in tmp_path.iterdir()] == ["in.jsonl"]
    assert encoder.calls == []
    manifest = encode_file(tmp_path / "in.jsonl", tmp_path / "out", encoder, DOCUMENTS, quarantine=True)
    assert manifest.counts == {"texts": 2, "shards": 1, "dimension": 3, "rejected": {code: 1}}
    (entry,) = map(json.loads, (tmp_path / "out" / "rejected.jsonl").read_text(encoding="utf-8").splitlines())
    assert (entry["where"], entry["reason"]) == (f"{tmp_path / 'in.jsonl'}:2", code)
    assert [ids for ids, _ in read_shards(tmp_path / "out")] == [["a", "c"]]


def test_an_unknown_field_names_those_there_are(source, tmp_path):
    with pytest.raises(InputError, match=r"corpus\.jsonl:1: has no 'body'; it has _id, title, text; name .* --field"):
        encode_file(source, tmp_path / "out", Reader(), replace(DOCUMENTS, field="body"))


@pytest.mark.parametrize(
    ("name", "content", "quarantine", "message"),
    [
        ("a.jsonl", b"", False, "a.jsonl:1: the file has no rows"),
        ("a.jsonl", b"", True, r"no usable text \(empty_file: 1\)"),
        ("a.txt", b"\n \n", False, "a.txt:1: the file has no rows"),
        ("a.txt", b"\xff\xfe", False, "a.txt:1: not UTF-8 at byte 1"),
        ("a.jsonl.gz", gzip.compress(b"\n", mtime=0), False, "the file has no rows"),
        ("a.jsonl", b'{"text": ""}\n{"text": 1}', True, r"no usable text \(blank_text: 1, wrong_type: 1\)"),
        ("a.csv", b"text\nx", False, r"unknown kind of file; name it .*\.parquet or \.txt"),
    ],
)
def test_a_file_without_texts_is_refused(tmp_path, name, content, quarantine, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        encode_file(tmp_path / name, tmp_path / "out", Reader(), DOCUMENTS, quarantine=quarantine)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.jsonl: no such file"):
        encode_file(tmp_path / "nothing.jsonl", tmp_path / "out", Reader(), DOCUMENTS)
    with pytest.raises(InputError, match=r"is a folder; give a file, such as its corpus\.jsonl"):
        encode_file(tmp_path, tmp_path / "out", Reader(), DOCUMENTS)


# --------------------------------------------------------------------------- what is written


@pytest.mark.parametrize("form", ["npy", "parquet"])
@pytest.mark.parametrize("store_dtype", ["float32", "float16"])
def test_vectors_come_back_with_their_ids(source, tmp_path, form, store_dtype):
    config = replace(DOCUMENTS, form=form, store_dtype=store_dtype)
    manifest = encode_file(source, tmp_path / "out", Reader(), config)
    assert manifest.counts == {"texts": 10, "shards": 3, "dimension": 3, "rejected": {}}
    shards = list(read_shards(tmp_path / "out"))
    assert [len(ids) for ids, _ in shards] == [4, 4, 2]
    assert [key for ids, _ in shards for key in ids] == [row["_id"] for row in ROWS]
    found = np.concatenate([vectors for _, vectors in shards])
    assert found.dtype == store_dtype
    np.testing.assert_array_equal(found, np.array([vector(text) for text in FULL], store_dtype))
    names = [f"vectors-0000{n}.{form}" for n in range(3)]
    names += [f"ids-0000{n}.jsonl" for n in range(3)] if form == "npy" else []
    assert sorted(files(tmp_path / "out")) == sorted(names)


def test_parquet_holds_vectors_of_one_length(source, tmp_path):
    import pyarrow
    import pyarrow.parquet

    encode_file(source, tmp_path / "out", Reader(), replace(DOCUMENTS, form="parquet", store_dtype="float16"))
    schema = pyarrow.parquet.read_schema(tmp_path / "out" / "vectors-00000.parquet")
    assert schema.field("id").type == pyarrow.string()
    assert schema.field("vector").type.list_size == 3
    assert schema.field("vector").type.value_type == pyarrow.float16()


def test_npy_is_read_without_loading_it(source, tmp_path):
    encode_file(source, tmp_path / "out", Reader(), DOCUMENTS)
    assert all(isinstance(vectors, np.memmap) for _, vectors in read_shards(tmp_path / "out"))


def test_queries_get_their_instruction(tmp_path):
    write_rows(tmp_path / "q.jsonl", [{"_id": "a", "text": "问"}])
    encoder = Reader()
    encode_file(tmp_path / "q.jsonl", tmp_path / "out", encoder, replace(QUERIES, instruction="找答案"))
    assert encoder.calls == [["找答案|问"]]


@pytest.mark.parametrize("form", ["npy", "parquet"])
@pytest.mark.parametrize("survived", [0, 1, 2])
def test_a_killed_run_goes_on_at_its_shard_and_gives_the_same_bytes(source, tmp_path, form, survived):
    class Killed(Reader):
        def encode_documents(self, texts):
            if len(self.calls) == survived:
                raise KeyboardInterrupt
            return super().encode_documents(texts)

    config = replace(DOCUMENTS, form=form)
    with pytest.raises(KeyboardInterrupt):
        encode_file(source, tmp_path / "out", Killed(), config)
    assert not (tmp_path / "out").exists()
    encoder = Reader()
    resumed = encode_file(source, tmp_path / "out", encoder, config)
    assert encoder.calls == [FULL[:4], FULL[4:8], FULL[8:]][survived:]
    whole = encode_file(source, tmp_path / "whole", Reader(), config)
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    assert resumed.counts == whole.counts


def test_ids_without_their_vectors_are_written_again(source, tmp_path):
    """The moment between the two files of a shard: vectors are the mark that it is whole."""

    class Killed(Reader):
        def encode_documents(self, texts):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_file(source, tmp_path / "out", Killed(), DOCUMENTS)
    (tmp_path / ".out.partial" / "ids-00000.jsonl").write_text("half a li")
    encode_file(source, tmp_path / "out", Reader(), DOCUMENTS)
    assert next(read_shards(tmp_path / "out"))[0] == ["d0", "d1", "d2", "d3"]


def test_done_work_is_not_done_again_and_other_work_needs_leave(source, tmp_path):
    encoder = Reader()
    encode_file(source, tmp_path / "out", encoder, DOCUMENTS)
    assert encode_file(source, tmp_path / "out", encoder, DOCUMENTS).reused
    assert len(encoder.calls) == 3
    with pytest.raises(InputError, match=r"other settings \(shards\).*--overwrite"):
        encode_file(source, tmp_path / "out", encoder, QUERIES)
    retrained = Reader()
    retrained.fingerprint = "reader-2"
    with pytest.raises(InputError, match="other inputs"):
        encode_file(source, tmp_path / "out", retrained, DOCUMENTS)
    encode_file(source, tmp_path / "out", retrained, DOCUMENTS, overwrite=True)
    assert read_manifest(tmp_path / "out").inputs["encoder"] == "reader-2"


@pytest.mark.parametrize(
    ("broken", "store", "message"),
    [
        (np.nan, "float32", r"corpus\.jsonl:6: reader gave a vector with NaN or infinity \(1 such in this shard\)"),
        (np.inf, "float16", r"corpus\.jsonl:6: reader gave a vector with NaN or infinity"),
        (1e5, "float16", r"corpus\.jsonl:6: its vector is beyond float16; store float32"),
    ],
)
def test_vectors_that_are_no_numbers_are_not_written(source, tmp_path, broken, store, message):
    class Broken(Reader):
        def encode_documents(self, texts):
            vectors = super().encode_documents(texts)
            vectors[[text == FULL[5] for text in texts], 1] = broken
            return vectors

    with pytest.raises(RunFailure, match=message):
        encode_file(source, tmp_path / "out", Broken(), replace(DOCUMENTS, store_dtype=store))
    assert not (tmp_path / "out").exists()


def test_a_lost_row_is_told(source, tmp_path):
    class Losing(Reader):
        def encode_documents(self, texts):
            return super().encode_documents(texts)[1:]

    with pytest.raises(RunFailure, match=r"reader returned vectors \[3, 3\] for 4 texts"):
        encode_file(source, tmp_path / "out", Losing(), DOCUMENTS)


def test_memory_does_not_grow_with_the_file(tmp_path):
    peaks = []
    for count in (500, 4000):
        source = tmp_path / f"{count}.jsonl"
        write_rows(source, ({"_id": str(n), "text": f"{n}" + "字" * 2000} for n in range(count)))
        encoder = Reader()
        encoder.encode_documents = lambda texts: np.zeros((len(texts), 3), np.float32)
        tracemalloc.start()
        encode_file(source, tmp_path / f"out-{count}", encoder, replace(DOCUMENTS, size=250))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"role": "passage"}, "role 'passage' is unknown; choose query or document"),
        ({"form": "csv"}, "form 'csv' is unknown"),
        ({"store_dtype": "int8"}, "store_dtype 'int8' is unknown"),
        ({"size": 0}, "shard size 0 is not positive"),
        ({"instruction": "找"}, "an instruction belongs to queries"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        ShardConfig(**{"role": "document", **change})


def test_only_a_finished_folder_is_read(source, tmp_path):
    with pytest.raises(InputError, match="holds no finished `zhihui encode`"):
        list(read_shards(tmp_path))
