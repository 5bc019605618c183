"""The LanceDB backend: what the flat one finds, and nearly so where it is approximate."""

from __future__ import annotations

import numpy as np
import pytest
from word_encoder import WordEncoder

from zhihui.records import write_rows
from zhihui.search import IndexConfig, open_index, update_index

pytest.importorskip("lancedb")

CHARACTERS = [chr(code) for code in range(0x4E00, 0x4E00 + 400)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lance")


@pytest.fixture(scope="module")
def rows(folder):
    generator = np.random.default_rng(1)
    # Topics: texts of one share most of their characters, so that vectors come in clusters.
    topics = [generator.choice(CHARACTERS, 16) for _ in range(40)]
    found = []
    for number in range(2500):
        own = generator.choice(CHARACTERS, 2)
        words = [*topics[generator.integers(40)], *own]
        found.append({"id": f"p{number}", "text": "".join(words), "group": f"g{number % 5}", "number": number})
    write_rows(folder / "rows.jsonl", [*found, *({**row, "id": f"{row['id']}x"} for row in found[:30])])
    return found


@pytest.fixture(scope="module")
def index(folder, rows, model):
    """Write an index of the rows and open it."""

    def run(name, backend, **options):
        config = IndexConfig(whole=True, backend=backend, **options)
        update_index([folder / "rows.jsonl"], folder / name, config, model=str(model), encoder=WordEncoder())
        return open_index(folder / name)

    return run


@pytest.fixture(scope="module")
def both(index):
    """The flat index, and one that searches approximately."""
    with index("flat", "flat") as flat, index("ann", "lancedb", ann_from=1000) as ann:
        yield flat, ann


def ids(index, query, **options):
    return [hit.id for hit in index.search(query, encoder=WordEncoder(), mode="dense", **options)]


def test_recall_is_good_and_scores_are_exact(both, rows):
    flat, ann = both
    about = ann.description.ann
    assert about["recall"] >= 0.99
    assert about["kind"] == "IVF_SQ"
    assert about["probed"] <= about["cells"] // 3 == 16
    generator = np.random.default_rng(2)
    found = 0
    for number in range(60):
        query = rows[number * 7]["text"][1:9] + "".join(generator.choice(CHARACTERS, 2))
        exact = {hit.id: hit.score for hit in flat.search(query, encoder=WordEncoder(), mode="dense")}
        near = {hit.id: hit.score for hit in ann.search(query, encoder=WordEncoder(), mode="dense")}
        found += len(exact.keys() & near.keys())
        assert all(exact[key] == pytest.approx(near[key], abs=1e-6) for key in exact.keys() & near.keys())
    assert found / 600 >= 0.99


def test_filters_are_applied_before_the_search(both, rows):
    flat, ann = both
    for query in (rows[5]["text"], rows[11]["text"]):
        for filters in (
            "group = g3",
            "number >= 100 and number < 2000",
            "number in (3, 7, 11)",
            "group in (g0, g1, g2)",
        ):
            assert ids(ann, query, filters=filters) == ids(flat, query, filters=filters), filters
    assert len(ids(ann, rows[0]["text"], filters="group != g0", top_k=1500)) == 1500


def test_a_filter_reaches_lancedb(both, rows, monkeypatch):
    _, ann = both
    asked = []
    search = type(ann._lance).approximate
    monkeypatch.setattr(
        type(ann._lance), "approximate", lambda self, *given: asked.append(given[-1]) or search(self, *given)
    )
    ids(ann, rows[5]["text"], filters="number >= 100")
    assert [[each.field for each in conditions] for conditions in asked] == [["number"]]


def test_where_most_cells_would_be_searched_all_vectors_are_read(folder, model, monkeypatch):
    generator = np.random.default_rng(3)
    # Texts that share nothing: the nearest passages of a query lie in any cell.
    rows = [{"id": f"p{number}", "text": "".join(generator.choice(CHARACTERS, 6))} for number in range(1200)]
    write_rows(folder / "apart.jsonl", rows)
    indexes = []
    for name, backend in (("apart flat", "flat"), ("apart", "lancedb")):
        config = IndexConfig(whole=True, backend=backend, ann_from=1000)
        update_index([folder / "apart.jsonl"], folder / name, config, model=str(model), encoder=WordEncoder())
        indexes.append(open_index(folder / name))
    flat, ann = indexes
    about = ann.description.ann
    assert (about["kind"], about["recall"]) == ("exact", 1.0)
    assert about["probed"] == about["cells"] == 35
    monkeypatch.setattr(type(ann._lance), "approximate", lambda *_: pytest.fail("searched every cell"))
    for row in rows[:20]:
        assert ids(ann, row["text"][1:5]) == ids(flat, row["text"][1:5])
    for index in indexes:
        index.close()


def test_below_the_limit_it_is_exact(both, index, rows):
    flat, _ = both
    with index("table", "lancedb") as table:
        assert (table.description.backend, table.description.ann) == ("lancedb", None)
        for row in rows[:20]:
            # Among the first are texts that are there twice: equal scores, the lower number first.
            assert ids(table, row["text"], top_k=30) == ids(flat, row["text"], top_k=30)
