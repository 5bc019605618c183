"""Indexing in a recipe: a stage whose folder holds an index."""

from __future__ import annotations

import yaml

from zhihui.recipe import make_plan, read_recipe, run_recipe
from zhihui.recipe.plan import State
from zhihui.runs import read_manifest
from zhihui.search import open_index


def test_a_recipe_indexes_what_it_cut(docs, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stages = {
        "chunk": {"data": "docs"},
        "index": {"data": "$chunk", "model": str(model), "store_dtype": "float16", "chunk": {"size": 64}},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"stages": stages}))
    recipe = read_recipe(tmp_path / "recipe.yaml")
    run_recipe(recipe, tmp_path / "run")
    manifest = read_manifest(next((tmp_path / "run").glob("*index*")))
    assert {name: manifest.counts[name] for name in ("passages", "embedded", "dimension", "backend", "rejected")} == {
        "passages": 5,
        "embedded": 5,
        "dimension": 64,
        "backend": "flat",
        "rejected": {},
    }
    with open_index(next((tmp_path / "run").glob("*index*/index"))) as index:
        assert index.description.config["chunk"]["size"] == 64
        # The passages are those that were cut: each with the file it comes from, not the corpus between.
        assert [hit.source for hit in index.search("押金", mode="bm25")] == ["rent.md", "rent.md"]
    assert {each.state for each in make_plan(recipe, tmp_path / "run").stages} == {State.DONE}
