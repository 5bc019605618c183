from __future__ import annotations

import json

import pytest

import zhihui as package
from zhihui import progress
from zhihui.encoder import EncoderSettings, build
from zhihui.encoder.export import export

TEXTS = ["租房押金不退怎么办，可以投诉或者起诉。", "干香菇用温水泡半小时。", "高铁票开车前八天以上退票不收手续费。"]


@pytest.fixture
def model(tmp_path):
    settings = EncoderSettings(max_length=64, prompts={"query": "问：", "document": ""})
    export(build("tiny", TEXTS, seed=0, settings=settings), tmp_path / "source")
    return tmp_path / "source"


@pytest.fixture(autouse=True)
def bars_as_before():
    yield
    progress.quiet(False)


def test_exports_and_checks(zhihui, model, tmp_path):
    done = zhihui("export", model, "--out", tmp_path / "model", "--device", "cpu")
    assert done.status == 0
    assert f"{tmp_path}/model: qwen2, " in done.out
    assert "in float32, bidirectional, lasttoken pooling, vectors of 64 numbers" in done.out
    assert "vectors in transformers and sentence-transformers differ from its own by at most " in done.out
    assert "(1.0e-05 allowed)" in done.out
    source, made = (package.load(folder, device="cpu") for folder in (model, tmp_path / "model"))
    assert made.fingerprint == source.fingerprint


def test_json_for_machines_with_every_setting(zhihui, model, tmp_path):
    done = zhihui(
        *("export", model, "--out", tmp_path / "model", "--device", "cpu", "--name", "org/it", "--dtype", "bfloat16"),
        *("--max-length", 32, "--pooling", "mean", "--attention", "causal", "--document-prompt", "文："),
        *("--query-prompt", "检索：", "--json"),
    )
    assert done.status == 0
    assert done.err == ""
    report = json.loads(done.out)
    assert 0 < report.pop("largest_difference") < report.pop("tolerance") == 1 / 32
    assert report.pop("parameters") > 10_000
    assert report == {
        "out": str(tmp_path / "model"),
        "family": "qwen2",
        "dtype": "bfloat16",
        "attention": "causal",
        "pooling": "mean",
        "dimension": 64,
        "max_length": 32,
        "prompts": {"query": "检索：", "document": "文："},
        "checked_with": ["transformers", "sentence-transformers"],
    }
    made = package.load(tmp_path / "model", device="cpu")
    assert made.settings == EncoderSettings(
        pooling="mean", max_length=32, prompts={"query": "检索：", "document": "文："}
    )
    assert (made.is_causal, str(made.dtype)) == (True, "torch.bfloat16")
    assert '"org/it"' in (tmp_path / "model" / "README.md").read_text(encoding="utf-8")


def test_an_instruction_makes_the_query_prompt(zhihui, model, tmp_path):
    assert zhihui("export", model, "--out", tmp_path / "a", "--instruction", "检索").status == 0
    prompts = {"query": "Instruct: 检索\nQuery: ", "document": ""}
    assert package.load(tmp_path / "a", device="cpu").settings.prompts == prompts
    done = zhihui("export", model, "--out", tmp_path / "b", "--instruction", "检索", "--query-prompt", "问")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "instruction and query_prompt exclude each other" in done.err
    assert not (tmp_path / "b").exists()


def test_without_sentence_transformers_it_says_so(zhihui, model, tmp_path, monkeypatch):
    monkeypatch.setattr("zhihui.encoder.export_check.find_spec", lambda _: None)
    done = zhihui("export", model, "--out", tmp_path / "model")
    assert done.status == 0
    assert "vectors in transformers differ" in done.out
    assert "not checked with sentence-transformers, which is not installed: pip install" in done.out


def test_a_taken_folder_is_refused_before_the_model_is_loaded(zhihui, model, tmp_path, monkeypatch):
    def never(*_, **__):
        raise AssertionError("loaded")

    monkeypatch.setattr("zhihui.encoder.stage.load", never)
    done = zhihui("export", model, "--out", model)
    assert done.status == 2
    assert done.err.startswith(f"zhihui: {model}: already holds a model; ")
    assert done.err.count("\n") == 1


def test_overwrite_replaces_even_the_model_itself(zhihui, model):
    before = package.load(model, device="cpu").encode_queries(TEXTS)
    assert zhihui("export", model, "--out", model, "--overwrite", "--max-length", 40).status == 0
    after = package.load(model, device="cpu")
    assert after.settings.max_length == 40
    assert after.encode_queries(TEXTS) == pytest.approx(before, abs=1e-6)


def test_a_failed_check_leaves_nothing(zhihui, model, tmp_path, monkeypatch):
    monkeypatch.setattr("zhihui.encoder.export_check.tolerance", lambda _: -1.0)
    done = zhihui("export", model, "--out", tmp_path / "model")
    assert done.status == 1
    assert done.err.startswith("zhihui: source: its export gives query vectors that differ by ")
    assert done.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]
