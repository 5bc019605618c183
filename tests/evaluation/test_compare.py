"""Comparison: what is shared is lined up, differences are tested as textbooks do, and nothing else passes."""

from __future__ import annotations

import numpy as np
import pytest
from run_folders import Scores, write_run
from scipy.stats import permutation_test

from zhihui.errors import InputError
from zhihui.evaluation import cmteb
from zhihui.evaluation.compare import Published, compare, holm, randomisation_test
from zhihui.evaluation.compare_queries import difference_rows, telling_queries, won_and_lost
from zhihui.evaluation.compare_runs import read_run
from zhihui.evaluation.compare_stage import headline, published_scores
from zhihui.evaluation.compare_tables import as_json, as_markdown, make_table
from zhihui.records import Passage, RetrievalSet

ONE: Scores = {
    "alpha": {"bm25": [0.2, 0.4, 0.6], "m": [0.5, 0.4, 0.9]},
    "beta": {"bm25": [1.0, 0.0], "m": [1.0, 0.5]},
}
TWO: Scores = {"alpha": {"bm25": [0.2, 0.4, 0.6], "n": [0.9, 0.8, 1.0]}, "gamma": {"bm25": [0.1], "n": [0.3]}}


@pytest.fixture
def two_runs(tmp_path):
    return [read_run(write_run(tmp_path / "one", ONE)), read_run(write_run(tmp_path / "two", TWO))]


def test_runs_meet_on_the_sets_they_share(two_runs):
    found = compare(two_runs)
    assert [one.name for one in found.sets] == ["alpha"]
    assert found.left_out == ["beta (not in every run)", "gamma (not in every run)"]
    assert [system.name for system in found.systems] == ["bm25", "m", "n"]
    averages = {system.name: system.average.value for system in found.systems}
    assert averages == {"bm25": pytest.approx(0.4), "m": pytest.approx(0.6), "n": pytest.approx(0.9)}
    assert [system.name for system in found.ranked] == ["n", "m", "bm25"]


def test_the_average_counts_every_set_the_same(two_runs):
    found = compare(two_runs[:1])
    system = next(one for one in found.systems if one.name == "m")
    assert [one.value for one in system.per_set] == [pytest.approx(0.6), pytest.approx(0.75)]
    assert system.average.value == pytest.approx((0.6 + 0.75) / 2)
    (pair,) = found.differences
    assert (pair.a, pair.b) == ("m", "bm25")
    assert pair.average.value == pytest.approx(((0.3 + 0 + 0.3) / 3 + (0 + 0.5) / 2) / 2)
    assert pair.average.low <= pair.average.value <= pair.average.high


def test_systems_of_one_name_are_told_apart_only_if_they_differ(tmp_path):
    write_run(tmp_path / "a", {"s": {"bm25": [0.1], "m": [0.2]}})
    write_run(tmp_path / "b", {"s": {"bm25": [0.1], "m": [0.3]}}, fingerprints={"m": "other weights"})
    found = compare([read_run(tmp_path / "a"), read_run(tmp_path / "b")])
    assert [system.name for system in found.systems] == ["bm25", "m (a)", "m (b)"]


@pytest.mark.parametrize(
    ("other", "change", "reason"),
    [
        ({"delta": {"m": [0.1]}}, {}, "alpha (not in every run), delta (not in every run)"),
        ({"alpha": {"m": [0.1]}}, {}, "alpha (of different splits or versions)"),
        ({"alpha": {"m": [0.1, 0.2, 0.3]}}, {"split": "dev"}, "alpha (of different splits or versions)"),
        ({"alpha": {"m": [0.1, 0.2, 0.3]}}, {"sets": {"alpha": "new"}}, "alpha (of different splits or versions)"),
    ],
    ids=["other sets", "other queries", "other split", "other texts"],
)
def test_runs_that_share_no_set_are_refused_in_one_line(tmp_path, other, change, reason):
    write_run(tmp_path / "a", {"alpha": ONE["alpha"]})
    write_run(tmp_path / "b", other, **change)
    with pytest.raises(InputError, match="the runs share no set") as refused:
        compare([read_run(tmp_path / "a"), read_run(tmp_path / "b")])
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder; give one that zhihui eval wrote"):
        read_run(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="not a finished run"):
        read_run(tmp_path / "empty")
    write_run(tmp_path / "mined", ONE, stage="mine")
    with pytest.raises(InputError, match="a mine run; give a folder that zhihui eval wrote"):
        read_run(tmp_path / "mined")
    broken = write_run(tmp_path / "broken", ONE) / "sets" / "alpha" / "found.jsonl"
    broken.write_text('{"system": "m"}\n{"system": "m", "query_id": "q0", "ranks": {}}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"found\.jsonl: a line is not one of an evaluation"):
        read_run(tmp_path / "broken")


# --------------------------------------------------------------------------- tests of differences


def test_the_randomisation_test_agrees_with_scipy():
    random = np.random.default_rng(0)
    for shift in (0.0, 0.1, 0.3):
        values = random.normal(shift, 0.3, size=12)
        expected = permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf, random_state=0)
        assert randomisation_test([values]) == pytest.approx(expected.pvalue, abs=0.015)


def test_no_difference_has_p_of_1_and_few_queries_prove_nothing():
    assert randomisation_test([np.zeros(5)]) == 1.0
    assert randomisation_test([np.full(3, 0.4)]) == pytest.approx(2 / 2**3, abs=0.02)
    assert randomisation_test([np.full(40, 0.4)]) == pytest.approx(1e-4)


def test_holm_multiplies_by_what_is_left_and_never_falls():
    assert holm([0.01, 0.04, 0.03]) == [pytest.approx(0.03), pytest.approx(0.06), pytest.approx(0.06)]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_headline_doubts_what_may_be_chance(tmp_path):
    clear = {"s": {"bm25": [0.1] * 40, "m": [0.4] * 40}}
    assert headline(compare([read_run(write_run(tmp_path / "clear", clear))])) == (
        "m is best on s: nDCG@10 40.00, +30.00 over bm25 (+30.00 to +30.00, query by query)."
    )
    doubtful = {"s": {"bm25": [0.1, 0.9, 0.5], "m": [0.9, 0.1, 0.8]}}
    assert headline(compare([read_run(write_run(tmp_path / "doubtful", doubtful))])).endswith("may be chance.")
    alone = {"s": {"m": [0.5, 0.5]}, "t": {"m": [0.7]}}
    found = compare([read_run(write_run(tmp_path / "alone", alone))])
    assert headline(found).startswith("m reaches nDCG@10 60.00 on average over the sets (95% interval 60.00 to")


# --------------------------------------------------------------------------- tables


def test_best_and_second_best_are_marked_and_markdown_shows_them(two_runs):
    table = make_table(compare(two_runs))
    assert [row.name for row in table.rows] == ["n", "m", "bm25"]
    assert [row.place for row in table.rows] == [2, 1, 0]
    assert as_markdown(table) == (
        "| system | alpha | average |\n"
        "| --- | ---: | ---: |\n"
        "| n | **90.00** | **90.00** |\n"
        "| m | *60.00* | *60.00* |\n"
        "| bm25 | 40.00 | 40.00 |\n"
    )


def test_equal_scores_share_a_mark_and_a_lone_system_has_none(tmp_path):
    run = read_run(write_run(tmp_path / "a", {"s": {"a|b": [0.5], "c": [0.500001], "d": [0.1]}}))
    table = make_table(compare([run]))
    assert [row.cells[0].mark for row in table.rows] == ["best", "best", "second"]
    assert "| a\\|b | **50.00** |" in as_markdown(table)
    alone = read_run(write_run(tmp_path / "b", {"s": {"m": [0.5]}}))
    assert make_table(compare([alone])).rows[0].cells[0].mark == ""


def test_published_scores_stand_beside_whole_tasks_only(tmp_path):
    whole = {name: {"m": [0.9] * task.queries} for name, task in cmteb.tasks().items() if task.queries <= 1000}
    run = read_run(write_run(tmp_path / "whole", whole, split="dev"))
    assert list(run.sets) == [name for name in cmteb.tasks() if name in whole], "in the order of the published tables"
    found = compare([run], published=published_scores([run]))
    zhihui = next(one for one in found.published if one.name == "Zhihui_LLM_Embedding")
    assert zhihui.scores["CovidRetrieval"] == pytest.approx(0.8439)
    assert zhihui.average == pytest.approx(sum(zhihui.scores.values()) / 4)
    table = make_table(found)
    assert table.columns == ["Covid", "Ecom", "Medical", "Video", "average"]
    assert table.rows[0].name == "m"
    assert "| Zhihui_LLM_Embedding (published) | 84.39 |" in as_markdown(table)
    part = read_run(write_run(tmp_path / "part", {"CovidRetrieval": {"m": [0.9] * 10}}, split="dev"))
    assert published_scores([part]) == []
    other = read_run(write_run(tmp_path / "split", {"CovidRetrieval": {"m": [0.9] * 949}}, split="test"))
    assert published_scores([other]) == []


def test_an_average_over_all_tasks_is_the_published_one(tmp_path):
    run = read_run(write_run(tmp_path / "a", {"s": {"m": [0.5]}, "t": {"m": [0.5]}}))
    rows = [
        Published(name="whole", scores={"s": 0.1, "t": 0.2}, average=0.1501),
        Published(name="more", scores={"s": 0.1, "t": 0.2, "u": 0.9}, average=0.4),
        Published(name="less", scores={"s": 0.1}, average=0.1),
    ]
    found = compare([run], published=rows)
    assert [(one.name, one.average) for one in found.published] == [("whole", 0.1501), ("more", pytest.approx(0.15))]


def test_json_has_everything_but_the_queries(two_runs):
    shown = as_json(compare(two_runs))
    assert shown["sets"] == [{"name": "alpha", "split": "test", "queries": 3}]
    assert set(shown["systems"]) == {"bm25", "m", "n"}
    assert {(one["a"], one["b"]) for one in shown["differences"]} == {("n", "m"), ("n", "bm25"), ("m", "bm25")}
    assert all(one["significant"] is False for one in shown["differences"]), "3 queries prove nothing"


# --------------------------------------------------------------------------- queries


def test_telling_queries_are_failures_losses_and_gains(tmp_path):
    scores = {"s": {"a": [0.0, 1.0, 1.0, 0.4], "b": [0.0, 0.1, 1.0, 0.9]}}
    found = compare([read_run(write_run(tmp_path / "r", scores))])
    assert found.ranked[0].name == "a"
    shown = [(query.text, query.why) for query in telling_queries(found, {})]
    assert shown == [
        ("q0", "among the worst of a"),
        ("q3", "among the worst of a"),
        ("q1", "a gains most over b"),
    ]
    data = RetrievalSet(
        name="s",
        corpus={key: Passage(text=f"第{key}段") for key in ("p0", "p1", "p2", "p3", "p-other")},
        queries={f"q{number}": f"问题{number}" for number in range(4)},
        qrels={"test": {f"q{number}": {f"p{number}": 1} for number in range(4)}},
    )
    first = telling_queries(found, {"s": data})[0]
    assert (first.text, first.rankings[0].passages[1].text) == ("问题0", "第p-other段")


def test_every_query_has_a_row_and_a_winner(two_runs):
    found = compare(two_runs)
    rows = list(difference_rows(found))
    assert rows[0] == {"set": "alpha", "query_id": "q0", "ndcg_at_10": {"bm25": 0.2, "m": 0.5, "n": 0.9}}
    assert len(rows) == 3
    assert won_and_lost(found, "m", "bm25") == (2, 1, 0)
    assert won_and_lost(found, "bm25", "n") == (0, 0, 3)
