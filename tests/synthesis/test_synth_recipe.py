"""Synthesis in a recipe: stages from a recording, references between them, what is refused before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripted import Scripted, fits, grade_by, write_queries

from zhihui.errors import InputError
from zhihui.recipe import State, make_plan, read_recipe, run_recipe
from zhihui.records import read_examples, write_examples
from zhihui.synthesis import QueryConfig, RefineConfig
from zhihui.synthesis.draws import Variety
from zhihui.synthesis.stage import synth_files
from zhihui.teacher import RecordingTeacher

RECIPE = """
stages:
  write:
    stage: synth.query
    data: corpus.jsonl
    recording: answers.jsonl
    queries: 1
    variety: {types: [question]}
  negatives:
    stage: mine
    data: $write
    miners: [bm25:1-20:3]
  refine:
    data: $negatives
    recording: answers.jsonl
"""


@pytest.fixture
def folder(tmp_path, corpus, examples, monkeypatch):
    """The working directory, with the recipe, the corpus, examples and an empty recording."""
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(RECIPE, encoding="utf-8")
    Path("answers.jsonl").write_text("", encoding="utf-8")
    write_examples(Path("examples.jsonl"), examples)
    return tmp_path


@pytest.fixture
def answered(folder):
    """The working directory with a recording of every answer that the recipe asks for."""
    teacher = RecordingTeacher(Scripted(query=write_queries, grade=grade_by(fits)))
    variety = Variety(types=("question",))
    synth_files(Path("corpus.jsonl"), Path("a"), QueryConfig(queries=1, variety=variety), teacher)
    teacher.write(Path("answers.jsonl"))
    run_recipe(read_recipe(Path("recipe.yaml")), Path("draft"), until="negatives")
    synth_files(Path("draft/negatives/train.jsonl"), Path("b"), RefineConfig(), teacher)
    teacher.write(Path("answers.jsonl"))


def test_a_recipe_writes_mines_and_refines(answered):
    recipe = read_recipe(Path("recipe.yaml"))
    done = run_recipe(recipe, Path("run"))
    assert [(one.name, one.stage, one.state) for one in done] == [
        ("write", "synth.query", "done"),
        ("negatives", "mine", "done"),
        ("refine", "refine", "done"),
    ]
    found = list(read_examples(Path("run/refine/train.jsonl")))
    assert {example.query[:2] for example in found} >= {"红茶", "番茄"}
    assert all("refinement" in example.meta and "retrieved" in example.meta for example in found)
    assert all(len(example.meta["negatives"]) == len(example.neg) for example in found)
    assert {each.state for each in make_plan(read_recipe(Path("run/recipe.yaml")), Path("run")).stages} == {State.DONE}


def test_other_answers_are_other_work(answered):
    run_recipe(read_recipe(Path("recipe.yaml")), Path("run"))
    with Path("answers.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"key": "0", "role": "judge", "template": "grade@1", "failure": "refused"}\n')
    states = [each.state for each in make_plan(read_recipe(Path("recipe.yaml")), Path("run")).stages]
    assert states == [State.CHANGED, State.FOLLOWS, State.CHANGED]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["write.recording=null"], "write: no teacher; give either"),
        (["write.teacher=teacher.yaml"], "write: a teacher and a recording; give either"),
        (["write.model=m"], "write: only a dense round trip uses a model"),
        (["refine.positive_at=9"], "refine: negative_at 1.5, positive_at 9: give grades from 0 to 4"),
        (
            ["refine.recording=$write"],
            "refine: recording is $write, which gives examples; a path from outside is wanted",
        ),
        (["write.recording=absent.jsonl"], "write: recording is absent.jsonl: no such file or folder"),
        (["write.templates=."], "write: .: holds no template"),
        (["write.stage=synth.triplet"], "write: unknown setting data"),
        (["write.stage=synth.qeury"], "did you mean synth.query?"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_starts(folder, words, message):
    with pytest.raises(InputError) as refused:
        run_recipe(read_recipe(Path("recipe.yaml"), words), Path("run"))
    assert message in str(refused.value)
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("synth.label", {"data": "examples.jsonl"}),
        ("synth.rewrite", {"data": "examples.jsonl"}),
        ("synth.expand", {"data": "corpus.jsonl"}),
        ("synth.triplet", {"triplets": 3}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_stage_runs(folder, kind, settings):
    lines = "".join(f"    {name}: {value}\n" for name, value in settings.items())
    Path("one.yaml").write_text(f"stages:\n  one:\n    stage: {kind}\n    recording: answers.jsonl\n{lines}")
    (outcome,) = run_recipe(read_recipe(Path("one.yaml")), Path("run"))
    assert outcome.counts["rejected"]["not_recorded"] > 0
    assert outcome.counts["accepted"] == 0
