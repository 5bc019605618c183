"""The stages compare, slices and curves of a recipe: what they are given, what they refuse, what they leave."""

from __future__ import annotations

from pathlib import Path

import hub_mirror
import pytest
import yaml
from run_folders import write_run

from zhihui.errors import InputError
from zhihui.recipe import read_recipe, run_recipe
from zhihui.records import RetrievalSet, write_beir
from zhihui.runs import read_json

RECIPE = """
stages:
  build: {data: tiny, split: test, shape: tiny}
  evaluate: {sets: [tiny], models: {m: $build}}
  compare: {runs: [$evaluate], data: [tiny]}
  slices: {data: tiny, models: {m: $build}}
  curves: {data: tiny, model: $build, dimensions: [32], precisions: [float32, int8]}
"""


@pytest.fixture
def folder(tiny: RetrievalSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a set and recipe.yaml."""
    write_beir(tmp_path / "tiny", tiny)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(out: str = "run", **stages: object):
    path = Path("recipe.yaml")
    if stages:
        path.write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    return run_recipe(read_recipe(path), Path(out))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_was_measured_is_compared_and_measured_otherwise(folder):
    done = {one.name: one for one in run()}
    assert {one.state for one in done.values()} == {"done"}
    compared = read_json(Path("run/compare/results.json"))
    assert set(compared["systems"]) == {"bm25", "m"}
    page = Path("run/compare/report.html").read_text(encoding="utf-8")
    assert "Ids stand for" not in page
    sliced = read_json(Path("run/slices/results.json"))
    assert sliced["systems"] == ["bm25", "m"]
    curves = read_json(Path("run/curves/results.json"))
    assert [(one["precision"], one["dimensions"]) for one in curves["points"]] == [
        ("float32", 64),
        ("float32", 32),
        ("int8", 64),
        ("int8", 32),
    ]
    whole = sliced["slices"][0]["scores"]["m"]["value"]["value"]
    assert whole == pytest.approx(compared["systems"]["m"]["average"]["value"])
    assert curves["points"][0]["value"]["value"] == pytest.approx(whole)
    assert {one.state for one in run()} == {"reused"}


def test_folders_that_eval_wrote_are_compared(folder):
    for name, value in (("a", 0.5), ("b", 0.7)):
        write_run(folder / name, {"s": {name: [value] * 3}})
    run(compare={"runs": ["a", "b"], "references": False})
    found = read_json(Path("run/compare/results.json"))
    assert {name: one["average"]["value"] for name, one in found["systems"].items()} == pytest.approx(
        {"a": 0.5, "b": 0.7}
    )


def test_a_task_is_measured_by_its_own_split_and_rules(folder):
    mirror = str(hub_mirror.newer(hub_mirror.older(folder / "mirror", "T2Retrieval"), "DuRetrieval", form="jsonl"))
    tasks = {"t2": "T2Retrieval", "du": "DuRetrieval"}
    run(**{name: {"stage": "slices", "task": task, "data_dir": mirror} for name, task in tasks.items()})
    found = {name: read_json(Path("run", name, "results.json")) for name in tasks}
    assert {(one["split"], *one["systems"]) for one in found.values()} == {("dev", "bm25")}
    whole = {name: one["slices"][0]["scores"]["bm25"]["value"]["value"] for name, one in found.items()}
    assert whole["t2"] > whole["du"], "in T2Retrieval passage 5 does not stand before the answer to query 5"


@pytest.mark.parametrize(
    ("stage", "settings", "message"),
    [
        ("compare", {"runs": []}, "runs is empty; name at least one evaluation"),
        ("compare", {"runs": ["tiny"]}, "tiny: not a finished run"),
        ("slices", {}, "one set is measured, and none is named"),
        ("slices", {"data": "tiny", "baseline": "none"}, "nothing to measure; name a model"),
        ("slices", {"data": "tiny", "models": {"bm25": "m"}}, "bm25 is the name of another system"),
        ("slices", {"data": "tiny", "split": "dev"}, "no split 'dev'; there are: test"),
        ("slices", {"task": "T2Retrieval", "data_dir": "tiny"}, "T2Retrieval"),
        ("curves", {"model": "org/m"}, "one set is measured, and none is named"),
        ("curves", {"model": "org/m", "data": "tiny", "split": "dev"}, "no split 'dev'; there are: test"),
        ("curves", {"model": "org/m", "data": "tiny", "dimensions": [4]}, "dimensions 4 is too short"),
        ("curves", {"model": "org/m", "task": "all"}, "one set is measured, and all are 8"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_what_cannot_be_measured_is_refused(folder, stage, settings, message):
    with pytest.raises(InputError) as refused:
        run(**{stage: settings})
    assert message in str(refused.value)
    assert str(refused.value).startswith(f"recipe.yaml: {stage}")
    assert not Path("run", stage).exists()
