"""`zhihui run`: the starter recipe from end to end at a small size, and how a run shows itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

import zhihui as package
from zhihui import progress
from zhihui.records import Passage, RetrievalSet, write_beir

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

RECIPES = Path(__file__).parents[2] / "recipes"
SUBJECTS = ["红茶", "绿茶", "自行车", "电动车", "小猫", "小狗", "雨伞", "雨靴", "番茄", "土豆", "铁锅", "砂锅"]
NEEDS = {"怎么清洗": "用温水和软布擦洗，再晾干", "放在哪里好": "放在干燥阴凉的地方"}


@pytest.fixture(scope="module")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BEIR folder of 24 passages with the splits train, dev and test."""
    corpus, queries = {}, {}
    for i, subject in enumerate(SUBJECTS):
        for j, (need, answer) in enumerate(NEEDS.items()):
            corpus[f"p{i}-{j}"] = Passage(f"{subject}，{answer}。")
            queries[f"p{i}-{j}"] = f"{subject}{need}"
    judged = {key: {key: 1} for key in queries}
    rows = list(judged.items())
    qrels = {"train": dict(rows[:12]), "dev": dict(rows[12:16]), "test": dict(rows[16:])}
    folder = tmp_path_factory.mktemp("sets") / "small"
    write_beir(folder, RetrievalSet(name="small", corpus=corpus, queries=queries, qrels=qrels))
    return folder


@pytest.fixture(autouse=True)
def bars_as_before():
    yield
    progress.quiet(False)


def small(data: Path) -> list[str]:
    """The words that make the starter recipe small."""
    words = [
        *(f"{setting}={data}" for setting in ("start.data", "mine.data", "train.dev")),
        f"evaluate.sets=[{data}]",
        "start.shape=tiny",
        "mine.miners=[bm25:2-9:1, dense:2-9:1]",
        "train.batches.size=4",
        "train.save_steps=1",
        "train.keep=last",
    ]
    return [each for word in words for each in ("--set", word)]


def test_the_starter_recipe_runs_to_its_end_and_a_cut_run_ends_the_same(zhihui, small_set, tmp_path, monkeypatch):
    out = tmp_path / "run"
    whole = zhihui("run", RECIPES / "starter.yaml", "--out", out, *small(small_set))
    assert whole.status == 0, whole.err
    assert "5/5 export" in whole.err
    for shown in ("start", "evaluate", "12 examples", "24 passages", "nDCG@10", "before", "after", "hybrid of after"):
        assert shown in whole.out, shown
    results = json.loads((out / "evaluate" / "results.json").read_text())
    assert set(results) == {"bm25", "before", "after", "hybrid of before", "hybrid of after"}
    systems = ("bm25", "before", "after", "hybrid of before", "hybrid of after")
    places = [whole.out.index(f"│ {name} ") for name in systems]
    assert places == sorted(places), "shown in the order of the recipe"
    before, after = (out / stage / "model" / "model.safetensors" for stage in ("start", "train"))
    assert before.read_bytes() != after.read_bytes(), "it was trained"
    assert str(package.load(out / "export" / "model", device="cpu").dtype) == "torch.bfloat16"

    # A second run, cut in training after its first checkpoint and in evaluation, ends with the same bytes.
    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    again = tmp_path / "again"
    arguments = ("run", RECIPES / "starter.yaml", "--out", again, *small(small_set), "--json")
    for place, stage in (
        ("zhihui.training.stage.export_checked", "train"),
        ("zhihui.evaluation.stage.measure_set", "evaluate"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(place, cut)
            assert zhihui(*arguments).status == 130
        plan = json.loads(zhihui(*arguments, "--dry-run").out)
        assert {each["name"]: each["state"] for each in plan["stages"]}[stage] == "goes on"
    done = zhihui(*arguments)
    assert done.status == 0, done.err
    assert done.err == ""
    report = json.loads(done.out)
    assert {one["name"]: one["state"] for one in report["stages"]} == {
        "start": "reused",
        "mine": "reused",
        "train": "reused",
        "evaluate": "done",
        "export": "done",
    }
    for name in ("mine/train.jsonl", "train/model/model.safetensors", "evaluate/results.json"):
        assert (again / name).read_bytes() == (out / name).read_bytes(), name

    # The recipe of a run goes on with that very run.
    more = json.loads(zhihui("run", again / "recipe.yaml", "--json").out)
    assert more["out"] == str(again)
    assert {one["state"] for one in more["stages"]} == {"reused"}


@pytest.mark.slow
def test_the_starter_recipe_as_it_is_shipped_ends_with_a_hybrid_above_bm25(zhihui, tmp_path):
    done = zhihui("run", RECIPES / "starter.yaml", "--out", tmp_path / "run")
    assert done.status == 0, done.err
    results = json.loads((tmp_path / "run" / "evaluate" / "results.json").read_text())
    found = {name: metrics["ndcg_at_10"]["value"] for name, metrics in results.items()}
    assert found["hybrid of after"] > found["bm25"]


def test_a_dry_run_shows_every_setting_and_what_is_not_there_and_writes_nothing(zhihui, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = zhihui("run", RECIPES / "zhihui-7b.yaml", "--dry-run")
    assert shown.status == 0, shown.err
    assert "\nstart (export): to do\n" in shown.out
    assert "\nmine: missing (data/train)\n" in shown.out
    assert "\n    hardness: importance\n" in shown.out
    assert "\n  weight_decay: 0.01\n" in shown.out, "defaults are shown too"
    missing = shown.out.split("not there yet:\n")[1].splitlines()
    assert missing == ["  mine: data: data/train", "  train: dev: data/dev", "  evaluate: sets.0: data/c-mteb"]
    assert list(tmp_path.iterdir()) == []

    as_json = json.loads(zhihui("run", RECIPES / "zhihui-7b.yaml", "--dry-run", "--json").out)
    assert as_json["out"] == "runs/zhihui-7b"
    assert as_json["missing"] == [line.strip() for line in missing]
    train = as_json["stages"][2]
    assert (train["name"], train["state"], train["missing"]) == ("train", "missing", {"dev": "data/dev"})
    assert train["settings"]["batches"]["negatives"] == 7

    refused = zhihui("run", RECIPES / "zhihui-7b.yaml")
    assert refused.status == 2
    assert "mine: data is data/train: no such file or folder" in refused.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "mine.sede=1"], "starter.yaml: mine: unknown setting sede; did you mean seed?"),
        (["--set", "mien.seed=1"], "no stage mien; did you mean mine?"),
        (
            ["--set", "train.model=$mine"],
            "starter.yaml: train: model is $mine, which gives examples; a model is wanted",
        ),
        (["--until", "trian"], "starter.yaml: no stage trian; did you mean train?"),
    ],
)
def test_mistakes_are_one_line_with_status_2(zhihui, tmp_path, words, message):
    done = zhihui("run", RECIPES / "starter.yaml", "--out", tmp_path / "run", *words)
    assert done.status == 2
    assert message in done.err
    assert done.err.count("\n") == 1
    assert done.out == ""
    assert not (tmp_path / "run").exists()


def test_an_absent_recipe_is_named(zhihui, tmp_path):
    done = zhihui("run", tmp_path / "none.yaml")
    assert (done.status, done.err) == (2, f"zhihui: {tmp_path}/none.yaml: no such file\n")


def test_a_change_is_shown_by_a_dry_run_and_needs_overwrite(zhihui, small_set, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stages = {"mine": {"data": str(small_set), "miners": ["random:1"]}, "more": {"stage": "convert", "data": "$mine"}}
    Path("two.yaml").write_text(yaml.safe_dump({"stages": stages}))
    assert zhihui("run", "two.yaml").status == 0
    assert Path("runs/two/more/examples.jsonl").is_file()
    shown = zhihui("run", "two.yaml", "--set", "mine.seed=1", "--dry-run").out
    assert "\nmine: changed (seed)\n" in shown
    assert "\nmore (convert): follows\n" in shown
    refused = zhihui("run", "two.yaml", "--set", "mine.seed=1")
    assert refused.status == 2
    assert "mine is done with other seed; pass --overwrite to do it and more after it anew" in refused.err
    done = zhihui("run", "two.yaml", "--set", "mine.seed=1", "--overwrite", "--json")
    assert [one["state"] for one in json.loads(done.out)["stages"]] == ["done", "done"]


@pytest.mark.parametrize(
    ("words", "world", "message"),
    [
        (["train.shard=true"], "1", "train: shard needs several processes"),
        (["train.batches.size=9"], "2", "train: batches.size 9 is not a multiple of the 2 processes; use 8 or 10"),
        (["train.data={data}", "train.batches.size=13"], "1", "train: data set small: its 12 rows give no batch of 13"),
    ],
    ids=["shard", "world", "rows"],
)
def test_what_training_cannot_do_is_refused_before_an_earlier_stage_runs(
    zhihui, small_set, tmp_path, monkeypatch, words, world, message
):
    monkeypatch.setenv("WORLD_SIZE", world)
    out = tmp_path / "run"
    given = [each for word in words for each in ("--set", word.format(data=small_set))]
    outcome = zhihui("run", RECIPES / "starter.yaml", "--out", out, *small(small_set), *given)
    assert outcome.status == 2
    assert message in outcome.err
    assert not out.exists()
