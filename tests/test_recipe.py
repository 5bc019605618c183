"""Recipes: what is refused before anything starts, what is planned, and what a run does and leaves alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from zhihui.errors import InputError
from zhihui.recipe import State, make_plan, read_recipe, run_recipe
from zhihui.recipe.plan import RECIPE, RECORD
from zhihui.recipe.stages import STAGES, mine, stage_named
from zhihui.records import Passage, RetrievalSet, write_beir, write_examples
from zhihui.records.shipped import STARTER
from zhihui.runs import read_manifest

ROOT = Path(__file__).parents[1]
SUBJECTS = ["红茶", "绿茶", "自行车", "电动车", "小猫", "小狗", "雨伞", "雨靴", "番茄", "土豆"]
SMALL = """
about: two cheap stages
stages:
  rows:
    stage: convert
    data: rows.jsonl
  mine:
    data: $rows
    miners: [random:2]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with rows.jsonl, set/ and recipe.yaml."""
    corpus = {f"p{i}": Passage(f"{subject}要放在干燥阴凉的地方。") for i, subject in enumerate(SUBJECTS)}
    queries = {f"q{i}": f"{subject}放在哪里好" for i, subject in enumerate(SUBJECTS)}
    judged = {f"q{i}": {f"p{i}": 1} for i in range(len(SUBJECTS))}
    data = RetrievalSet(name="set", corpus=corpus, queries=queries, qrels={"train": judged, "test": judged})
    write_examples(tmp_path / "rows.jsonl", data.examples("train"))
    write_beir(tmp_path / "set", data)
    (tmp_path / "small.yaml").write_text(SMALL)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str, out: str = "run", text: str | None = None, **options: object):
    path = Path("small.yaml")
    if text is not None:
        path.write_text(text)
    return run_recipe(read_recipe(path, words), Path(out), **options)  # type: ignore[arg-type]


def states(*words: str, out: str = "run") -> dict[str, State]:
    plan = make_plan(read_recipe(Path("small.yaml"), words), Path(out))
    return {each.step.name: each.state for each in plan.stages}


# --------------------------------------------------------------------------- reading


def recipe(**stages: object) -> str:
    return yaml.safe_dump({"stages": stages}, sort_keys=False)


MINE = {"data": "rows.jsonl"}
TRAIN = {"data": "rows.jsonl", "model": "org/model"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages: [mine]", "small.yaml: stages holds none; write NAME: and its settings below"),
        ("stages: {}", "stages holds none"),
        ("stage: {}", "small.yaml: unknown key stage; did you mean stages?"),
        ("about: [1]\nstages: {mine: {}}", "about is [1]; write a line of text"),
        ("stages:\n  mine: {data: a}\n  mine: {data: b}\n", "line 3: mine is given twice; keep one"),
        ("stages:\n  mine: {data: a, data: b}\n", "line 2: data is given twice"),
        (recipe(mien=MINE), "small.yaml: mien: no stage is of this name; did you mean mine?"),
        (recipe(first={"stage": "trian"}), "first: stage is 'trian', which is unknown; did you mean train?"),
        (recipe(starter={"stage": "mine"}), "starter: this name is what is shipped; use another"),
        ("stages: {a/b: {stage: mine}}", "a/b: this name cannot be a folder's name; use another"),
        (recipe(mine=3), "small.yaml: mine is 3; it is a group of settings"),
        (recipe(mine={}), "small.yaml: mine: data is missing; it has no default, give one"),
        (recipe(mine={**MINE, "minres": []}), "mine: unknown setting minres; did you mean miners?"),
        (recipe(mine={**MINE, "seed": "many"}), "mine: seed is 'many'; input should be a valid integer"),
        (recipe(mine={**MINE, "miners": ["bm25:5-1:2"]}), "mine: miners.0: bm25: ranks 5-1; count them from 1"),
        (recipe(mine={**MINE, "miners": [{"method": "random", "cuont": 2}]}), "miners.0.cuont; did you mean miners.0."),
        (recipe(mine={**MINE, "miners": ["dense:1-9:2"]}), "mine: dense mining needs a model"),
        (recipe(train={**TRAIN, "epochs": 0}), "train: epochs 0 is too few; use at least 1"),
        (recipe(train={**TRAIN, "loss": {"hardnes": "none"}}), "did you mean loss.hardness?"),
        (recipe(train={**TRAIN, "loss": {"temperature": 2}}), "train: loss: temperature 2.0 is out of range"),
        (recipe(build={"data": "set", "shape": "huge"}), "build: shape 'huge' is unknown; choose "),
        (recipe(evaluate={"sets": []}), "evaluate: sets is empty; name at least one"),
        (recipe(evaluate={"sets": ["set"], "baseline": "none"}), "nothing to measure; name a model"),
        (recipe(evaluate={"sets": ["set"], "models": {"bm25": "m"}}), "bm25 is the name of another system"),
        # references
        (recipe(mine={"data": "$rows"}), "mine: data is $rows, and there is no stage rows; there are: mine, starter"),
        (recipe(mine={"data": "$startr"}), "there is no stage startr; did you mean $starter?"),
        (recipe(mine={"data": "$mine"}), "data is $mine, which is the stage itself; refer to an earlier one"),
        (
            recipe(mine={"data": "$rows"}, rows={"stage": "convert", "data": "a"}),
            "mine: data is $rows, which comes later; move rows before mine",
        ),
        (
            recipe(a={"stage": "convert", "data": "$b"}, b={"stage": "convert", "data": "$a"}),
            "a: data is $b, and b waits for a in turn; break the circle",
        ),
        (
            recipe(mine=MINE, train={**TRAIN, "model": "$mine"}),
            "train: model is $mine, which gives examples; a model is wanted here",
        ),
        (
            recipe(mine=MINE, evaluate={"sets": ["set"], "models": {"after": "$mine"}}),
            "evaluate: models.after is $mine, which gives examples",
        ),
        (recipe(mine={"data": "${rows}"}), "data is '${rows}'; write a reference as $stage, or $stage/file"),
        (recipe(mine={**MINE, "split": "$mine"}), "split is $mine, and is no input; only these refer to stages: data"),
    ],
)
def test_a_faulty_recipe_is_refused_in_one_line(folder, text, message):
    Path("small.yaml").write_text(text)
    with pytest.raises(InputError) as refused:
        read_recipe(Path("small.yaml"))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith("small.yaml: ")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("epochs=3", "names no stage; write STAGE.SETTING=VALUE, as in train.epochs=3"),
        ("mien.seed=3", "setting 'mien.seed=3': no stage mien; did you mean mine?"),
        ("mine.sede=3", "mine: unknown setting sede; did you mean seed?"),
        ("mine.seed", "write KEY=VALUE"),
        ("mine.seed.more=3", "mine: seed is {'more': 3}; input should be a valid integer"),
    ],
)
def test_faulty_words_are_refused(folder, word, message):
    with pytest.raises(InputError) as refused:
        read_recipe(Path("small.yaml"), [word])
    assert message in str(refused.value)


def test_words_go_over_the_file(folder):
    found = read_recipe(Path("small.yaml"), ["mine.seed=7", "mine.miners=[random:3]"])
    assert found.step("mine").settings["seed"] == 7
    assert [miner["count"] for miner in found.step("mine").settings["miners"]] == [3]
    assert read_recipe(Path("small.yaml")).step("mine").settings["seed"] == 0


def test_every_stage_says_what_it_gives_and_shares_no_setting_with_its_config():
    for name in STAGES:
        kind = stage_named(name)
        assert kind.gives[0] in ("passages", "examples", "set", "sets", "model", "vectors", "index", "results")
        parents = [base for base in kind.__mro__[1:] if hasattr(base, "__dataclass_fields__")]
        own = set(kind.__annotations__)
        assert own, f"{name} has no input"
        for parent in parents:
            assert not own & set(parent.__dataclass_fields__), f"{name} hides a setting of {parent.__name__}"


# --------------------------------------------------------------------------- before it starts


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rows.data=absent.jsonl"], "small.yaml: rows: data is absent.jsonl: no such file or folder; paths start at"),
        (["mine.model=./absent", "mine.miners=[dense:1-5:2]"], "mine: model is ./absent: no such model folder"),
        (["mine.data=set", "mine.split=valid"], "mine: set: no split 'valid'; there are: test, train"),
    ],
)
def test_what_is_not_there_is_refused_before_anything_starts(folder, words, message):
    with pytest.raises(InputError) as refused:
        run(*words)
    assert message in str(refused.value)
    assert not Path("run").exists()


def test_a_missing_module_is_named_before_anything_starts(folder, monkeypatch):
    monkeypatch.setattr(mine.Stage, "needs", (("absent_module", "mine"),))
    with pytest.raises(InputError, match=r"small.yaml: mine needs absent_module.*pip install 'zhihui\[mine\]'"):
        run()
    assert not Path("run").exists()


def test_a_folder_of_something_else_is_refused(folder):
    with pytest.raises(InputError, match="set: exists and holds no run of a recipe; choose another folder"):
        run(out="set")


# --------------------------------------------------------------------------- running


def test_a_run_leaves_stages_the_whole_recipe_and_a_record(folder):
    outcomes = run()
    assert [(one.name, one.stage, one.state) for one in outcomes] == [
        ("rows", "convert", "done"),
        ("mine", "mine", "done"),
    ]
    assert outcomes[1].counts["examples"] == len(SUBJECTS)
    rows = [json.loads(line) for line in Path("run/mine/train.jsonl").read_text().splitlines()]
    assert all(len(row["neg"]) == 2 for row in rows)
    manifest = read_manifest(Path("run/mine"))
    assert manifest is not None
    assert manifest.stage == "mine"
    record = json.loads(Path("run", RECORD).read_text())
    assert {name: (done["counts"], done["seconds"]) for name, done in record.items()} == {
        one.name: (one.counts, one.seconds) for one in outcomes
    }
    whole = yaml.safe_load(Path("run", RECIPE).read_text())
    assert whole["about"] == "two cheap stages"
    assert whole["stages"]["mine"]["data"] == "$rows"
    assert whole["stages"]["mine"]["ratio"] is None, "defaults are written down too"


def test_the_written_recipe_is_the_same_run(folder):
    run("mine.seed=3")
    written = read_recipe(Path("run", RECIPE))
    assert {each.state for each in make_plan(written, Path("run")).stages} == {State.DONE}


def test_what_is_done_is_not_done_again(folder, monkeypatch):
    run()
    monkeypatch.setattr(mine, "mine_files", None)
    assert [one.state for one in run()] == ["reused", "reused"]


def test_a_run_that_was_cut_goes_on(folder, monkeypatch):
    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("zhihui.mining.stage.mine", cut)
        with pytest.raises(KeyboardInterrupt):
            run()
    assert states() == {"rows": State.DONE, "mine": State.GOES_ON}
    assert [one.state for one in run()] == ["reused", "done"]
    run(out="other")
    assert Path("run/mine/train.jsonl").read_bytes() == Path("other/mine/train.jsonl").read_bytes()


def test_cut_between_a_stage_and_its_record_it_finds_the_stage_done(folder):
    first = run()
    Path("run", RECORD).unlink()
    again = run()
    assert [one.seconds for one in again] == [one.seconds for one in first], "manifests of the first run"


def test_other_settings_are_refused_and_redone_with_what_follows(folder):
    run()
    before = Path("run/mine/train.jsonl").read_bytes()
    assert states("mine.seed=1") == {"rows": State.DONE, "mine": State.CHANGED}
    with pytest.raises(InputError, match=r"run: mine is done with other seed; pass --overwrite to do it anew, or"):
        run("mine.seed=1")
    assert states("rows.negatives=0") == {"rows": State.CHANGED, "mine": State.FOLLOWS}
    with pytest.raises(InputError, match=r"rows is done with other negatives; .* to do it and mine after it anew"):
        run("rows.negatives=0")
    assert Path("run/mine/train.jsonl").read_bytes() == before
    assert states() == {"rows": State.DONE, "mine": State.DONE}, "a refusal changes nothing"
    assert [one.state for one in run("mine.seed=1", overwrite=True)] == ["reused", "done"]
    assert Path("run/mine/train.jsonl").read_bytes() != before


def test_other_contents_are_a_change_and_another_name_is_none(folder):
    run()
    Path("rows.jsonl").rename("same.jsonl")
    assert states("rows.data=same.jsonl") == {"rows": State.DONE, "mine": State.DONE}
    lines = Path("same.jsonl").read_text().splitlines(keepends=True)
    Path("same.jsonl").write_text("".join(lines[:-1]))
    plan = make_plan(read_recipe(Path("small.yaml"), ["rows.data=same.jsonl"]), Path("run"))
    assert [(each.state, each.changes) for each in plan.stages] == [(State.CHANGED, ["data"]), (State.FOLLOWS, [])]
    outcomes = run("rows.data=same.jsonl", overwrite=True)
    assert outcomes[1].counts["examples"] == len(SUBJECTS) - 1


def test_what_waits_for_a_missing_input_is_missing_too(folder):
    plan = make_plan(read_recipe(Path("small.yaml"), ["rows.data=absent.jsonl"]), Path("run"))
    assert [each.state for each in plan.stages] == [State.MISSING, State.MISSING]
    assert plan.missing == ["rows: data: absent.jsonl"]


def test_until_stops_after_a_stage(folder):
    assert [one.state for one in run(until="rows")] == ["done", "not run"]
    assert not Path("run/mine").exists()
    with pytest.raises(InputError, match="no stage mien; did you mean mine"):
        run(until="mien")
    assert [one.state for one in run()] == ["reused", "done"]


def test_a_stage_that_finds_bad_input_is_named(folder):
    Path("rows.jsonl").write_text('{"query": "问", "pos": []}\n')
    with pytest.raises(InputError, match=r"^small.yaml: rows: rows.jsonl:1: .*pos"):
        run()


def test_a_file_within_what_is_given_is_found(folder):
    text = recipe(encode={"data": "$starter/corpus.jsonl", "model": "org/model", "role": "document"})
    Path("small.yaml").write_text(text)
    found = read_recipe(Path("small.yaml"))
    located = found.located(found.step("encode"), Path("run"))
    assert located.data == STARTER / "corpus.jsonl"
    assert located.data.is_file()
    assert located.model == "org/model"


def test_another_process_of_torchrun_waits_and_takes_part_in_what_is_done_together(folder, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert run() == []
    assert not Path("run").exists(), "it writes nothing of its own"
    monkeypatch.setattr(mine.Stage, "together", True)

    def first_does_its_part(_: float) -> None:
        monkeypatch.setenv("RANK", "0")
        run(until="rows")

    monkeypatch.setattr("zhihui.recipe.running.time.sleep", first_does_its_part)
    assert run() == []
    assert read_manifest(Path("run/mine")) is not None


# --------------------------------------------------------------------------- the recipes that are shipped


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.name)
def test_a_shipped_recipe_is_good(path, tmp_path):
    found = read_recipe(path)
    assert found.about
    plan = make_plan(found, tmp_path / "run")
    if path.name == "starter.yaml":
        assert {each.state for each in plan.stages} == {State.TO_DO}
