from __future__ import annotations

from dataclasses import replace

import pytest

from zhihui.errors import InputError
from zhihui.mining import Miner, MiningConfig, mine
from zhihui.mining.stage import mine_files
from zhihui.ranking.shingles import bare, jaccard, shingles
from zhihui.records import Example, Passage, RejectLog, read_examples, write_examples


def config(*specs, **settings):
    return MiningConfig(miners=tuple(Miner.parse(spec) for spec in specs), **settings)


def alike(one: str, other: str) -> float:
    return jaccard(shingles(bare(one)), shingles(bare(other)))


class TestGrades:
    @pytest.fixture
    def graded(self, examples, passages):
        """Three negatives, one of which the teacher takes for an answer."""
        texts = [passages[f"{subject}-怎么清洗"].full for subject in ("绿茶", "小猫", "雨伞")]
        return replace(examples[0], neg=texts, neg_scores=[0.9, 0.2, 0.5])

    def test_given_negatives_graded_as_answers_are_dropped(self, graded, passages):
        mined = mine([graded], passages, config("random:1", max_grade=0.5))
        example = mined.examples[0]
        assert example.neg[0] == graded.neg[1]
        assert len(example.neg) == 2
        assert set(example.neg).isdisjoint({graded.neg[0], graded.neg[2]}), "nor are they mined again"
        assert mined.counts["filtered"]["grade"] == 2
        assert example.meta["negatives"][0] == {"miner": "given", "rank": None, "score": None, "grade": 0.2}

    def test_grades_stay_where_nothing_is_mined(self, graded, passages):
        one = {"a": Passage(graded.pos[0])}
        example = mine([graded], one, config("random:1", max_grade=0.9)).examples[0]
        assert (example.neg, example.neg_scores) == (graded.neg[1:], [0.2, 0.5])

    def test_candidates_graded_for_an_equal_query_are_held_back(self, graded, passages, examples):
        bare_example = replace(graded, neg=[], neg_scores=None)
        other = replace(graded, query=" 紅茶 怎麼清洗", id="other")
        mined = mine([bare_example], passages, config("bm25:1-60:60", "random:60", max_grade=0.5), judged=[other])
        assert set(mined.examples[0].neg).isdisjoint({graded.neg[0], graded.neg[2]})
        assert graded.neg[1] in mined.examples[0].neg
        untouched = mine([bare_example], passages, config("bm25:1-60:60", "random:60"), judged=[other])
        assert set(graded.neg) <= set(untouched.examples[0].neg)

    def test_grades_that_an_earlier_mining_moved_are_found(self, graded, passages):
        once = mine([graded], passages, config("random:1")).examples[0]
        assert once.neg_scores is None
        again = mine([once], passages, config("bm25:1-9:1", max_grade=0.5)).examples[0]
        assert again.neg[:2] == [graded.neg[1], once.neg[3]]
        assert again.meta["negatives"][:2] == [once.meta["negatives"][1], once.meta["negatives"][3]]

    def test_a_file_of_grades(self, graded, passages, tmp_path):
        rows = [replace(graded, neg=[], neg_scores=None)]
        rows.append(Example(query="别的问题", pos=[passage.full for passage in passages.values()]))
        write_examples(tmp_path / "in.jsonl", rows)
        write_examples(tmp_path / "graded.jsonl", [graded])
        setting = config("random:70", max_grade=0.5)
        manifest = mine_files(tmp_path / "in.jsonl", tmp_path / "out", setting, grades=tmp_path / "graded.jsonl")
        first = next(iter(read_examples(tmp_path / "out" / "train.jsonl")))
        assert set(first.neg).isdisjoint({graded.neg[0], graded.neg[2]})
        assert manifest.counts["rejected"]["grade"] == manifest.counts["filtered"]["grade"] == 2
        assert "grades" in manifest.inputs
        with pytest.raises(InputError, match="without a threshold"):
            mine_files(tmp_path / "in.jsonl", tmp_path / "o", config("random:1"), grades=tmp_path / "graded.jsonl")
        with pytest.raises(InputError, match="no such file"):
            mine_files(tmp_path / "in.jsonl", tmp_path / "o", setting, grades=tmp_path / "nothing.jsonl")


class TestNearDuplicates:
    BASE = "泡发香菇要用温水，水里加一点白糖更快，泡好以后把根部的沙子洗干净再切片下锅。"
    OTHER = "海带表面的白霜用水冲掉就可以，褶皱里面的沙要用软毛刷子慢慢地刷干净才能吃。"

    @pytest.fixture
    def corpus(self):
        twins = {f"twin{n}": Passage(self.BASE.replace("切片", f"切片{n}")) for n in range(4)}
        others = {f"other{n}": Passage(self.OTHER.replace("才能", f"才能{n}")) for n in range(4)}
        return {"base": Passage(self.BASE), **twins, **others, "rest": Passage("香菇和海带都可以用来煮汤")}

    @pytest.mark.parametrize("spec", ["bm25:1-10:9", "random:9"])
    def test_of_texts_alike_one_is_taken_and_of_the_positive_none(self, corpus, spec, tmp_path):
        example = Example(query="香菇和海带怎么泡发和清洗", pos=[self.BASE], id="q")
        with RejectLog(tmp_path / "rejected.jsonl") as log:
            mined = mine([example], corpus, config(spec, near_duplicates=0.7), rejects=log)
        negatives = mined.examples[0].neg
        assert len(negatives) == 2
        assert all(alike(one, self.BASE) < 0.7 for one in negatives)
        assert sum(alike(one, self.OTHER) >= 0.8 for one in negatives) == 1
        assert mined.counts["filtered"]["near_duplicate"] == log.counts["near_duplicate"] == 7

    def test_the_threshold_decides(self, corpus):
        example = Example(query="香菇和海带怎么泡发和清洗", pos=[self.BASE], id="q")
        everything = mine([example], corpus, config("bm25:1-10:9", near_duplicates=None))
        assert len(everything.examples[0].neg) == len(corpus) - 1
        strict = mine([example], corpus, config("bm25:1-10:9", near_duplicates=1.0))
        assert len(strict.examples[0].neg) == len(corpus) - 1

    def test_a_passed_over_passage_makes_room_for_another(self, corpus):
        example = Example(query="香菇和海带怎么泡发和清洗", pos=[self.BASE], id="q")
        for seed in range(20):
            mined = mine([example], corpus, config("bm25:1-10:2", near_duplicates=0.7, seed=seed))
            assert len(mined.examples[0].neg) == 2

    def test_given_negatives_count_too(self, corpus):
        given = self.OTHER.replace("白霜", "白色的霜")
        example = Example(query="香菇和海带怎么泡发和清洗", pos=[self.BASE], neg=[given], id="q")
        assert mine([example], corpus, config("bm25:1-10:9", near_duplicates=0.6)).examples[0].neg[1:] == [
            "香菇和海带都可以用来煮汤"
        ]

    def test_draws_are_as_without_the_filter_where_nothing_is_alike(self, examples, passages, encoder):
        specs = ("bm25:2-12:3", "dense:1-20:3", "random:2")
        settings = [config(*specs, near_duplicates=limit) for limit in (None, 0.95)]
        first, second = (mine(examples, passages, setting, encoder=encoder).examples for setting in settings)
        assert [example.to_row() for example in first] == [example.to_row() for example in second]
