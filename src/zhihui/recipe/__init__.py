"""Recipes: a whole run as a YAML file, an ordered list of stages with their settings.

    about: what this run is for, in a line
    stages:
      start:                      # a name of one's own
        stage: build              # what is done; left out, the name says it
        data: $starter
      mine:
        data: $starter
        model: $start
        miners: [bm25:2-50:2, dense:2-50:2]
      train:
        data: $mine
        model: $start
        epochs: 3

- `$mine` is what the earlier stage `mine` gives: its examples, its model, ... If that is a folder, `$mine/name` is
  a file in it.
- `$starter` is the Chinese retrieval set that is shipped; `$engine/NAME` is a file that is shipped for the data engine:
  passages.jsonl, documents.jsonl, and teacher.jsonl, a recording.
- Every other path is one on this machine, relative to the working directory, as on the command line; a model may be a
  hub id too.

A recipe may have an `ablation`: a list of variants, each the baseline with some settings changed, laid out as stages
and compared (`zhihui.recipe.ablation`).

Settings are those of the configs that the stages are made of (`zhihui.recipe.stages`), with their defaults. A recipe is
checked whole before anything starts. Each stage is a folder of the run's, made by `zhihui.runs.run_stage`.
"""

from __future__ import annotations

from zhihui.recipe.plan import Plan, State, make_plan
from zhihui.recipe.reading import Recipe, Step, read_recipe
from zhihui.recipe.running import Outcome, run_recipe

__all__ = ["Outcome", "Plan", "Recipe", "State", "Step", "make_plan", "read_recipe", "run_recipe"]
