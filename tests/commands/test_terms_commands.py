"""A term model on the command line: trained on the starter set, measured, refused where it does not fit."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))
import hub_mirror

from zhihui.encoder.stage import BuildConfig, build_files
from zhihui.encoder.tokens import tokenize
from zhihui.quickstart.data import read_set
from zhihui.records import write_beir, write_examples

SETTINGS = {
    "loss": {"temperature": 0.03, "terms": ["passage_query"], "matryoshka": [192, 4096]},
    "batches": {"size": 128, "negatives": 0, "query_tokens": 64, "passage_tokens": 64},
    "epochs": 2,
    "learning_rate": 5e-3,
    "report_to": [],
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `start/model`, `train.jsonl` and `set` (BEIR), all of the starter set."""
    folder = tmp_path_factory.mktemp("files")
    data = read_set(None, seed=0)
    write_beir(folder / "set", data)
    write_examples(folder / "train.jsonl", data.examples("train"))
    build_files(folder / "set", folder / "start", BuildConfig(shape="terms"))
    (folder / "train.yaml").write_text(yaml.safe_dump(SETTINGS), encoding="utf-8")
    return folder


def test_training_lowers_the_loss_and_moves_every_weight(zhihui, files, tmp_path):
    start, out = files / "start" / "model", tmp_path / "run"
    options = ["--model", start, "--out", out, "--config", files / "train.yaml"]
    outcome = zhihui("train", files / "train.jsonl", *options)
    assert outcome.status == 0, outcome.err
    losses = [loss for _, loss in json.loads((out / "history.json").read_text())["loss"]]
    assert len(losses) >= 8
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])
    before, after = (load_file(folder / "model.safetensors") for folder in (start, out / "model"))
    assert sorted(name for name in before if not before[name].equal(after[name])) == [
        "embedding",
        "emphasis",
        "weight",
    ]
    assert "NO EOS" not in (out / "preflight.txt").read_text(), "its vectors hang on no last token"


@pytest.mark.parametrize(
    ("verb", "message"),
    [
        ("train", "model: has no linear layers to put adapters beside; train it without lora"),
        ("adapt", "zhihui_terms is an encoder and always bidirectional"),
    ],
)
def test_adapters_and_adaptation_are_refused_in_one_line(zhihui, files, tmp_path, verb, message):
    data = files / ("train.jsonl" if verb == "train" else "set/corpus.jsonl")
    more = ["--set", "lora.rank=4", "--set", "batches.size=4"] if verb == "train" else []
    outcome = zhihui(verb, data, "--model", files / "start" / "model", "--out", tmp_path / "run", *more)
    assert outcome.status == 2
    assert message in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("verb", [("eval",), ("eval", "slices"), ("eval", "curves")], ids=" ".join)
def test_queries_of_a_task_stay_bare(zhihui, files, tmp_path, monkeypatch, verb):
    """C-MTEB tells each task in words, which would be terms to look for."""
    mirror, model = hub_mirror.newer(tmp_path / "mirror", "T2Retrieval"), files / "start" / "model"
    prompts: list[str] = []

    def noted(tokenizer, settings, texts, *, role, instruction=None):
        if role == "query":
            prompts.extend(settings.prompt("query", instruction) for _ in texts)
        return tokenize(tokenizer, settings, texts, role=role, instruction=instruction)

    monkeypatch.setattr("zhihui.encoder.encoder.tokenize", noted)
    outcome = zhihui(*verb, model, "--task", "T2Retrieval", "--data-dir", mirror, "--out", tmp_path / "out")
    assert outcome.status == 0, outcome.err
    assert len(prompts) >= 3
    assert set(prompts) == {""}


# --------------------------------------------------------------------------- calibration


QUICK = ["--set", "shares=[0.05, 0.4]", "--set", "saturations=[1.0]", "--set", "lengths=[0.5, 2.0]"]


def test_a_model_is_calibrated_on_a_set_and_measured(zhihui, files, tmp_path):
    options = ["--model", files / "start" / "model", "--out", tmp_path / "run", *QUICK]
    outcome = zhihui("calibrate", files / "set", *options)
    assert outcome.status == 0, outcome.err
    lines = outcome.out.splitlines()
    assert lines[0].endswith("queries, 400 passages")
    assert lines[1].startswith("  before nDCG@10 0.")
    assert lines[2].startswith("  after  nDCG@10 0.")
    again = zhihui("calibrate", files / "set", *options, "--json")
    counts = json.loads(again.out)["manifest"]["counts"]
    assert counts["after"]["ndcg_at_10"] >= counts["before"]["ndcg_at_10"]
    assert f"nDCG@10 {counts['after']['ndcg_at_10']:.3f}" in lines[2]
    measured = zhihui("eval", tmp_path / "run" / "model", "--data", files / "set", "--split", "train", "--json")
    assert measured.status == 0, measured.err


def test_calibration_is_a_stage_of_recipes(zhihui, files, tmp_path, monkeypatch):
    monkeypatch.chdir(files)
    calibrated = {"stage": "calibrate", "data": "set", "model": "start/model", "shares": [0.3], "lengths": [1.0]}
    (files / "recipe.yaml").write_text(yaml.safe_dump({"stages": {"weigh": calibrated}}), encoding="utf-8")
    outcome = zhihui("run", files / "recipe.yaml", "--out", tmp_path / "run")
    assert outcome.status == 0, outcome.err
    assert (tmp_path / "run" / "weigh" / "model" / "config.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: not a BEIR folder"),
        (["set", "--split", "spring"], "no split 'spring'; there are: dev, test, train"),
        (["set", "--set", "shares=[2.0]"], "a share of the cosine is at most 1"),
        (["set", "--set", "share=0.2"], "shares"),
    ],
)
def test_calibration_of_nothing_is_refused_in_one_line(zhihui, files, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(files)
    outcome = zhihui("calibrate", *arguments, "--model", "start/model", "--out", tmp_path / "run")
    assert outcome.status == 2
    assert message in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (tmp_path / "run").exists()
