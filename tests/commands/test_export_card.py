"""`zhihui export --card`: a whole model card, beside a new export or in an exported model's folder."""

from __future__ import annotations

import json

import pytest

from zhihui import progress
from zhihui.encoder import EncoderSettings, build
from zhihui.encoder.export import export

TEXTS = ["租房押金不退怎么办，可以投诉或者起诉。", "干香菇用温水泡半小时。", "高铁票开车前八天以上退票不收手续费。"]


@pytest.fixture(autouse=True)
def bars_as_before():
    yield
    progress.quiet(False)


@pytest.fixture
def model(tmp_path):
    settings = EncoderSettings(max_length=64, prompts={"query": "问：", "document": ""})
    export(build("tiny", TEXTS, seed=0, settings=settings), tmp_path / "model")
    return tmp_path / "model"


def test_a_card_for_a_new_export(zhihui, model, tmp_path):
    done = zhihui("export", model, "--out", tmp_path / "new", "--card", "--license", "mit", "--base-model", "org/base")
    assert done.status == 0, done.err
    assert "its card's code ran with sentence-transformers and transformers" in done.out
    card = (tmp_path / "new" / "README.md").read_text(encoding="utf-8")
    assert "license: mit\n" in card
    assert "Trained from [org/base]" in card
    assert "## Limits" in card


def test_a_card_alone_leaves_the_model_as_it_is(zhihui, model):
    before = {path.name: path.read_bytes() for path in model.iterdir() if path.is_file()}
    done = zhihui("export", model, "--card", "--name", "org/it", "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out) == {
        "card": str(model / "README.md"),
        "results": 0,
        "card_ran_with": ["sentence-transformers", "transformers"],
    }
    after = {path.name: path.read_bytes() for path in model.iterdir() if path.is_file()}
    assert before.pop("README.md") != after.pop("README.md")
    assert before == after


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no folder to write; pass --out, or --card"),
        (("--license", "mit", "--out", "new"), "--license is for the card; pass --card"),
        (("--card", "--dtype", "bfloat16"), "the card alone changes nothing in the model"),
        (("--card", "--license", "My Licence"), "licence 'My Licence' is no identifier"),
        (("--card", "--results", "nowhere", "--out", "new"), "nowhere: no such folder; give one that zhihui eval"),
    ],
    ids=["nothing", "stray", "change", "licence", "results"],
)
def test_mistakes_are_one_line_and_write_nothing(zhihui, model, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    card = (model / "README.md").read_bytes()
    done = zhihui("export", model, *arguments)
    assert (done.status, done.err.count("\n")) == (2, 1), done.err
    assert message in done.err
    assert (model / "README.md").read_bytes() == card
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_is_no_exported_model_gets_no_card(zhihui, tmp_path):
    (tmp_path / "bare").mkdir()
    done = zhihui("export", tmp_path / "bare", "--card")
    assert done.status == 2
    assert "not an exported model; pass --out" in done.err
    assert list((tmp_path / "bare").iterdir()) == []
