from __future__ import annotations

import threading

import pytest
from serving_client import call, serving, until
from serving_models import PASSAGES, WaitingModel, like

from zhihui.errors import InputError
from zhihui.search import open_index
from zhihui.serving.indexes import Indexes, find_indexes
from zhihui.serving.models import Models

QUERY = "房東怎麼退押金"


def texts(reply):
    return [hit["text"] for hit in reply.json["hits"]]


@pytest.mark.parametrize("mode", ["hybrid", "dense", "bm25"])
def test_hits_are_those_of_the_index(search_url, encoder, index_folder, mode):
    reply = call(search_url, "/search", {"query": QUERY, "mode": mode, "top_k": 3})
    assert reply.status == 200
    answer = reply.json
    with open_index(index_folder) as index:
        expected = index.search(QUERY, encoder=encoder, mode=mode, top_k=3)
    assert [hit["id"] for hit in answer["hits"]] == [hit.id for hit in expected]
    for shown, hit in zip(answer["hits"], expected, strict=True):
        assert shown["score"] == pytest.approx(hit.score, abs=1e-5)
        for name in ("dense", "bm25", "fused"):
            score = getattr(hit, name)
            if score is None:
                assert shown[name] is None
            else:
                assert shown[name] == {"value": pytest.approx(score.value, abs=1e-5), "rank": score.rank}
        assert (shown["source"], shown["start"], shown["title"]) == ("rows.jsonl", hit.start, hit.title)
        assert shown["metadata"]["year"] == hit.metadata["year"]
    assert (answer["index"], answer["model"], answer["mode"], answer["passages"]) == ("docs", "zh", mode, len(PASSAGES))
    assert (answer["usage"]["total_tokens"] > 0) == (mode != "bm25")
    assert answer["timing"]["total_ms"] >= answer["timing"]["search_ms"] >= 0
    assert ("inference_ms" in answer["timing"]) == (mode != "bm25")


def test_the_fusion_is_chosen_by_the_caller(search_url, encoder, index_folder):
    with open_index(index_folder) as index:
        for options in ({"fusion": "ranks"}, {"dense_share": 0.1}, {"fusion": "ranks", "dense_share": 0.9}):
            expected = [hit.score for hit in index.search(QUERY, encoder=encoder, **options)]
            shown = call(search_url, "/search", {"query": QUERY, **options}).json["hits"]
            assert [hit["score"] for hit in shown] == pytest.approx(expected, abs=1e-5)


def test_highlights_count_characters(search_url):
    (hit,) = call(search_url, "/search", {"query": "押金", "mode": "bm25", "filters": "year = 2023"}).json["hits"]
    assert hit["text"].startswith("𠮷野家😀的押金条")
    assert [hit["text"][start:end] for start, end in hit["highlights"]] == ["押金"]
    snippet = hit["snippet"]
    assert [snippet["text"][start:end] for start, end in snippet["highlights"]] == ["押金"]


def test_filters_come_before_the_ranking(search_url):
    body = {"query": QUERY, "mode": "dense", "filters": ["year >= 2021", "lang = zh"]}
    assert {*texts(call(search_url, "/search", body))} == {PASSAGES[1]["text"], PASSAGES[2]["text"]}
    body["filters"] = "year = 1999"
    assert texts(call(search_url, "/search", body)) == []


def test_a_number_beyond_64_bits_is_sent_as_text(search_url):
    (hit,) = call(search_url, "/search", {"query": "维修", "filters": "year = 2021"}).json["hits"]
    assert hit["metadata"]["big"] == str(10**30)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, "query: field required"),
        ({"query": " \n"}, 400, "the query is blank"),
        ({"query": "好" * 10_001}, 400, "query: string should have at most 10000 characters"),
        ({"query": 3}, 400, "query: input should be a valid string"),
        ({"query": "好", "top_k": 0}, 400, "top_k: input should be greater than or equal to 1"),
        ({"query": "好", "top_k": 1001}, 400, "top_k: input should be less than or equal to 1000"),
        ({"query": "好", "mode": "words"}, 400, "mode: input should be 'hybrid', 'dense' or 'bm25'"),
        ({"query": "好", "filters": "yaer = 1"}, 400, "did you mean year?"),
        ({"query": "好", "filters": "year = many"}, 400, "year holds numbers"),
        ({"query": "好", "filters": ["year = 1", ""]}, 400, "a field is expected"),
        ({"query": "好", "filters": "x" * 2001}, 400, "at most 2000 characters"),
        ({"query": "好", "index": "dcos"}, 404, "did you mean docs?"),
        ({"query": "好", "model": "none"}, 404, "model 'none' is not served here"),
        ({"query": "好", "model": "zh:document"}, 400, "name the model without :document"),
        ({"query": "好", "instruction": "长" * 3000}, 400, "prompt"),
    ],
    ids=lambda value: None if isinstance(value, str | int) else "-".join(value) or "nothing",
)
def test_mistakes(search_url, body, status, message):
    reply = call(search_url, "/search", body)
    assert (reply.status, reply.json["error_type"]) == (status, "Validation")
    assert message in reply.message


def test_a_server_without_an_index_says_so(url):
    reply = call(url, "/search", {"query": "好"})
    assert reply.status == 404
    assert "start the server with --index" in reply.message
    assert call(url, "/v1/indexes").json == {"object": "list", "data": []}


def test_indexes_are_listed(search_url):
    (card,) = call(search_url, "/v1/indexes").json["data"]
    assert (card["id"], card["model"], card["passages"], card["stale"]) == ("docs", "zh", len(PASSAGES), None)
    assert card["fields"]["year"] == "number"
    assert call(search_url, "/info").json["indexes"] == [card]


def test_a_call_is_counted_and_needs_a_key(model, index_folder):
    with serving(model, indexes={"docs": index_folder}, keys=("a-good-key-1",)) as (url, _):
        assert call(url, "/search", {"query": "押金"}).status == 401
        assert call(url, "/v1/indexes").status == 401
        found = call(url, "/search", {"query": "押金"}, headers={"authorization": "Bearer a-good-key-1"})
        assert len(found.json["hits"]) == len(PASSAGES)
        metrics = call(url, "/metrics").content.decode()
    assert 'te_request_success_total{method="/search"} 1.0' in metrics
    assert "te_request_search_duration_count 1.0" in metrics


def test_each_index_is_searched_by_the_model_that_made_it(model, other_model, index_folder, write_index):
    indexes = {"docs": index_folder, "others": write_index(other_model)}
    with serving(model, other_model, indexes=indexes) as (url, _):
        body = {"query": QUERY, "mode": "dense"}
        by_default, by_name, by_model = (
            call(url, "/search", body | more).json for more in ({}, {"index": "others"}, {"model": "other:query"})
        )
        wrong = call(url, "/search", body | {"index": "docs", "model": "other"})
    with open_index(indexes["others"]) as index:
        expected = index.search(QUERY, encoder=other_model.encoder, mode="dense")
    assert (by_default["index"], by_default["model"]) == ("docs", "zh")
    assert (by_name["index"], by_name["model"]) == (by_model["index"], by_model["model"]) == ("others", "other")
    assert by_name["hits"] == by_model["hits"]
    assert [hit["score"] for hit in by_name["hits"]] == pytest.approx([hit.score for hit in expected], abs=1e-5)
    assert wrong.status == 400
    assert wrong.message == "no index was made by model 'other' (docs by zh); leave out model"


def test_another_model_than_the_indexs_is_refused(model, other_model, index_folder):
    with pytest.raises(InputError, match=r"was made by another model \(its weights or tokenizer are others\)"):
        Indexes({"docs": index_folder}, Models([other_model]))
    third = like(other_model, type(other_model), name="third")
    with pytest.raises(InputError, match=r"none of the models served \(other, third\) gives the same vectors"):
        Indexes({"docs": index_folder}, Models([other_model, third]))


def test_two_indexes_of_one_name_are_refused(index_folder):
    with pytest.raises(InputError, match="two indexes are called 'index'; give one another name: NAME="):
        find_indexes([str(index_folder), str(index_folder)])
    assert [*find_indexes([str(index_folder), f"more={index_folder}"])] == ["index", "more"]


def test_a_new_state_is_searched_without_a_restart(model, write_index):
    folder = write_index(model)
    with serving(model, indexes={"docs": folder}) as (url, _):
        assert len(call(url, "/search", {"query": "空调"}).json["hits"]) == len(PASSAGES)
        write_index(model, [{"text": "空调外机漏水，先看排水管是不是堵了。"}], folder)
        answer = call(url, "/search", {"query": "空调"}).json
        assert (answer["passages"], len(answer["hits"]), answer["stale"]) == (1, 1, None)
        write_index(model, PASSAGES[:2], folder)
        assert call(url, "/v1/indexes").json["data"][0]["passages"] == 2
        # Nobody holds what was searched before: the next writer finds it free to go.
        write_index(model, PASSAGES[:3], folder)
        assert call(url, "/search", {"query": "空调"}).json["passages"] == 3
        assert len([*folder.glob("generation-*")]) == 2


def test_a_new_state_of_another_model_is_not_taken(model, other_model, write_index):
    folder = write_index(model)
    with serving(model, indexes={"docs": folder}) as (url, _):
        write_index(other_model, PASSAGES[:1], folder, rebuild=True)
        for _ in range(2):
            answer = call(url, "/search", {"query": QUERY}).json
            assert answer["passages"] == len(PASSAGES)
            assert "was made by another model" in answer["stale"]
        assert "another model" in call(url, "/v1/indexes").json["data"][0]["stale"]
        (folder / "current.json").write_text("{")
        damaged = call(url, "/search", {"query": QUERY}).json
        assert damaged["passages"] == len(PASSAGES)
        assert "current.json" in damaged["stale"]


def test_searches_go_on_while_the_index_is_written(model, write_index):
    folder = write_index(model)
    statuses, stop = [], threading.Event()

    def search(url):
        while not stop.is_set():
            reply = call(url, "/search", {"query": QUERY})
            statuses.append((reply.status, reply.json.get("passages") == len(reply.json.get("hits", []))))

    with serving(model, indexes={"docs": folder}) as (url, _):
        threads = [threading.Thread(target=search, args=(url,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for count in (2, 1, 5):
            write_index(model, PASSAGES[:count], folder)
        until(lambda: len(statuses) > 20)
        stop.set()
        for thread in threads:
            thread.join()
    assert {*statuses} == {(200, True)}


def test_the_querys_vector_waits_in_the_queue(model, index_folder):
    waiting = like(model, WaitingModel)
    with serving(waiting, indexes={"docs": index_folder}) as (url, service):
        late = call(url, "/search", {"query": "押金"}, headers={"x-request-timeout": "0.2"})
        assert late.status == 503
        assert "retry-after" in late.headers
        assert call(url, "/search", {"query": "押金", "mode": "bm25"}).status == 200
        assert len(service.queue) == 0
