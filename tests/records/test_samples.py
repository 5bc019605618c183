"""The page of samples: marks, counts, the draw, and that nothing of the data is taken for markup."""

from __future__ import annotations

import html
import json
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhihui.errors import InputError
from zhihui.records import Example, Passage, RejectLog, RetrievalSet, write_beir, write_examples
from zhihui.records.samples import write_page
from zhihui.records.samples.bars import counted, histogram
from zhihui.records.samples.counts import count_and_draw, rejected_beside
from zhihui.records.samples.marks import Run, differing, nearness, overlap, runs, shared
from zhihui.records.samples.shown import show, show_reject

POSITIVE = "干香菇用温水泡半小时，水里加一点白糖更快。"
NEAR = "干香菇用冷水泡半小时，水里加一点白糖。"


def marked(text, query):
    return "".join(f"[{run.text}]" if run.kind else run.text for run in runs(text, shared=shared(text, query)))


# --------------------------------------------------------------------------- marks


@pytest.mark.parametrize(
    ("text", "query", "expected"),
    [
        (POSITIVE, "香菇怎么泡，用温水？", "干[香菇用温水]泡半小时，水里加一点白糖更快。"),
        ("Install PyTorch 再", "怎么装 pytorch", "Install [PyTorch] 再"),
        ("at 的", "to 的 at", "at 的"),
        ("，。", "，。", "，。"),
        ("", "甲乙", ""),
    ],
)
def test_what_query_and_passage_share_is_marked(text, query, expected):
    assert marked(text, query) == expected


def test_a_near_negative_shows_what_is_other_and_what_is_missing():
    flags, missing = differing(NEAR, POSITIVE)
    assert runs(NEAR, missing=missing, differs=flags) == [
        Run("干香菇用", ""),
        Run("冷", "differs"),
        Run("水泡半小时，水里加一点白糖", ""),
        Run("更快", "missing"),
        Run("。", ""),
    ]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.text("甲乙丙 ab，İ", max_size=30), st.text("甲乙丙 ab，İ", max_size=30))
def test_marks_change_no_text(text, other):
    flags, missing = differing(text, other)
    found = runs(text, missing=missing, shared=shared(text, other), differs=flags)
    assert "".join(run.text for run in found if run.kind != "missing") == text


def test_overlap_and_nearness_count_character_pairs():
    assert overlap("香菇泡发，用水", "香菇怎么泡发") == 2 / 5
    assert overlap("甲", "乙") == 0
    assert nearness(POSITIVE, POSITIVE) == 1
    assert nearness("甲乙丙", "甲乙丁") == 0.5
    assert nearness("", "甲乙") == 0


# --------------------------------------------------------------------------- cards


def example(**more):
    given = {
        "query": "香菇怎么泡？",
        "pos": [POSITIVE],
        "neg": [NEAR, "今天天气很好。"],
        "pos_scores": [3.0],
        "neg_scores": [1.0, 0.0],
        "source": "厨房",
        "meta": {
            "teacher": "strong",
            "negatives": [
                {"miner": "bm25", "rank": 2, "score": 7.25},
                {"miner": "random", "rank": None, "score": None},
            ],
            "grades": {"pos": [{"reason": "直接回答"}], "neg": [{"reason": "水温不对"}, {}]},
        },
    }
    return Example(**{**given, **more})


def test_a_card_says_what_is_known_of_each_passage():
    card = show(example())
    assert card.facts == [("source", "厨房"), ("teacher", "strong")]
    assert card.miners == ["bm25", "random"]
    positive, near, far = card.passages
    assert (positive.role, positive.miner, positive.reason, positive.near) == ("pos", "", "直接回答", None)
    assert positive.facts == [("grade", "3"), ("query overlap", "25%")]
    assert near.facts == [("grade", "1"), ("rank", "2"), ("score", "7.25"), ("query overlap", "25%")]
    assert near.reason == "水温不对"
    assert near.near == pytest.approx(nearness(NEAR, POSITIVE))
    assert (far.miner, far.near, far.reason) == ("random", None, "")
    assert far.facts == [("grade", "0"), ("query overlap", "0%")]


@pytest.mark.parametrize("negatives", [None, "bm25", [{"miner": "bm25"}], ["bm25", "bm25"]], ids=repr)
def test_provenance_of_another_shape_is_left_out(negatives):
    card = show(example(meta={"negatives": negatives, "grades": [1]}))
    assert card.miners == []
    assert card.passages[0].reason == ""


def test_a_rejected_row_shows_its_texts():
    found = show_reject({"where": "a:1", "reason": "no_positive", "row": {"query": "问", "pos": ["甲", "乙"], "n": 3}})
    assert found.texts == [("query", "问"), ("pos 1", "甲"), ("pos 2", "乙")]
    assert show_reject({"reason": "not_json", "text": "{"}).texts == [("line", "{")]


# --------------------------------------------------------------------------- counts and the draw


def test_everything_is_counted_and_the_sample_is_seeded(tmp_path):
    rows = [example(query=f"第{number}问", id=str(number)) for number in range(200)]
    write_examples(tmp_path / "a.jsonl", rows)
    found, sample = count_and_draw(tmp_path / "a.jsonl", drawn=5, seed=0)
    assert found.rows == 200
    assert found.lengths["negatives"] == {len(NEAR): 200, 7: 200}
    assert found.grades == {"positives": {3.0: 200}, "negatives": {1.0: 200, 0.0: 200}}
    assert found.ranks == {"bm25": {2: 200}}
    assert found.miners == {"bm25": 200, "random": 200}
    ids = [one.id for one in sample]
    assert ids == sorted(ids, key=int)
    assert len(set(ids)) == 5
    assert [one.id for one in count_and_draw(tmp_path / "a.jsonl", drawn=5, seed=0)[1]] == ids
    assert [one.id for one in count_and_draw(tmp_path / "a.jsonl", drawn=5, seed=1)[1]] != ids
    assert len(count_and_draw(tmp_path / "a.jsonl", drawn=999, seed=0)[1]) == 200


def test_every_row_is_as_likely(tmp_path):
    write_examples(tmp_path / "a.jsonl", [example(query="问题", id=str(number)) for number in range(10)])
    drawn = Counter(
        one.id for seed in range(300) for one in count_and_draw(tmp_path / "a.jsonl", drawn=3, seed=seed)[1]
    )
    assert set(drawn) == set(map(str, range(10)))
    assert all(60 <= count <= 120 for count in drawn.values()), drawn  # 90 expected, standard deviation 8


def test_rejected_rows_are_found_where_stages_leave_them(tmp_path):
    line = json.dumps({"where": "a:1", "reason": "no_positive", "row": {}}) + "\n"
    (tmp_path / "train.jsonl").write_text("{}\n")
    assert rejected_beside(tmp_path / "train.jsonl", drawn=3, seed=0) == ({}, [])
    (tmp_path / "rejected.jsonl").write_text(line * 5)
    reasons, rows = rejected_beside(tmp_path / "train.jsonl", drawn=3, seed=0)
    assert (reasons, len(rows)) == ({"no_positive": 5}, 3)
    assert rejected_beside(tmp_path, drawn=3, seed=0)[0] == {"no_positive": 5}
    (tmp_path / "train.jsonl.rejected.jsonl").write_text(line)
    assert rejected_beside(tmp_path / "train.jsonl", drawn=3, seed=0)[0] == {"no_positive": 1}


# --------------------------------------------------------------------------- charts


def test_bars_are_as_high_as_their_shares():
    svg = histogram({"a": {0: 1, 3: 3}, "b": {3: 2}}, title="<grades>")
    assert 'aria-label="&lt;grades&gt;"' in svg
    heights = [float(found) for found in re.findall(r'height="([\d.]+)" rx', svg)]
    assert heights == [37.5, 112.5, 150.0]
    assert "a, 3: 75.0%" in svg
    assert re.findall(r'text-anchor="middle">(\d)<', svg) == ["0", "1", "2", "3"]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.dictionaries(st.floats(-1e6, 1e6), st.integers(1, 9), min_size=1, max_size=30))
def test_a_histogram_loses_no_value(values):
    svg = histogram({"": values}, title="t")
    shares = [float(found) for found in re.findall(r": ([\d.]+)%</title>", svg)]
    assert sum(shares) == pytest.approx(100, abs=0.06 * len(shares))


def test_counts_beyond_eight_are_one_bar():
    svg = counted([(f"源{number}", number + 1) for number in range(10)], title="t")
    assert svg.count("<rect") == 9
    assert "2 others: 3" in svg
    assert svg.index("源9") < svg.index("源8")


# --------------------------------------------------------------------------- the page


def test_nothing_of_the_data_is_markup(tmp_path):
    evil = '<script>alert("1")</script>&amp;<b onload=x>'
    meta = {
        "teacher": evil,
        "negatives": [{"miner": evil, "rank": 1, "score": 1.0}],
        "grades": {"pos": [{"reason": evil}]},
    }
    rows = [Example(query=evil, pos=[evil], neg=[evil + "甲"], id=evil, source=evil, meta=meta)]
    rows.append(Example(query="问", pos=["答"], source="另"))
    write_examples(tmp_path / "a.jsonl", rows)
    entry = {"where": evil, "reason": evil, "detail": evil, "row": {evil: evil}}
    (tmp_path / "rejected.jsonl").write_text(json.dumps(entry) + "\n")
    write_page(tmp_path / "page.html", tmp_path / "a.jsonl")
    page = (tmp_path / "page.html").read_text()
    assert page.count("<script>") == 1, "the page's own"
    assert "<b onload" not in page
    bare = html.unescape(re.sub(r"</?(mark|del)[^>]*>", "", page))
    assert bare.count(evil) >= 9


def test_the_page_is_self_contained_and_the_same_for_the_same_seed(tmp_path):
    write_examples(tmp_path / "a.jsonl", [example(query=f"第{number}问") for number in range(30)])
    for name in ("one", "two"):
        write_page(tmp_path / f"{name}.html", tmp_path / "a.jsonl", drawn=4, seed=3)
    page = (tmp_path / "one.html").read_text()
    assert page == (tmp_path / "two.html").read_text()
    assert not re.search(r"(?:src|href)=|url\(|@import|https?://", page)
    assert page.count('<article class="card example"') == 4
    assert "30 rows" in page
    assert "<option>bm25</option>" in page
    assert 'data-miner="random"' in page
    assert "near the positive" in page
    assert "prefers-color-scheme: dark" in page


def test_a_retrieval_set_and_data_without_provenance_have_a_page_too(tmp_path):
    data = RetrievalSet(
        name="set", corpus={"d": Passage(text="正文")}, queries={"q": "问题"}, qrels={"test": {"q": {"d": 1}}}
    )
    write_beir(tmp_path / "set", data)
    write_page(tmp_path / "page.html", tmp_path / "set")
    page = (tmp_path / "page.html").read_text()
    assert "1 row." in page
    assert 'id="miner"' not in page
    assert 'id="reason"' not in page


def test_unusable_rows_stop_the_page_or_are_left_out(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"query": "问", "pos": ["答"]}\n{}\n')
    with pytest.raises(InputError, match=r"a\.jsonl:2"):
        write_page(tmp_path / "page.html", tmp_path / "a.jsonl")
    assert not (tmp_path / "page.html").exists()
    write_page(tmp_path / "page.html", tmp_path / "a.jsonl", rejects=RejectLog(None))
    assert "1 row." in (tmp_path / "page.html").read_text()
