"""`zhihui mine`: from a data set to training examples with negatives."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from zhihui.commands import mine
from zhihui.errors import InputError
from zhihui.records import Example, read_examples, write_examples

SENTENCES = {
    "香菇怎么泡发": "干香菇用温水泡半小时，水里加一点白糖更快。",
    "木耳怎么泡发": "干木耳用冷水泡两小时，泡得太久会变质。",
    "海带怎么清洗": "海带表面的白霜用水冲掉，褶皱里的沙要刷净。",
    "粉丝煮多久": "粉丝下锅前先泡软，水开以后煮两分钟。",
}


class Characters:
    """Counts characters by their code points."""

    name, fingerprint = "characters", "characters-32"

    def encode_queries(self, texts, *, instruction=None):
        return self.encode_documents([f"{instruction or ''}{text}" for text in texts])

    def encode_documents(self, texts):
        vectors = np.zeros((len(texts), 32), np.float32)
        for row, text in enumerate(texts):
            np.add.at(vectors[row], [ord(character) % 32 for character in text], 1)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.jsonl"
    write_examples(path, [Example(query=query, pos=[answer]) for query, answer in SENTENCES.items()])
    return path


def run(*arguments):
    app = typer.Typer()
    app.command()(mine.command)
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_bm25_alone_needs_no_model(data, tmp_path):
    text = run(data, "--out", tmp_path / "out")
    assert "4 examples, 4 passages searched" in text
    assert "bm25:1-50:4" in text
    assert "short of the wanted" in text
    for example in read_examples(tmp_path / "out" / "train.jsonl"):
        assert set(example.neg) <= set(SENTENCES.values()) - set(example.pos)


def test_options_reach_the_miner(data, tmp_path, monkeypatch):
    asked = {}

    def load(model, *, device=None):
        asked[model] = device
        return Characters()

    monkeypatch.setattr("zhihui.encoder.load", load)
    options = ["--model", "models/m", "--device", "cpu", "--method", "dense:1-4:2", "--method", "random:1"]
    options += ["--margin", "0.01", "--ratio", "0.99", "--seed", "5", "--json"]
    shown = json.loads(run(data, "--out", tmp_path / "out", *options))
    assert asked == {"models/m": "cpu"}
    mining = shown["manifest"]["config"]["mining"]
    assert (mining["margin"], mining["ratio"], mining["seed"]) == (0.01, 0.99, 5)
    assert [miner["method"] for miner in mining["miners"]] == ["dense", "random"]
    assert shown["manifest"]["inputs"]["encoder"] == "characters-32"
    assert shown["manifest"]["counts"]["mined"].keys() == {"dense:1-4:2", "random:1"}


def test_a_model_that_no_miner_uses_is_refused_before_it_is_loaded(data, tmp_path):
    with pytest.raises(InputError, match="only dense miners use a model"):
        run(data, "--out", tmp_path / "out", "--model", "not/there")
    with pytest.raises(InputError, match="needs a model"):
        run(data, "--out", tmp_path / "out", "--method", "dense:1-4:2")
    with pytest.raises(InputError, match="cannot be read"):
        run(data, "--out", tmp_path / "out", "--method", "bm25")


def test_unusable_rows_are_set_aside_when_asked(data, tmp_path):
    with data.open("a", encoding="utf-8") as stream:
        stream.write("这不是JSON\n")
    with pytest.raises(InputError, match=r"data\.jsonl:5"):
        run(data, "--out", tmp_path / "out")
    text = run(data, "--out", tmp_path / "out", "--on-error", "quarantine")
    assert "set aside: 1 (not_json)" in text


def test_importing_the_command_loads_nothing_heavy():
    heavy = {"numpy", "torch", "transformers", "bm25s", "rjieba", "opencc"}
    code = f"import sys; import zhihui.commands.mine; print({heavy} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "set()"


def test_the_options_of_the_filters_reach_the_miner(data, tmp_path, monkeypatch):
    asked = {}

    class Constant:
        name, fingerprint = "constant", "constant-1"

        def score(self, queries, passages, *, instruction=None):
            return np.full(len(queries), 0.5, np.float32)

    def load_reranker(model, *, device=None):
        asked[model] = device
        return Constant()

    monkeypatch.setattr("zhihui.ranking.reranker.load_reranker", load_reranker)
    options = ["--reranker", "models/r", "--device", "cpu", "--method", "bm25:1-4:0", "--method", "cross:1-4:2"]
    options += ["--cross-margin", "0.01", "--cross-ratio", "0.9", "--max-grade", "3", "--near-duplicates", "0"]
    options += ["--stop-words", "--grades", data, "--json"]
    shown = json.loads(run(data, "--out", tmp_path / "out", *options))
    assert asked == {"models/r": "cpu"}
    mining = shown["manifest"]["config"]["mining"]
    assert (mining["cross_margin"], mining["cross_ratio"], mining["max_grade"]) == (0.01, 0.9, 3.0)
    assert (mining["near_duplicates"], mining["stop_words"], mining["index"]) == (None, True, "exact")
    assert shown["manifest"]["inputs"].keys() == {"data", "grades", "reranker"}
    with pytest.raises(InputError, match="need a cross-encoder"):
        run(data, "--out", tmp_path / "b", "--cross-ratio", "0.9")
    with pytest.raises(InputError, match="unknown index 'hnsw'"):
        run(data, "--out", tmp_path / "b", "--index", "hnsw")
