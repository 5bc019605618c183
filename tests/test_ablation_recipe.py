"""A recipe's ablation: what is laid out, what is shared, what is refused, and a run from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from zhihui.errors import InputError
from zhihui.recipe import read_recipe, run_recipe
from zhihui.recipe.ablation import lay_out
from zhihui.records import Passage, RetrievalSet, write_beir
from zhihui.runs import read_json, read_manifest

ROOT = Path(__file__).parents[1]
FILE = Path("r.yaml")
STAGES: dict[str, Any] = {
    "rows": {"stage": "gather", "data": ["rows.jsonl"]},
    "few": {"stage": "gather", "data": ["$rows"], "rows": 9},
    "start": {"stage": "build", "data": "$rows", "shape": "tiny"},
    "mine": {"data": "$rows", "miners": ["random:2"]},
    "train": {"data": "$mine", "model": "$start", "batches": {"size": 8}},
    "evaluate": {"models": {"model": "$train"}, "sets": ["set"], "baseline": "none"},
    "look": {"stage": "stats", "data": "$few"},
}


def laid(points: dict[str, Any], stages: dict[str, Any] = STAGES, **settings: Any) -> dict[str, Any]:
    given = {"seeds": [0, 1], "seeded": ["start", "train"], "points": points, **settings}
    return lay_out(stages, given, file=FILE)


# --------------------------------------------------------------------------- what is laid out


def test_each_variant_and_seed_gets_what_differs_and_shares_the_rest():
    found = laid({"batch": {16: {"train.batches.size": 16}}})
    assert list(found) == [
        *("rows", "mine", "start-s0", "train-s0", "evaluate-s0", "start-s1", "train-s1", "evaluate-s1"),
        *("train-batch-16-s0", "evaluate-batch-16-s0", "train-batch-16-s1", "evaluate-batch-16-s1"),
        *("few", "look", "ablation"),
    ]
    assert found["train-batch-16-s1"] == {
        **{"stage": "train", "data": "$mine", "model": "$start-s1"},
        **{"batches": {"size": 16}, "seed": 1},
    }
    assert found["evaluate-batch-16-s1"]["models"] == {"model": "$train-batch-16-s1"}
    assert found["ablation"] == {
        "stage": "ablate",
        "baseline": ["$evaluate-s0", "$evaluate-s1"],
        "variants": {"batch/16": ["$evaluate-batch-16-s0", "$evaluate-batch-16-s1"]},
        "changes": {"batch/16": ["train.batches.size: 16"]},
    }


def test_a_change_early_on_is_followed_by_all_that_depends_on_it():
    found = laid({"attention": {"causal": {"start.attention": "causal"}}}, seeds=[3])
    varied = [name for name in found if "causal" in name]
    assert varied == ["start-attention-causal-s3", "train-attention-causal-s3", "evaluate-attention-causal-s3"]
    assert found["train-attention-causal-s3"]["model"] == "$start-attention-causal-s3"
    assert found["train-attention-causal-s3"]["data"] == "$mine"


def test_the_same_settings_are_trained_once_however_they_are_written():
    points = {
        "size": {"16": {"train.batches.size": 16}},
        "again": {"16": {"train.batches.size": 16, "train.epochs": 1, "mine.near_duplicates": 0.9}},
    }
    found = laid(points)
    assert found["ablation"]["variants"]["again/16"] == found["ablation"]["variants"]["size/16"]
    assert not [name for name in found if "again" in name]


def test_a_stage_that_equals_one_of_the_baseline_s_is_that_one():
    stages = {**STAGES, "mine": {**STAGES["mine"], "model": "$scout"}, "scout": STAGES["start"]}
    stages["mine"]["miners"] = ["dense:1-5:2"]
    found = laid({"training": {"untrained": {"evaluate.models.model": "$start"}}}, stages)
    assert [name for name in found if name.startswith(("start", "scout"))] == ["scout", "start-s1"]
    assert found["train-s0"]["model"] == "$scout"
    assert found["evaluate-training-untrained-s0"]["models"] == {"model": "$scout"}


def test_a_change_can_refer_to_another_stage():
    found = laid({"mining": {"without": {"train.data": "$few"}}}, seeds=[0])
    assert found["train-mining-without-s0"]["data"] == "$few"
    assert list(found).index("few") < list(found).index("train-mining-without-s0")
    found = laid({"training": {"untrained": {"evaluate.models.model": "$start"}}}, seeds=[0])
    assert found["evaluate-training-untrained-s0"]["models"] == {"model": "$start-s0"}
    assert not [name for name in found if name.startswith("train-training")]


def test_words_go_over_the_ablation_too(tmp_path):
    ablation = {"points": {"a": {"b": {"train.epochs": 2}}}}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({"stages": STAGES, "ablation": ablation}, sort_keys=False))
    found = read_recipe(tmp_path / "r.yaml", ["ablation.seeds=[7]", "train.epochs=3"])
    assert found.step("train-a-b-s7").settings["epochs"] == 2
    assert found.step("train-s7").settings["epochs"] == 3
    with pytest.raises(InputError, match="ablation: unknown setting sedes; did you mean seeds"):
        read_recipe(tmp_path / "r.yaml", ["ablation.sedes=[7]"])


# --------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "r.yaml: ablation is []; it is a group of settings"),
        ({"points": {"a": {"b": {"train.batches": 3}}}}, "train-a-b-s0: batches is 3; it is a group of settings"),
        ({}, "r.yaml: ablation: points is empty; name at least one, with its variants"),
        ({"point": {}}, "r.yaml: ablation: unknown setting point; did you mean points?"),
        ({"points": {"a": {}}}, "ablation: points.a holds no variant"),
        ({"points": {"a": {"b": {}}}}, "points.a.b changes nothing; write STAGE.SETTING: VALUE"),
        ({"points": {"a": {"b c": {"train.epochs": 2}}}}, "points.a.b c: 'b c' cannot be part of a folder's name"),
        ({"points": {"a": {"b": {"train": 2}}}}, "ablation: a-b: train is no setting; write STAGE.SETTING"),
        ({"points": {"a": {"b": {"trian.epochs": 2}}}}, "trian.epochs: no stage trian; did you mean train?"),
        (
            {"points": {"a": {"b": {"train.epocs": 2}}}},
            "r.yaml: train-a-b-s0: unknown setting epocs; did you mean epochs?",
        ),
        ({"points": {"a": {"b": {"train.loss.hardnes": "none"}}}}, "did you mean loss.hardness?"),
        ({"points": {"a": {"b": {"train.epochs": "many"}}}}, "train-a-b-s0: epochs is 'many'"),
        ({"points": {"a": {"b": {"train.epochs": 0}}}}, "train-a-b-s0: epochs 0 is too few; use at least 1"),
        ({"points": {"a": {"b": {"train.epochs": 1}}}}, "a.b leaves evaluate as it is; change what it depends on"),
        ({"points": {"a": {"b": {"look.samples": 3}}}}, "a.b leaves evaluate as it is"),
        ({"points": {"a": {"b": {"train.epochs": 2}}}, "seeds": []}, "seeds [] must be at least one, none twice"),
        ({"points": {"a": {"b": {"train.epochs": 2}}}, "seeds": [1, 1]}, "seeds [1, 1] must be at least one"),
        ({"points": {"a": {"b": {"train.epochs": 2}}}, "of": "evalute"}, "no stage evalute; did you mean evaluate?"),
        ({"points": {"a": {"b": {"train.epochs": 2}}}, "seeded": ["evaluate"]}, "evaluate-s0: unknown setting seed"),
        ({"points": {"a": {"b": {"mine.data": "$train"}}}}, "ablation: train waits for itself; break the circle"),
    ],
)
def test_a_faulty_ablation_is_refused_in_one_line(given, message):
    with pytest.raises(InputError) as refused:
        lay_out(STAGES, given, file=FILE)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_names_that_would_meet_are_refused():
    point = {"a": {"b": {"train.epochs": 2}}}
    with pytest.raises(InputError, match="train-a-b-s0 is the name of a variant's stage too; rename the stage"):
        laid(point, {**STAGES, "train-a-b-s0": STAGES["look"]})
    two = {"a": {"b-c": {"train.epochs": 2}}, "a-b": {"c": {"train.epochs": 3}}}
    with pytest.raises(InputError, match="two stages would be called train-a-b-c-s0; rename a variant"):
        laid(two)
    with pytest.raises(InputError, match=r"r.yaml: train is 3; it is a group of settings"):
        laid(point, {**STAGES, "train": 3})
    with pytest.raises(InputError, match="a stage has this name, which is that of the comparison"):
        laid(point, {**STAGES, "ablation": STAGES["look"]})


def test_a_reference_to_what_does_not_give_it_is_refused_where_stages_are_read(tmp_path):
    ablation = {"seeds": [0], "points": {"a": {"b": {"train.model": "$mine"}}}}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({"stages": STAGES, "ablation": ablation}, sort_keys=False))
    with pytest.raises(InputError, match="train-a-b-s0: model is \\$mine, which gives examples; a model is wanted"):
        read_recipe(tmp_path / "r.yaml")


# --------------------------------------------------------------------------- what is run

MEASURED = """
stages:
  evaluate: {sets: [set], baseline: none, random: true}
ablation:
  seeds: [0]
  seeded: []
  points:
    system:
      bm25: {evaluate.baseline: bm25, evaluate.random: false}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with a set and a recipe that compares chance with BM25: it trains nothing."""
    things = ["红茶", "绿茶", "自行车", "电动车", "小猫", "小狗", "雨伞", "雨靴", "番茄", "土豆", "课本", "铅笔"]
    many = [f"{thing}的{part}" for thing in things for part in ("保养", "价格")]
    corpus = {f"p{number}": Passage(f"{text}说明") for number, text in enumerate(many)}
    queries = {f"q{number}": f"{text}怎么样" for number, text in enumerate(many)}
    judged = {f"q{number}": {f"p{number}": 1} for number in range(len(many))}
    write_beir(tmp_path / "set", RetrievalSet(name="set", corpus=corpus, queries=queries, qrels={"test": judged}))
    (tmp_path / "r.yaml").write_text(MEASURED)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_ends_with_the_comparison_and_goes_on_with_new_variants(folder):
    run_recipe(read_recipe(FILE), Path("run"), until="evaluate")
    assert not Path("run/ablation").exists()
    done = {one.name: one.state for one in run_recipe(read_recipe(FILE), Path("run"))}
    assert done == {"evaluate": "reused", "evaluate-system-bm25": "done", "ablation": "done"}
    (effect,) = read_json(Path("run/ablation/results.json"))["effects"]
    assert (effect["point"], effect["variant"], effect["verdict"]) == ("system", "bm25", "better")
    assert effect["average"]["value"] > 0.3
    again = {one.name: one.state for one in run_recipe(read_recipe(FILE), Path("run"))}
    assert set(again.values()) == {"reused"}
    whole = read_recipe(Path("run/recipe.yaml"))
    assert [step.name for step in whole.steps] == list(done), "what is written can be run as it is"


def test_what_is_finished_is_compared_while_the_rest_is_not(folder, monkeypatch, capsys):
    from zhihui.commands.ablation import command

    more = MEASURED + "      both: {evaluate.baseline: bm25, evaluate.random: false, evaluate.instruction: 找}\n"
    FILE.write_text(more)
    run_recipe(read_recipe(FILE), Path("run"), until="evaluate")
    with pytest.raises(InputError, match="no variant is measured yet"):
        command(Path("run"), markdown=True)
    run_recipe(read_recipe(FILE), Path("run"), until="evaluate-system-bm25")
    command(Path("run"), markdown=True)
    shown = capsys.readouterr().out.splitlines()
    assert shown[3].startswith("| system | bm25 | ")
    assert shown[-1] == "Not finished: system/both."
    run_recipe(read_recipe(FILE), Path("run"))
    command(Path("run"), markdown=True)
    assert "Not finished" not in capsys.readouterr().out
    with pytest.raises(InputError, match="set: holds no run of a recipe"):
        command(Path("set"))


@pytest.mark.slow
def test_the_tiny_ablation_runs(tmp_path):
    done = run_recipe(read_recipe(ROOT / "recipes" / "ablation-tiny.yaml"), tmp_path / "run", device="cpu")
    assert done[-1].counts == {"variants": 3, "unfinished": 0, "seeds": 2, "sets": 1, "queries": 20}
    causal = read_manifest(tmp_path / "run" / "start-attention-causal-s0")
    assert causal is not None
    assert causal.config["build"]["attention"] == "causal"


@pytest.mark.parametrize("name", ["ablation", "ablation-teacher", "ablation-tiny"])
def test_the_recipes_can_be_read(name):
    recipe = read_recipe(ROOT / "recipes" / f"{name}.yaml")
    ablate = recipe.steps[-1].settings
    counts = {len(runs) for runs in [ablate["baseline"], *ablate["variants"].values()]}
    assert counts == {2 if name == "ablation-tiny" else 3}
    assert len(ablate["variants"]) >= 3
