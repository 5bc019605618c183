"""`zhihui encode`: from a file of texts to a folder of vectors."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from zhihui.encoder import build
from zhihui.encoder.shards import read_shards
from zhihui.records import write_rows

TEXTS = [f"第{number}句：红茶用九十度的水泡，" + "绿茶用八十度，" * (number % 4) for number in range(9)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    encoder = build("tiny", TEXTS, seed=0)
    encoder.backbone.save_pretrained(folder)
    encoder.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def corpus(tmp_path):
    write_rows(tmp_path / "corpus.jsonl", [{"_id": f"d{n}", "text": text} for n, text in enumerate(TEXTS)])
    return tmp_path / "corpus.jsonl"


def vectors(folder):
    return np.concatenate([part for _, part in read_shards(folder)])


def test_a_corpus_becomes_shards(zhihui, model, corpus, tmp_path):
    from zhihui import load

    done = zhihui("encode", corpus, "--model", model, "--out", tmp_path / "v", "--role", "document", "--shard-size", 4)
    assert (done.status, done.err) == (0, "")
    assert f"{tmp_path / 'v'}: 9 vectors of 64 numbers in 3 shards" in done.out
    assert [key for ids, _ in read_shards(tmp_path / "v") for key in ids] == [f"d{n}" for n in range(9)]
    np.testing.assert_allclose(vectors(tmp_path / "v"), load(model).encode_documents(TEXTS), atol=1e-6)


def test_options_reach_the_model_and_the_files(zhihui, model, corpus, tmp_path):
    from zhihui import load

    options = ["--role", "query", "--instruction", "找茶", "--format", "parquet", "--store-dtype", "float16"]
    options += ["--dtype", "bfloat16", "--max-length", 24, "--device", "cpu", "--token-budget", 50, "--json"]
    done = zhihui("encode", corpus, "--model", model, "--out", tmp_path / "v", *options, "--field", "text")
    shown = json.loads(done.out)["manifest"]
    assert shown["config"]["shards"] == {
        "role": "query",
        "instruction": "找茶",
        "form": "parquet",
        "size": 20000,
        "store_dtype": "float16",
        "field": "text",
    }
    assert shown["counts"] == {"texts": 9, "shards": 1, "dimension": 64, "rejected": {}}
    encoder = load(model, dtype="bfloat16", max_length=24)
    assert shown["inputs"]["encoder"] == encoder.fingerprint
    found = vectors(tmp_path / "v")
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, encoder.encode_queries(TEXTS, instruction="找茶"), atol=0.02)


def test_one_device_needs_no_other_process_and_several_get_one_each(zhihui, model, corpus, tmp_path, monkeypatch):
    from zhihui.encoder import devices

    opened = []

    class Here:
        """Stands for the pool: notes the devices and encodes in this process."""

        def __init__(self, open_encoder, names):
            opened.append(names)
            self.encoder = open_encoder(names[0])

        def __enter__(self):
            return self.encoder

        def __exit__(self, *_):
            opened.append("closed")

    monkeypatch.setattr(devices, "ParallelEncoder", Here)
    base = ["encode", corpus, "--model", model, "--role", "document"]
    assert zhihui(*base, "--out", tmp_path / "a", "--device", "cpu").status == 0
    assert zhihui(*base, "--out", tmp_path / "b", "--workers", 1).status == 0
    assert opened == []
    assert zhihui(*base, "--out", tmp_path / "c", "--workers", 3).status == 0
    assert zhihui(*base, "--out", tmp_path / "d", "--device", "cpu", "--device", "cpu").status == 0
    assert opened == [["cpu"] * 3, "closed", ["cpu"] * 2, "closed"]


@pytest.mark.slow  # starts three interpreters that import torch and transformers
def test_two_workers_from_the_shell(model, corpus, tmp_path):
    command = [sys.executable, "-m", "zhihui.cli", "encode", corpus, "--model", model, "--role", "document"]
    done = subprocess.run(
        [*command, "--out", tmp_path / "v", "--workers", "2"], capture_output=True, text=True, check=True
    )
    assert "9 vectors" in done.stdout
    assert done.stderr == ""
    subprocess.run([*command, "--out", tmp_path / "one"], check=True, capture_output=True)
    np.testing.assert_allclose(vectors(tmp_path / "v"), vectors(tmp_path / "one"), atol=1e-6)


def test_unusable_rows_are_set_aside_when_asked(zhihui, model, corpus, tmp_path):
    with corpus.open("a", encoding="utf-8") as stream:
        stream.write('{"_id": "d9", "text": " "}\n')
    base = ["encode", corpus, "--model", model, "--out", tmp_path / "v", "--role", "document"]
    assert (zhihui(*base).status, (tmp_path / "v").exists()) == (2, False)
    done = zhihui(*base, "--on-error", "quarantine")
    assert done.status == 0
    assert "set aside: 1 (blank_text); see" in done.out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"INPUT": "nothing.jsonl"}, "nothing.jsonl: no such file"),
        ({"--model": "./nothing"}, "./nothing: no such model folder"),
        ({"--field": "body"}, "corpus.jsonl:1: has no 'body'; it has _id, text; name the text's key with --field"),
        ({"--instruction": "找茶"}, "an instruction belongs to queries; leave it out, or encode with role query"),
        ({"--device": "gpu"}, "device 'gpu' is unknown; use cpu, cuda, cuda:1, ..."),
        ({"--device": "cuda:99"}, "this machine has"),
        ({"--device": "cpu", "--workers": 2}, "--device and --workers exclude each other"),
        ({"--out": "taken"}, "taken: exists and was not made by zhihui; choose another folder"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(zhihui, model, corpus, tmp_path, monkeypatch, change, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("")
    before = sorted(path.name for path in tmp_path.iterdir())
    options = {"INPUT": "corpus.jsonl", "--model": model, "--out": "v", "--role": "document", **change}
    source = options.pop("INPUT")
    done = zhihui("encode", source, *[part for pair in options.items() for part in pair])
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == before
