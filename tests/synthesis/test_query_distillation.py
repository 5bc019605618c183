from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scripted import Scripted, grade_by, shown, write_queries

from zhihui.errors import InputError
from zhihui.records import RejectLog
from zhihui.synthesis import QueryConfig
from zhihui.synthesis.checks import QueryChecks
from zhihui.synthesis.methods import read_book
from zhihui.synthesis.query import QueriesWritten, QueryWritten, distil_queries
from zhihui.synthesis.sources import read_passages
from zhihui.synthesis.tools import Tools


def distilled(corpus, teacher, config=None, encoder=None):
    rejects = RejectLog(None)
    tools = Tools(teacher=teacher, book=read_book(None), rejects=rejects, encoder=encoder)
    made = distil_queries(read_passages(corpus), config or QueryConfig(queries=2), tools)
    assert made.counts["accepted"] + rejects.counts.total() == made.counts["wanted"], "nothing may be lost"
    return made, rejects.counts


def test_queries_that_find_their_passage_are_accepted_with_their_provenance(corpus):
    made, rejected = distilled(corpus, Scripted(query=write_queries), QueryConfig(queries=2, top_k=5))
    assert made.counts["wanted"] == 60
    assert made.counts["accepted"] == len(made.examples) > 40
    assert set(rejected) <= {"near_duplicate", "query_too_short"}
    first = made.examples[0]
    assert first.pos == [read_passages(corpus)[0].text]
    assert first.source == "corpus"
    assert first.id.startswith("红茶-0-")
    assert len({example.id for example in made.examples}) == len(made.examples)
    assert first.meta.keys() == {
        "method", "pos_ids", "teacher", "template", "persona", "type", "difficulty", "length", "retrieved"
    }  # fmt: skip
    assert first.meta["template"] == "query@1"
    assert first.meta["retrieved"]["by"] == "bm25"
    assert 1 <= first.meta["retrieved"]["rank"] <= 5


def test_each_reason_is_counted(corpus):
    def answer(ask):
        (passage,) = shown(ask, "材料")
        name = passage.partition("？")[0]
        good = write_queries(ask).queries
        if name == "红茶怎么清洗":
            return "content_filter"
        if name == "红茶放在哪里":
            return QueriesWritten(queries=good[:1])
        if name == "红茶多少钱":
            return QueriesWritten(queries=[QueryWritten(number=1, query="deposit refund"), good[1]])
        if name == "绿茶怎么清洗":
            return QueriesWritten(queries=[QueryWritten(number=1, query="根据材料，绿茶怎么清洗才好呢"), good[1]])
        if name == "绿茶放在哪里":
            far = "地铁末班车几点钟收车呢请问"
            return QueriesWritten(queries=[QueryWritten(number=1, query=far), good[1]])
        if name == "绿茶多少钱":
            return QueriesWritten(queries=[QueryWritten(number=1, query=""), good[1], good[1]])
        return QueriesWritten(queries=[*good, QueryWritten(number=9, query="多写的一条查询")])

    config = QueryConfig(queries=2, checks=QueryChecks(length_slack=20.0), duplicate_at=1.0, top_k=5)
    made, rejected = distilled(corpus, Scripted(query=answer), config)
    assert rejected == Counter(
        content_filter=2, not_written=1, not_chinese=1, points_at_passage=1, not_retrieved=1, blank_query=1
    )
    assert made.counts["unasked"] == 24 + 1


def test_the_first_answer_to_a_number_counts(corpus):
    answer = [QueryWritten(number=1, query=f"红茶{word}清洗才干净呢") for word in ("怎么样", "拿什么东西")]
    config = QueryConfig(queries=1, retriever="none", checks=QueryChecks(length_slack=20.0))
    made, _ = distilled(corpus, Scripted(query=lambda ask: QueriesWritten(queries=answer)), config)
    assert [example.query for example in made.examples] == ["红茶怎么样清洗才干净呢"]
    assert made.counts["unasked"] == 30


def test_near_duplicates_go_and_the_earlier_one_stays(corpus):
    same = QueriesWritten(
        queries=[
            QueryWritten(number=1, query="红茶怎么清洗才干净"),
            QueryWritten(number=2, query="红茶怎么清洗才干净呢"),
        ]
    )
    config = QueryConfig(queries=2, retriever="none", checks=QueryChecks(length_slack=20.0))
    made, rejected = distilled(corpus, Scripted(query=lambda ask: same), config)
    assert [example.query for example in made.examples] == ["红茶怎么清洗才干净"]
    assert rejected == Counter(near_duplicate=59)


def test_the_judge_takes_the_place_of_the_round_trip(corpus):
    teacher = Scripted(query=write_queries, grade=grade_by(lambda query, passage: 4 if "红茶" in query else 2))
    config = QueryConfig(queries=1, judge=True, duplicate_at=1.0)
    made, rejected = distilled(corpus, teacher, config)
    assert {example.pos[0][:2] for example in made.examples} == {"红茶"}
    assert rejected["not_answerable"] == 27
    assert made.examples[0].pos_scores == [4.0]
    assert made.examples[0].meta["judge"] == {
        "teacher": ["scripted"], "template": "grade@1", "grade": 4.0, "reason": "等级4"
    }  # fmt: skip
    assert made.counts["judge"]["graded"] == 30


class FirstCharacters:
    """Encodes a text by its first two characters."""

    name = fingerprint = "first"

    def encode_queries(self, texts, *, instruction=None):
        return self.encode_documents(texts)

    def encode_documents(self, texts):
        vectors = np.zeros((len(texts), 64), np.float32)
        for row, text in enumerate(texts):
            vectors[row, [ord(character) % 64 for character in text[:2]]] = 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_a_dense_round_trip_looks_by_the_model(corpus):
    far = {"自行车": "小狗怎么清洗才不会掉毛呢"}
    config = QueryConfig(queries=1, retriever="dense", top_k=3, checks=QueryChecks(length_slack=20.0), duplicate_at=1.0)

    def answer(ask):
        (passage,) = shown(ask, "材料")
        given = next((query for subject, query in far.items() if passage.startswith(subject)), None)
        return write_queries(ask) if given is None else QueriesWritten(queries=[QueryWritten(number=1, query=given)])

    made, rejected = distilled(corpus, Scripted(query=answer), config, FirstCharacters())
    assert rejected == Counter(not_retrieved=3)
    assert made.examples[0].meta["retrieved"]["by"] == "dense"
    with pytest.raises(InputError, match="a dense round trip needs a model"):
        distilled(corpus, Scripted(query=answer), config)


def test_personas_and_types_follow_the_seed(corpus):
    def personas(seed):
        made, _ = distilled(corpus, Scripted(query=write_queries), QueryConfig(queries=1, seed=seed))
        return [(example.id, example.meta["persona"]) for example in made.examples]

    assert personas(0) == personas(0) != personas(1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"queries": 0}, "queries is 0; give at least 1"),
        ({"top_k": 0}, "top_k is 0"),
        ({"judge_at": 5}, "judge_at is 5; give a grade above 0 and up to 4"),
        ({"duplicate_at": 0}, "duplicate_at is 0"),
        ({"passage_characters": 9}, "passage_characters is 9; give at least 50"),
        ({"judge": True, "retriever": "dense"}, "judge takes the place of the round trip"),
    ],
)
def test_settings_out_of_bounds_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        QueryConfig(**given)
