"""Dedup and mining as stages of a recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from zhihui.errors import InputError
from zhihui.recipe import read_recipe, run_recipe
from zhihui.records import Example, RetrievalSet, read_examples, write_beir, write_examples
from zhihui.runs import read_manifest

RECIPE = """
about: clean, then mine
stages:
  clean:
    stage: dedup
    data: rows.jsonl
    against: [exam]
  mine:
    data: $clean
    miners: [bm25:1-5:1, bm25:6-20:1, random:1]
    near_duplicates: 0.7
    stop_words: true
"""


@pytest.fixture
def folder(tmp_path, examples, passages, monkeypatch):
    monkeypatch.chdir(tmp_path)
    leak = Example(query="考试里的问题是什么", pos=["一段普通的话"], id="leak")
    write_examples(tmp_path / "rows.jsonl", [*examples, examples[1], leak])
    key = next(iter(passages))
    exam = RetrievalSet(name="exam", corpus=passages, queries={"t": leak.query}, qrels={"test": {"t": {key: 1}}})
    write_beir(tmp_path / "exam", exam)
    (tmp_path / "run.yaml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


def test_what_is_mined_was_cleaned(folder, examples):
    run_recipe(read_recipe(Path("run.yaml")), Path("out"))
    stages = {manifest.stage: path for path in folder.joinpath("out").iterdir() if (manifest := read_manifest(path))}
    assert stages.keys() == {"dedup", "mine"}
    counts = read_manifest(stages["dedup"]).counts
    assert counts["rejected"] == {"duplicate": 1, "positive_in_evaluation": 1, "query_in_evaluation": 1}
    mined = list(read_examples(stages["mine"] / "train.jsonl"))
    assert [example.id for example in mined] == [example.id for example in examples[1:]]
    assert all(len(example.neg) == 3 for example in mined)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("against: [exam]", "against: [exam]\n    splits: [dev]", "no split 'dev'"),
        ("[bm25:1-5:1, bm25:6-20:1, random:1]", "[cross:1-5:1]", "re-ranks what bm25 and dense miners find"),
        ("stop_words: true", "cross_ratio: 0.9", "need a cross-encoder"),
        ("stop_words: true", "grades: rows.jsonl", "grades filter nothing"),
        ("[exam]", "[nothing]", "nothing"),
    ],
)
def test_mistakes_are_found_before_anything_starts(folder, old, new, message):
    (folder / "run.yaml").write_text(RECIPE.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        run_recipe(read_recipe(Path("run.yaml")), Path("out"))
    assert not (folder / "out").exists()
