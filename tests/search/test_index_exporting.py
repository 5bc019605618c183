"""Exports: each read back as the database it is for documents it."""

from __future__ import annotations

import json
import uuid

import numpy as np
import pytest
from word_encoder import WordEncoder

from zhihui.errors import InputError
from zhihui.search import IndexConfig, open_index
from zhihui.search.exporting import export_index, milvus

QUERY = "押金怎么退"


@pytest.fixture
def index(write, docs, tmp_path):
    write(docs)
    with open_index(tmp_path / "index") as opened:
        yield opened


def best(vectors, ids):
    return [ids[n] for n in np.argsort(-(vectors @ WordEncoder().encode_queries([QUERY])[0]))]


def wanted(index):
    return [hit.id for hit in index.search(QUERY, encoder=WordEncoder(), mode="dense")]


def test_faiss_finds_the_same(index, tmp_path):
    faiss = pytest.importorskip("faiss")
    export_index(index, tmp_path / "out", "faiss")
    stored = faiss.read_index(str(tmp_path / "out" / "index.faiss"))
    rows = [json.loads(line) for line in (tmp_path / "out" / "passages.jsonl").read_text().splitlines()]
    assert (stored.ntotal, stored.metric_type) == (5, faiss.METRIC_INNER_PRODUCT)
    _, numbers = stored.search(WordEncoder().encode_queries([QUERY]), 5)
    assert [rows[number]["_id"] for number in numbers[0]] == wanted(index)
    assert rows == [index.row(number) for number in range(5)]


def test_milvus_gets_columns_of_its_types_and_the_collection(index, tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(milvus, "_PART", 1)
    export_index(index, tmp_path / "out", "milvus")
    request = json.loads((tmp_path / "out" / "collection.json").read_text())
    fields = {field["fieldName"]: field for field in request["schema"]["fields"]}
    assert fields["vector"] == {"fieldName": "vector", "dataType": "FloatVector", "elementTypeParams": {"dim": 32}}
    assert [name for name, field in fields.items() if field.get("isPrimary")] == ["id"]
    assert request["indexParams"][0]["metricType"] == "IP"
    (part,) = sorted((tmp_path / "out").glob("*.parquet"))
    table = parquet.read_table(part)
    types = {name: str(kind) for name, kind in zip(table.schema.names, table.schema.types, strict=True)}
    # Every field of the collection has its column, and the dynamic field beside them.
    assert types.keys() == {*fields, "$meta"}
    assert types == {**dict.fromkeys(("id", "title", "text", "$meta"), "string"), "vector": "list<element: float>"}
    vectors = np.array(table["vector"].to_pylist(), dtype=np.float32)
    assert best(vectors, table["id"].to_pylist()) == wanted(index)
    assert [json.loads(text) for text in table["$meta"].to_pylist()] == [index.row(n)["metadata"] for n in range(5)]


def test_milvus_takes_no_longer_texts(write, tmp_path):
    (tmp_path / "long.txt").write_text("押金要退。" * 5000)
    write(tmp_path / "long.txt", config=IndexConfig(whole=True))
    with open_index(tmp_path / "index") as index, pytest.raises(InputError, match="its text has over 65,535 bytes"):
        export_index(index, tmp_path / "out", "milvus")
    assert not (tmp_path / "out").exists()


def test_qdrant_gets_points_with_ids_it_takes(index, tmp_path):
    export_index(index, tmp_path / "out", "qdrant")
    request = json.loads((tmp_path / "out" / "collection.json").read_text())
    assert request == {"vectors": {"size": 32, "distance": "Dot"}}
    points = [json.loads(line) for line in (tmp_path / "out" / "points.jsonl").read_text().splitlines()]
    assert all(point.keys() == {"id", "vector", "payload"} for point in points)
    assert len({uuid.UUID(point["id"]) for point in points}) == 5
    vectors = np.array([point["vector"] for point in points], dtype=np.float32)
    assert best(vectors, [point["payload"]["id"] for point in points]) == wanted(index)
    row = index.row(0)
    assert points[0]["payload"] == {"id": row.pop("_id"), **row}


def test_an_export_is_a_stage(index, tmp_path, write, docs):
    assert not export_index(index, tmp_path / "out", "qdrant").reused
    assert export_index(index, tmp_path / "out", "qdrant").reused
    (docs / "rent.md").unlink()
    write(docs)
    with open_index(tmp_path / "index") as newer:
        with pytest.raises(InputError, match="with other inputs"):
            export_index(newer, tmp_path / "out", "qdrant")
        assert export_index(newer, tmp_path / "out", "qdrant", overwrite=True).counts["passages"] == 3
    with pytest.raises(InputError, match="target 'pinecone' is unknown; choose faiss, milvus, qdrant"):
        export_index(index, tmp_path / "other", "pinecone")
