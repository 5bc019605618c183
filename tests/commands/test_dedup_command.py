"""`zhihui dedup`: options, output and refusals; what goes is tested with the stage."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from zhihui.commands import dedup
from zhihui.errors import InputError
from zhihui.records import Example, Passage, RetrievalSet, read_examples, write_beir, write_examples

ANSWER = "干香菇用温水泡半小时，水里加一点白糖更快。"


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.jsonl"
    rows = [Example(query="香菇怎么泡发", pos=[ANSWER]), Example(query="木耳怎么泡发", pos=["干木耳用冷水泡两小时。"])]
    write_examples(
        path, [*rows, Example(query="香菇怎麼泡發？", pos=[ANSWER]), Example(query="海带", pos=["冲净白霜"])]
    )
    return path


@pytest.fixture
def exam(tmp_path):
    corpus = {"p": Passage("冲净白霜"), "q": Passage("干木耳用冷水泡两小时。")}
    queries = {"a": "海带怎么清洗", "b": "泡木耳"}
    qrels = {"dev": {"a": {"p": 1}}, "test": {"b": {"q": 1}}}
    write_beir(tmp_path / "exam", RetrievalSet(name="exam", corpus=corpus, queries=queries, qrels=qrels))
    return tmp_path / "exam"


def run(*arguments):
    app = typer.Typer()
    app.command()(dedup.command)
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def queries(out):
    return [example.query for example in read_examples(out / "train.jsonl")]


def test_repetitions_and_leaks_go(data, exam, tmp_path):
    text = run(data, "--out", tmp_path / "out", "--against", exam)
    assert "1 of 4 examples" in text
    assert "set aside: 1 (duplicate)" in text
    assert "set aside: 2 (positive_in_evaluation)" in text
    assert queries(tmp_path / "out") == ["香菇怎么泡发"]
    assert (tmp_path / "out" / "report.md").is_file()


def test_options_reach_the_stage(data, exam, tmp_path):
    options = [
        "--against",
        exam,
        "--against-split",
        "dev",
        "--no-within",
        "--threshold",
        "0.7",
        "--seed",
        "4",
        "--json",
    ]
    shown = json.loads(run(data, "--out", tmp_path / "out", *options))
    assert shown["manifest"]["config"]["dedup"] == {
        "passages": "relevant",
        "seed": 4,
        "splits": ["dev"],
        "threshold": 0.7,
        "within": False,
    }
    assert queries(tmp_path / "out") == ["香菇怎么泡发", "木耳怎么泡发", "香菇怎麼泡發？"]


def test_mistakes_are_refused(data, tmp_path):
    with pytest.raises(InputError, match="unknown passages 'some'"):
        run(data, "--out", tmp_path / "out", "--passages", "some")
    with pytest.raises(InputError, match="no such file or folder"):
        run(data, "--out", tmp_path / "out", "--against", tmp_path / "nothing")
    assert not (tmp_path / "out").exists()


def test_importing_the_command_loads_nothing_heavy():
    heavy = {"numpy", "torch", "transformers", "rensa", "opencc"}
    code = f"import sys; import zhihui.commands.dedup; print({heavy} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "set()"
