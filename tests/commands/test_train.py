from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from zhihui.encoder import build
from zhihui.encoder.export import export
from zhihui.records import Passage, RetrievalSet, write_beir, write_examples

SUBJECTS = ["红茶", "绿茶", "自行车", "电动车", "小猫", "小狗", "雨伞", "雨靴", "番茄", "土豆"]


@pytest.fixture(scope="module")
def data() -> RetrievalSet:
    corpus = {f"p{i}": Passage(f"{subject}要放在干燥阴凉的地方。") for i, subject in enumerate(SUBJECTS)}
    queries = {f"q{i}": f"{subject}放在哪里好" for i, subject in enumerate(SUBJECTS)}
    judged = {f"q{i}": {f"p{i}": 1} for i in range(len(SUBJECTS))}
    return RetrievalSet(name="small", corpus=corpus, queries=queries, qrels={"train": judged, "dev": judged})


@pytest.fixture(scope="module")
def files(data: RetrievalSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `start` (a model), `train.jsonl` and `set` (BEIR)."""
    folder = tmp_path_factory.mktemp("files")
    write_examples(folder / "train.jsonl", data.examples("train"))
    write_beir(folder / "set", data)
    start = build("tiny", [p.full for p in data.corpus.values()], seed=0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # a fresh model's zeros would keep gradients from most layers
        for weight in start.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=generator)
    export(start, folder / "start")
    return folder


def test_it_trains_measures_and_writes_a_model(zhihui, files, tmp_path):
    out = tmp_path / "run"
    options = ["--set", "batches.size=4", "--set", "epochs=3", "--set", "learning_rate=1e-3", "--dev", files / "set"]
    outcome = zhihui("train", files / "train.jsonl", "--model", files / "start", "--out", out, *options)
    assert outcome.status == 0, outcome.err
    assert "10 examples, 6 steps" in outcome.out
    assert "after 0 steps: ndcg_at_10" in outcome.out
    assert "after 6 steps: ndcg_at_10" in outcome.out
    assert (out / "model" / "modules.json").is_file()
    assert not (out / "checkpoints").exists()
    shown = (out / "preflight.txt").read_text()
    assert shown.strip() in outcome.err, "what the run is about to do is shown before it is done"
    assert "query, " in shown
    assert "ends with EOS" in shown
    assert "memory: about " in shown
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["config"]["batches"]["size"] == 4
    assert manifest["config"]["loss"]["temperature"] == 0.02, "defaults are written down too"
    again = zhihui("train", files / "train.jsonl", "--model", files / "start", "--out", out, *options, "--json")
    assert again.status == 0
    assert json.loads(again.out)["manifest"]["counts"]["steps"] == 6


def test_adapters_are_trained_and_merged_into_a_plain_model(zhihui, files, tmp_path):
    out = tmp_path / "run"
    options = ["--set", "batches.size=4", "--set", "lora.rank=4", "--set", "learning_rate=1e-2"]
    outcome = zhihui("train", files / "train.jsonl", "--model", files / "start", "--out", out, *options)
    assert outcome.status == 0, outcome.err
    start, end = (load_file(folder / "model.safetensors") for folder in (files / "start", out / "model"))
    assert start.keys() == end.keys(), "no trace of the adapters may be left"
    moved = {name for name in start if not torch.equal(start[name], end[name])}
    assert moved
    assert all("proj" in name for name in moved), "only layers that had an adapter may move"
    wrong = zhihui("train", files / "train.jsonl", "--model", "x", "--out", out, "--set", "lora.ranks=4")
    assert wrong.status == 2
    assert "unknown setting lora.ranks; did you mean lora.rank?" in wrong.err


def test_the_preflight_shows_examples_and_changes_nothing(zhihui, files, tmp_path):
    out = tmp_path / "run"
    options = ["--set", "batches.size=4", "--preflight"]
    outcome = zhihui("train", files / "train.jsonl", "--model", files / "start", "--out", out, *options)
    assert outcome.status == 0, outcome.err
    assert "Instruct:" in outcome.out
    assert any(subject in outcome.out for subject in SUBJECTS)
    assert not out.exists()


def test_settings_come_from_a_file_and_are_shown(zhihui, files, tmp_path):
    (tmp_path / "run.yaml").write_text("loss: {temperature: 0.1}\nepochs: 2\n")
    options = ["--config", tmp_path / "run.yaml", "--set", "epochs=5", "--show-settings"]
    outcome = zhihui("train", files / "train.jsonl", "--model", "x", "--out", tmp_path / "run", *options)
    shown = yaml.safe_load(outcome.out)
    assert shown["loss"]["temperature"] == 0.1
    assert shown["epochs"] == 5
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("train.jsonl", None, ["--set", "epoch=2"], "unknown setting epoch; did you mean epochs?"),
        ("train.jsonl", None, ["--set", "batches.size=64"], "its 10 rows give no batch of 64"),
        ("absent.jsonl", None, [], "no such file"),
        ("empty.jsonl", "", [], "the file has no rows"),
        ("keys.jsonl", '{"question": "问", "answer": "答"}\n', [], "no key 'query'"),
        ("nopos.jsonl", '{"query": "问", "pos": []}\n', [], "pos is empty"),
        ("torn.jsonl", b'{"query": "\xff\xfe"}\n', [], "UTF-8"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(zhihui, files, tmp_path, name, content, options, message):
    path = files / name
    if content is not None:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    outcome = zhihui("train", path, "--model", files / "start", "--out", tmp_path / "out" / "run", *options)
    assert outcome.status == 2
    assert message in outcome.err
    assert outcome.err.strip().count("\n") == 0
    left = tmp_path / "out"
    assert not left.exists() or not list(left.iterdir())


def test_a_missing_model_and_split_are_named(zhihui, files, tmp_path):
    outcome = zhihui("train", files / "train.jsonl", "--model", tmp_path / "none", "--out", tmp_path / "run")
    assert outcome.status == 2
    assert "no such model folder" in outcome.err
    more = ["--dev", files / "set", "--dev-split", "valid"]
    outcome = zhihui("train", files / "train.jsonl", "--model", files / "start", "--out", tmp_path / "run", *more)
    assert outcome.status == 2
    assert "no split 'valid'" in outcome.err


def test_a_decoder_is_adapted_and_the_adapted_model_is_trained_by_a_recipe(zhihui, files, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("".join(f"{subject}要放在干燥阴凉的地方。\n" for subject in SUBJECTS), encoding="utf-8")
    out = tmp_path / "adapted"
    outcome = zhihui("adapt", texts, "--model", files / "start", "--out", out, "--set", "epochs=3")
    assert outcome.status == 0, outcome.err
    assert "10 texts, 3 steps" in outcome.out
    assert (out / "model" / "modules.json").is_file()
    before, after = (load_file(folder / "model.safetensors") for folder in (files / "start", out / "model"))
    assert any(not torch.equal(before[name], after[name]) for name in before)

    recipe = tmp_path / "recipe.yaml"
    stages = {
        "adapt": {"texts": str(texts), "model": str(files / "start"), "epochs": 3},
        "train": {"data": str(files / "train.jsonl"), "model": "$adapt", "batches": {"size": 4}},
    }
    recipe.write_text(yaml.safe_dump({"about": "Both.", "stages": stages}, sort_keys=False), encoding="utf-8")
    outcome = zhihui("run", recipe, "--out", tmp_path / "run")
    assert outcome.status == 0, outcome.err
    first, second = (load_file(at / "model" / "model.safetensors") for at in (out, tmp_path / "run" / "adapt"))
    assert all(torch.equal(first[name], second[name]) for name in first), "the verb and the stage do the same"
    assert (tmp_path / "run" / "train" / "model" / "modules.json").is_file()


def test_adaptation_says_what_is_wrong_with_a_setting(zhihui, files, tmp_path):
    outcome = zhihui(
        "adapt", files / "train.jsonl", "--model", files / "start", "--out", tmp_path / "a", "--set", "shar=0.3"
    )
    assert outcome.status == 2
    assert "shar" in outcome.err
    assert "share" in outcome.err
    assert not (tmp_path / "a").exists()
