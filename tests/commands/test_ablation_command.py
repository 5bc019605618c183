"""`zhihui eval ablation`: one line for what it cannot use, and the table of what is finished."""

from __future__ import annotations

import json

import yaml

from zhihui.recipe import read_recipe
from zhihui.recipe.plan import RECIPE
from zhihui.records import Passage, RetrievalSet, write_beir


def test_what_is_no_run_of_an_ablation_is_refused(zhihui, tmp_path):
    gone = zhihui("eval", "ablation", tmp_path)
    assert (gone.status, gone.err) == (
        2,
        f"zhihui: {tmp_path}: holds no run of a recipe; give the --out of zhihui run\n",
    )
    stages = {"sets": {"stage": "sample", "sets": ["$starter"]}}
    (tmp_path / RECIPE).write_text(yaml.safe_dump({"stages": stages}))
    other = zhihui("eval", "ablation", tmp_path)
    assert (other.status, other.err) == (
        2,
        f"zhihui: {tmp_path}: its recipe has no ablation; give the run of one that has\n",
    )
    both = zhihui("eval", "ablation", tmp_path, "--json", "--markdown")
    assert both.status == 2
    assert "exclude each other" in both.err


def test_a_run_shows_the_comparison_and_so_does_the_command(zhihui, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    corpus = {f"p{number}": Passage(f"第{number}号展品的说明") for number in range(12)}
    queries = {f"q{number}": f"第{number}号展品" for number in range(12)}
    judged = {f"q{number}": {f"p{number}": 1} for number in range(12)}
    write_beir(tmp_path / "set", RetrievalSet(name="set", corpus=corpus, queries=queries, qrels={"test": judged}))
    recipe = {
        "stages": {"evaluate": {"sets": ["set"], "baseline": "none", "random": True}},
        "ablation": {
            "seeds": [0],
            "seeded": [],
            "points": {"system": {"bm25": {"evaluate.baseline": "bm25", "evaluate.random": False}}},
        },
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    assert [step.name for step in read_recipe(tmp_path / "r.yaml").steps][-1] == "ablation"
    ran = zhihui("run", "r.yaml", "--out", "run")
    assert ran.status == 0
    assert "| system | bm25 |" in ran.out
    assert "report: run/ablation/report.html" in ran.out
    shown = zhihui("eval", "ablation", "run", "--markdown")
    assert (shown.status, shown.out) == (0, (tmp_path / "run/ablation/table.md").read_text(encoding="utf-8"))
    found = json.loads(zhihui("eval", "ablation", "run", "--json", "--out", "so-far").out)
    assert found["out"] == "so-far"
    assert found["effects"][0]["verdict"] == "better"
