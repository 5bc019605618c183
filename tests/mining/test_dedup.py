"""Dedup on planted repetitions and leaks: what goes, why, and that nothing else does."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zhihui.errors import InputError
from zhihui.mining.dedup import DedupConfig
from zhihui.mining.dedup.protected import Protected
from zhihui.mining.dedup.stage import dedup_files
from zhihui.mining.dedup.verdicts import judge
from zhihui.ranking.shingles import bare, jaccard, shingles
from zhihui.records import Example, Passage, RetrievalSet, read_examples, write_beir, write_examples

WORDS = (
    "香菇 木耳 海带 粉丝 土豆 番茄 黄瓜 豆腐 白菜 萝卜 先用 温水 冷水 盐水 泡上 洗净 切成 细丝 薄片 小块 放进 锅里 "
    "大火 小火 煮开 炒熟 蒸透 半小时 十分钟 一刻钟 最后 撒上 葱花 香菜 胡椒 淋些 香油 即可 出锅 装盘 不要 忘记"
)


def sentence(draw: random.Random, words: int) -> str:
    return "".join(draw.choice(WORDS.split()) + draw.choice(["", "", "，"]) for _ in range(words)) + "。"


def edited(draw: random.Random, text: str, changes: int) -> str:
    letters = list(text)
    for _ in range(changes):
        letters[draw.randrange(len(letters))] = draw.choice("甲乙丙丁")
    return "".join(letters)


@cache
def alike(one: str, other: str) -> float:
    return jaccard(shingles(bare(one)), shingles(bare(other)))


def data(count: int, seed: int = 0) -> list[Example]:
    draw = random.Random(seed)
    return [Example(query=f"{sentence(draw, 8)[:-1]}{n}？", pos=[sentence(draw, 40)], id=f"e{n}") for n in range(count)]


def run(tmp_path, examples, config=None, *, against=(), name="out"):
    write_examples(tmp_path / f"{name}.in.jsonl", examples)
    manifest = dedup_files(tmp_path / f"{name}.in.jsonl", tmp_path / name, config or DedupConfig(), against=against)
    path = tmp_path / name / "rejected.jsonl"
    rejected = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    return list(read_examples(tmp_path / name / "train.jsonl")), rejected, manifest


class TestWithin:
    def test_the_first_of_several_stays(self, tmp_path):
        first, second, third = data(3)
        rows = [first, second, replace(first, id="copy"), third, replace(second, id="copy2", pos=list(second.pos))]
        kept, rejected, manifest = run(tmp_path, rows)
        assert [example.id for example in kept] == ["e0", "e1", "e2"]
        assert [(row["example"]["id"], row["match"]["id"]) for row in (one["row"] for one in rejected)] == [
            ("copy", "e0"),
            ("copy2", "e1"),
        ]
        assert {row["reason"] for row in rejected} == {"duplicate"}
        assert rejected[0]["where"].endswith("out.in.jsonl:3")
        assert manifest.counts["rejected"] == {"duplicate": 2}
        assert (manifest.counts["examples"], manifest.counts["kept"]) == (5, 3)

    def test_script_width_and_punctuation_make_no_other_example(self, tmp_path):
        one = Example(query="邻居送的枇杷怎么保存？", pos=["枇杷放进ＰＥ保鲜袋，扎紧袋口，冷藏三天。"], id="a")
        other = Example(query="鄰居送的枇杷怎麼保存", pos=["枇杷放進pe保鮮袋 扎緊袋口 冷藏三天"], id="b")
        kept, rejected, _ = run(tmp_path, [one, other])
        assert [example.id for example in kept] == ["a"]
        assert rejected[0]["reason"] == "duplicate"
        assert rejected[0]["row"]["match"]["similarity"] == 1.0

    def test_queries_that_share_a_passage_stay(self, tmp_path):
        first, second = data(2)
        kept, rejected, _ = run(tmp_path, [first, replace(second, pos=list(first.pos))])
        assert (len(kept), rejected) == (2, [])

    def test_passages_that_share_a_query_stay(self, tmp_path):
        first, second = data(2)
        kept, rejected, _ = run(tmp_path, [first, replace(second, query=first.query)])
        assert (len(kept), rejected) == (2, [])

    def test_an_example_that_brings_a_new_positive_stays(self, tmp_path):
        first, second = data(2)
        more = replace(first, pos=[*first.pos, *second.pos], id="more")
        assert [example.id for example in run(tmp_path, [first, more])[0]] == ["e0", "more"]
        assert [example.id for example in run(tmp_path, [more, first], name="b")[0]] == ["more"]

    def test_planted_edits_are_found_and_nothing_else(self, tmp_path):
        draw = random.Random(5)
        originals = data(300)
        planted = [
            replace(each, id=f"p{n}", pos=[edited(draw, each.pos[0], n % 6)]) for n, each in enumerate(originals)
        ]
        kept, rejected, _ = run(tmp_path, [*originals, *planted])
        expected = {
            twin.id for each, twin in zip(originals, planted, strict=True) if alike(each.pos[0], twin.pos[0]) >= 0.8
        }
        assert 150 < len(expected) < 300
        found = {row["row"]["example"]["id"] for row in rejected}
        assert found <= expected
        assert len(found) >= 0.99 * len(expected)
        assert len(kept) == 600 - len(found)

    @settings(max_examples=12, deadline=None, derandomize=True)
    @given(seed=st.integers(0, 10**6), threshold=st.sampled_from([0.5, 0.8, 1.0]))
    def test_verdicts_are_those_of_comparing_with_all_kept_ones(self, seed, threshold):
        draw = random.Random(seed)
        rows = data(8, seed)
        for n in range(25):
            source = draw.choice(rows)
            pos = [edited(draw, text, draw.randint(0, 5)) for text in source.pos]
            if draw.random() < 0.3:
                pos.append(draw.choice(rows).pos[0])
            rows.append(replace(source, query=edited(draw, source.query, draw.randint(0, 1)), pos=pos, id=f"n{n}"))

        rows.append(replace(rows[0], id="copy"))

        def similarity(new: Example, old: Example) -> float:
            positives = (max(alike(text, other) for other in old.pos) for text in new.pos)
            return min(alike(new.query, old.query), *positives)

        config = DedupConfig(threshold=threshold)
        kept: list[Example] = []
        for row, verdict in zip(rows, judge(rows, [""] * len(rows), [], config), strict=True):
            best = max((similarity(row, old) for old in kept), default=0.0)
            assert (verdict is not None) == (best >= threshold)
            if verdict is None:
                kept.append(row)
            else:
                assert verdict.similarity == pytest.approx(best)
                match = next(old for old in kept if old.id == verdict.id)
                assert similarity(row, match) == pytest.approx(best)
        assert len(kept) < len(rows)

    def test_it_can_be_left_out(self, tmp_path):
        first = data(1)[0]
        kept, rejected, _ = run(tmp_path, [first, first], DedupConfig(within=False))
        assert (len(kept), rejected) == (2, [])


@pytest.fixture
def evaluation(tmp_path):
    """Two queries in test, one in train; the passages p0 to p2 are relevant, p3 is not."""
    draw = random.Random(77)
    passages = {f"p{n}": Passage(text=sentence(draw, 40), title="") for n in range(4)}
    queries = {"t0": "冰箱里的黄瓜为什么会结冰？", "t1": "怎样挑选新鲜的番茄和土豆", "r0": "豆腐怎样做才不容易碎掉"}
    qrels = {"test": {"t0": {"p0": 1}, "t1": {"p1": 2, "p3": 0}}, "train": {"r0": {"p2": 1}}}
    found = RetrievalSet(name="exam", corpus=passages, queries=queries, qrels=qrels)
    write_beir(tmp_path / "exam", found)
    return found


class TestAgainst:
    def reasons(self, tmp_path, evaluation, examples, **setting):
        name = f"out{len(list(tmp_path.iterdir()))}"
        _, rejected, manifest = run(tmp_path, examples, DedupConfig(**setting), against=[tmp_path / "exam"], name=name)
        return {row["row"]["example"]["id"]: (row["reason"], row["row"]["match"]["id"]) for row in rejected}, manifest

    def leaks(self, evaluation):
        draw = random.Random(8)
        texts = {key: passage.text for key, passage in evaluation.corpus.items()}
        plain = data(6)
        return [
            replace(plain[0], id="clean"),
            replace(plain[1], id="query", query="冰箱裡的黃瓜為什麼會結冰"),
            replace(plain[2], id="near query", query="请问怎样挑选新鲜的番茄和土豆呢"),
            replace(plain[3], id="positive", pos=[plain[3].pos[0], texts["p0"].replace("，", " ")]),
            replace(plain[4], id="near positive", pos=[edited(draw, texts["p1"], 2)]),
            replace(plain[5], id="title", query=texts["p1"]),
            Example(id="trained", query=evaluation.queries["r0"], pos=[texts["p2"]]),
            Example(id="irrelevant", query="完全是别的一个问题", pos=[texts["p3"]]),
        ]

    def test_leaks_go_with_the_reason_and_the_text_they_match(self, tmp_path, evaluation):
        found, manifest = self.reasons(tmp_path, evaluation, self.leaks(evaluation), threshold=0.6)
        assert found == {
            "query": ("query_in_evaluation", "exam/query/t0"),
            "near query": ("query_near_evaluation", "exam/query/t1"),
            "positive": ("positive_in_evaluation", "exam/passage/p0"),
            "near positive": ("positive_near_evaluation", "exam/passage/p1"),
            "title": ("query_in_evaluation", "exam/passage/p1"),
        }
        assert manifest.counts["protected"] == {"exam": 4}
        assert manifest.counts["removed_against"] == {"exam": 5}
        assert manifest.inputs.keys() == {"data", "against.0"}

    def test_what_is_protected_can_be_chosen(self, tmp_path, evaluation):
        leaks = self.leaks(evaluation)
        found, _ = self.reasons(tmp_path, evaluation, leaks, passages="all")
        assert {"irrelevant", "trained"} <= found.keys()
        found, _ = self.reasons(tmp_path, evaluation, leaks, passages="none")
        assert found.keys() == {"query"}
        found, _ = self.reasons(tmp_path, evaluation, leaks, splits=("train",))
        assert found == {"trained": ("query_in_evaluation", "exam/query/r0")}

    def test_negatives_are_not_looked_at(self, tmp_path, evaluation):
        example = replace(data(1)[0], neg=[evaluation.corpus["p0"].text])
        assert self.reasons(tmp_path, evaluation, [example])[0] == {}

    @settings(
        max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(seed=st.integers(0, 10**6))
    def test_no_text_at_the_threshold_stays_and_none_below_goes(self, evaluation, seed):
        draw = random.Random(seed)
        protected = [Protected("exam", "passage", key, passage.text) for key, passage in evaluation.corpus.items()]
        rows = [
            Example(query=f"第{n}个问题", pos=[edited(draw, draw.choice(protected).text, draw.randint(0, 14))])
            for n in range(30)
        ]
        config = DedupConfig(threshold=0.7, within=False)
        for row, verdict in zip(rows, judge(rows, [""] * len(rows), protected, config), strict=True):
            best = max(alike(row.pos[0], each.text) for each in protected)
            assert (verdict is not None) == (best >= 0.7)
            if verdict is not None:
                assert verdict.similarity == best

    def test_a_set_that_protects_nothing_is_refused(self, tmp_path, evaluation):
        rows = data(1)
        with pytest.raises(InputError, match=r"no split to protect \(dev\); there are: test, train"):
            self.reasons(tmp_path, evaluation, rows, splits=("dev",))
        with pytest.raises(InputError, match="no evaluation set has a split 'dev'"):
            self.reasons(tmp_path, evaluation, rows, splits=("dev", "test"))
        with pytest.raises(InputError, match="not a BEIR folder"):
            run(tmp_path, rows, against=[tmp_path], name="x")
        assert not (tmp_path / "x").exists()


def test_the_report_says_what_went_and_why(tmp_path, evaluation):
    rows = data(3)
    leak = Example(id="leak", query=evaluation.queries["t0"], pos=["一|段"])
    run(tmp_path, [*rows, replace(rows[0], id="copy"), leak], against=[tmp_path / "exam"])
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "5 examples, 2 removed (40.0%), 3 kept" in text
    assert "| query_in_evaluation | 1 |" in text
    assert "| duplicate | 1 |" in text
    assert "| near_duplicate | 0 |" in text
    assert "| exam | 4 | 1 |" in text
    assert "exam/query/t0" in text


def test_a_beir_folder_as_data(tmp_path, evaluation):
    manifest = dedup_files(tmp_path / "exam", tmp_path / "out", DedupConfig(), split="train")
    assert [example.id for example in read_examples(tmp_path / "out" / "train.jsonl")] == ["r0"]
    assert manifest.config["split"] == "train"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["manifest.json", "report.md", "train.jsonl"]


def test_the_same_work_gives_the_same_bytes_and_is_not_done_twice(tmp_path, evaluation):
    rows = [*data(20), *data(20)]
    for name in ("a", "b"):
        write_examples(tmp_path / "in.jsonl", rows)
        dedup_files(tmp_path / "in.jsonl", tmp_path / name, DedupConfig(), against=[tmp_path / "exam"])
    for file in ("train.jsonl", "rejected.jsonl", "report.md"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    again = dedup_files(tmp_path / "in.jsonl", tmp_path / "a", DedupConfig(), against=[tmp_path / "exam"])
    assert again.reused
    with pytest.raises(InputError, match="other settings"):
        dedup_files(tmp_path / "in.jsonl", tmp_path / "a", DedupConfig(threshold=0.9), against=[tmp_path / "exam"])


def test_unusable_rows_stop_or_are_set_aside(tmp_path):
    write_examples(tmp_path / "in.jsonl", data(2))
    with (tmp_path / "in.jsonl").open("a", encoding="utf-8") as stream:
        stream.write("这不是JSON\n")
    with pytest.raises(InputError, match=r"in\.jsonl:3"):
        dedup_files(tmp_path / "in.jsonl", tmp_path / "out", DedupConfig())
    manifest = dedup_files(tmp_path / "in.jsonl", tmp_path / "out", DedupConfig(), quarantine=True)
    assert manifest.counts["rejected"] == {"not_json": 1}
    assert manifest.counts["kept"] == 2


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"threshold": 0.0}, "threshold is 0.0"),
        ({"threshold": 1.2}, "threshold is 1.2"),
        ({"passages": "some"}, "'some'"),
    ],
)
def test_bad_settings_are_refused(setting, message):
    with pytest.raises(InputError, match=message):
        DedupConfig(**setting)
