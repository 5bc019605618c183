"""Searching an index: what is found, in which order, with which scores, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from word_encoder import WordEncoder

from zhihui.errors import InputError
from zhihui.ranking import BM25, exact, reciprocal_rank_fusion, score_fusion
from zhihui.records import write_rows
from zhihui.search import IndexConfig, Overlong, open_index, overlong

WORDS = ["红茶", "绿茶", "咖啡", "果汁", "押金", "合同", "空调", "高铁", "退票", "改签", "证件", "发票"]
QUERIES = ["红茶和绿茶", "空调合同的押金", "高铁改签退票", "發票", "量子力学"]


def texts(count):
    """Texts of a few words each, among them equal ones and ones that differ in a character."""
    generator = np.random.default_rng(0)
    found = ["，".join(generator.choice(WORDS, generator.integers(1, 6))) for _ in range(count)]
    return [*found, *found[:20], *(f"{text}。" for text in found[:20])]


@pytest.fixture(scope="module")
def rows():
    return [
        {"id": f"p{number}", "text": text, "group": f"g{number % 3}", "number": number, "even": number % 2 == 0}
        for number, text in enumerate(texts(300))
    ]


@pytest.fixture
def index(write, rows, tmp_path):
    write_rows(tmp_path / "rows.jsonl", rows)
    write(tmp_path / "rows.jsonl", config=IndexConfig(whole=True, backend="flat"))
    with open_index(tmp_path / "index") as opened:
        yield opened


def reference(rows, query, allowed):
    """The rankings of all allowed passages by the rooms that the index is made of."""
    encoder = WordEncoder()
    some = [row for row in rows if allowed(row)]
    if not some:
        return [], [], [], []
    vectors = encoder.encode_documents([row["text"] for row in some])
    dense = exact.search(encoder.encode_queries([query]), vectors, len(some))
    everything = BM25([row["text"] for row in rows]).search([query], len(rows))
    kept = [n for n in everything.indices[0] if n >= 0 and allowed(rows[n])]
    both = [dense, bm25_of(some, rows, query)]
    scores, ranks = score_fusion(both, len(some), weights=(0.6, 0.4)), reciprocal_rank_fusion(both, len(some))
    return (
        [some[n]["id"] for n in dense.indices[0]],
        [rows[n]["id"] for n in kept],
        [some[n]["id"] for n in scores.indices[0] if n >= 0],
        [some[n]["id"] for n in ranks.indices[0] if n >= 0],
    )


def bm25_of(some, rows, query):
    """BM25's ranking over all passages, those allowed alone and counted anew."""
    everything = BM25([row["text"] for row in rows]).search([query], len(rows))
    numbers = {row["id"]: number for number, row in enumerate(some)}
    kept = [
        (numbers[rows[n]["id"]], s)
        for n, s in zip(everything.indices[0], everything.scores[0], strict=True)
        if n >= 0 and rows[n]["id"] in numbers
    ]
    found = type(everything).empty(1, len(rows))
    for place, (number, score) in enumerate(kept):
        found.indices[0, place], found.scores[0, place] = number, score
    return found


FILTERS = {
    None: lambda row: True,
    "group = g1": lambda row: row["group"] == "g1",
    "number >= 100 and number < 120 and even = true": lambda row: 100 <= row["number"] < 120 and row["even"],
    "group in (g0, 'g2') and number != 7": lambda row: row["group"] in ("g0", "g2") and row["number"] != 7,
    "number > 1e9": lambda row: False,
}


@pytest.mark.parametrize("filters", FILTERS, ids=["none", "text", "numbers", "list", "nothing"])
def test_rankings_are_those_of_the_rooms_it_is_made_of(index, rows, filters):
    encoder = WordEncoder()
    for query in QUERIES:
        dense, bm25, scores, ranks = reference(rows, query, FILTERS[filters])
        for options, wanted in (
            ({"mode": "dense"}, dense),
            ({"mode": "bm25"}, bm25),
            ({}, scores),
            ({"fusion": "ranks"}, ranks),
        ):
            hits = index.search(query, encoder=encoder, top_k=25, filters=filters, **options)
            assert [hit.id for hit in hits] == wanted[:25], (query, options)


def test_a_hit_says_where_it_stands_in_each_ranking(index):
    encoder = WordEncoder()
    hits = index.search("红茶", encoder=encoder, top_k=400, fusion="ranks")
    dense = {hit.id: hit for hit in index.search("红茶", encoder=encoder, top_k=400, mode="dense")}
    bm25 = {hit.id: hit for hit in index.search("红茶", top_k=400, mode="bm25")}
    assert len(hits) == len(dense) == 340 > len(bm25) > 50
    for place, hit in enumerate(hits, start=1):
        assert (hit.rank, hit.fused.rank, hit.fused.value) == (place, place, hit.score)
        assert hit.dense == dense[hit.id].dense
        assert hit.dense.rank == dense[hit.id].rank
        assert hit.bm25 == (bm25[hit.id].bm25 if hit.id in bm25 else None)
        ranks = [score.rank for score in (hit.dense, hit.bm25) if score is not None]
        assert hit.score == pytest.approx(sum(1 / (60 + rank) for rank in ranks))
    assert dense["p0"].bm25 is dense["p0"].fused is None
    assert hits[0].metadata.keys() == {"document", "group", "number", "even"}


@pytest.mark.parametrize("fusion", ["scores", "ranks"])
def test_the_share_shifts_the_fused_ranking(index, fusion):
    encoder = WordEncoder()

    def ids(**options):
        return [hit.id for hit in index.search("红茶和绿茶", encoder=encoder, top_k=10, fusion=fusion, **options)]

    # A ranking of weight nearly zero decides among those that the other does not list, and no more.
    assert ids(dense_share=1 - 1e-9) == ids(mode="dense")
    assert ids(dense_share=1e-9) == ids(mode="bm25")
    assert ids() == ids(dense_share={"scores": 0.6, "ranks": 0.5}[fusion])
    assert ids() not in (ids(mode="dense"), ids(mode="bm25"))


def test_words_are_highlighted(index):
    (hit, *_) = index.search("紅茶的價格", mode="bm25", top_k=3)
    assert hit.highlights
    assert {hit.text[start:end] for start, end in hit.highlights} == {"红茶"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query": " \n"}, "the query is blank"),
        ({"top_k": 0}, "top_k is 0; ask for at least 1 hit"),
        ({"mode": "fast"}, "mode 'fast' is unknown; choose hybrid, dense, bm25"),
        ({"fusion": "rank"}, "fusion 'rank' is unknown; choose scores or ranks"),
        ({"dense_share": 1.5}, "dense_share is 1.5; give a share from 0 to 1, usually 0.6"),
        ({"encoder": None}, "load it with load_encoder, or search by bm25"),
        ({"encoder": WordEncoder(dimension=8)}, "was made by another model (dimension 32 became 8)"),
        ({"filters": "grup = g1"}, "no field 'grup'; did you mean group?"),
    ],
    ids=["blank", "k", "mode", "fusion", "share", "encoder", "dimension", "filter"],
)
def test_what_cannot_be_searched_is_refused(index, options, message):
    options = {"query": "红茶", "encoder": WordEncoder(), **options}
    with pytest.raises(InputError) as refused:
        index.search(options.pop("query"), **options)
    assert message in str(refused.value)


def test_words_are_searched_without_the_model_that_is_gone(write, docs, model, tmp_path):
    from zhihui import load
    from zhihui.search import update_index

    moved = tmp_path / "moved"
    write(docs, encoder=load(model, device="cpu"))
    described = tmp_path / "index" / "generation-000001" / "description.json"
    described.write_text(described.read_text().replace(str(model), str(moved)))
    with open_index(tmp_path / "index") as opened:
        assert opened.description.model == str(moved)
        with pytest.raises(InputError, match=r"its model .*moved is not there any more; say where"):
            opened.load_encoder()
        assert [hit.source for hit in opened.search("押金", mode="bm25")] == ["rent.md", "rent.md"]
        encoder = opened.load_encoder(model=str(model), device="cpu")
        assert len(opened.search("押金", encoder=encoder)) == 5
    assert update_index([docs], tmp_path / "index", model=str(model), encoder=encoder).changed is False


def test_a_query_longer_than_the_model_reads_is_noticed(model):
    from zhihui import load

    encoder = load(model, device="cpu", max_length=64)
    assert overlong(encoder, "押金") is None
    assert overlong(encoder, "押金怎么退" * 40) == Overlong(
        tokens=len(encoder.tokenizer(encoder.settings.prompt("query") + "押金怎么退" * 40)["input_ids"]), read=64
    )
    longest = next(n for n in range(1, 200) if overlong(encoder, "押" * n) is not None) - 1
    vectors = encoder.encode_queries(["押" * longest, "押" * (longest + 1), "押" * (longest + 9)])
    assert not np.array_equal(vectors[0], vectors[1]) or len(encoder.tokenize(["押" * longest], role="query")[0]) == 64
    np.testing.assert_allclose(vectors[1], vectors[2], atol=1e-6)
    assert overlong(WordEncoder(), "押金" * 1000) is None


def test_an_index_of_one_passage_without_a_word(write, tmp_path):
    write_rows(tmp_path / "rows.jsonl", [{"text": "？！"}])
    write(tmp_path / "rows.jsonl", config=IndexConfig(whole=True))
    with open_index(tmp_path / "index") as opened:
        assert opened.search("红茶", mode="bm25") == []
        assert len(opened.search("红茶", encoder=WordEncoder())) == 1
