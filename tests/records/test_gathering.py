"""Gathering: examples of several places one after the other, or a seeded draw of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from zhihui.errors import InputError
from zhihui.recipe import read_recipe, run_recipe
from zhihui.records import Example, Passage, RetrievalSet, read_examples, write_beir, write_examples
from zhihui.records.gathering import GatherConfig, gather_files


@pytest.fixture
def places(tmp_path: Path) -> list[Path]:
    """Two files of examples and a retrieval set."""
    for name in ("a", "b"):
        write_examples(
            tmp_path / f"{name}.jsonl", [Example(query=f"{name}{n}", pos=["甲"], id=str(n)) for n in range(9)]
        )
    judged = {"train": {"q": {"p": 1}}, "dev": {"r": {"p": 1}}}
    data = RetrievalSet(name="set", corpus={"p": Passage("乙")}, queries={"q": "问", "r": "答"}, qrels=judged)
    write_beir(tmp_path / "set", data)
    return [tmp_path / "a.jsonl", tmp_path / "set", tmp_path / "b.jsonl"]


def queries(out: Path) -> list[str]:
    return [example.query for example in read_examples(out / "train.jsonl")]


def test_all_examples_come_in_the_order_of_the_places(places, tmp_path):
    manifest = gather_files(places, tmp_path / "out", GatherConfig())
    assert queries(tmp_path / "out") == [f"a{n}" for n in range(9)] + ["问"] + [f"b{n}" for n in range(9)]
    assert manifest.counts["read"] == [9, 1, 9]
    gather_files(places, tmp_path / "dev", GatherConfig(), split="dev")
    assert queries(tmp_path / "dev")[9] == "答"


def test_a_draw_keeps_the_order_and_depends_on_the_seed_alone(places, tmp_path):
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        gather_files(places, tmp_path / name, GatherConfig(rows=8, seed=seed))
    found = queries(tmp_path / "one")
    whole = [f"a{n}" for n in range(9)] + ["问"] + [f"b{n}" for n in range(9)]
    assert len(found) == 8
    assert found == sorted(found, key=whole.index)
    assert found == queries(tmp_path / "two") != queries(tmp_path / "three")


def test_all_can_become_one_data_set(places, tmp_path):
    gather_files(places, tmp_path / "own", GatherConfig())
    gather_files(places, tmp_path / "one", GatherConfig(source="all"))
    assert {example.source for example in read_examples(tmp_path / "own" / "train.jsonl")} == {None, "set"}
    assert {example.source for example in read_examples(tmp_path / "one" / "train.jsonl")} == {"all"}
    assert queries(tmp_path / "one") == queries(tmp_path / "own")


@pytest.mark.parametrize(
    ("rows", "message"),
    [(0, "rows is 0; take at least 1"), (20, "rows is 20, and there are 19 examples; take fewer")],
)
def test_a_draw_that_cannot_be_is_refused(places, tmp_path, rows, message):
    with pytest.raises(InputError, match=message):
        gather_files(places, tmp_path / "out", GatherConfig(rows=rows))
    assert not (tmp_path / "out").exists()


def test_unusable_rows_stop_it_or_are_set_aside(places, tmp_path):
    with places[0].open("a", encoding="utf-8") as stream:
        stream.write('{"query": "无"}\n')
    with pytest.raises(InputError, match=r"a.jsonl:10"):
        gather_files(places, tmp_path / "out", GatherConfig())
    manifest = gather_files(places, tmp_path / "out", GatherConfig(), quarantine=True)
    assert manifest.counts["taken"] == 19
    assert sum(manifest.counts["rejected"].values()) == 1


RECIPE = """
stages:
  all:
    stage: gather
    data: [{data}]
  look:
    stage: stats
    data: $all
    samples: 2
"""


def test_in_a_recipe_it_gathers_and_the_page_shows_it(places, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(data=", ".join(map(str, places))), encoding="utf-8")
    run_recipe(read_recipe(path), tmp_path / "run")
    page = (tmp_path / "run" / "look" / "page.html").read_text(encoding="utf-8")
    assert "甲" in page
    assert '"rows": 19' in (tmp_path / "run" / "look" / "stats.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages: {all: {stage: gather, data: []}}", "all: data is empty"),
        ("stages: {look: {stage: stats, data: $starter, samples: 0}}", "look: samples is 0"),
        (
            "stages: {all: {stage: gather, data: [$engine]}}",
            r"is a folder of files; name one: \$engine/documents.jsonl",
        ),
        ("stages: {engine: {stage: gather, data: [$starter]}}", "engine: this name is what is shipped"),
        ("stages: {all: {stage: gather, data: [$engin/a.jsonl]}}", r"no stage engin; did you mean \$engine"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(tmp_path, text, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_recipe(path)


def test_a_shipped_file_that_is_not_there_is_missing(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("stages: {all: {stage: gather, data: [$engine/absent.jsonl]}}", encoding="utf-8")
    with pytest.raises(InputError, match=r"absent\.jsonl: no such file or folder"):
        run_recipe(read_recipe(path), tmp_path / "run")
