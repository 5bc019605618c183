"""The examples of the READMEs and of an exported model's card run as they stand, the model's name aside."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from zhihui.encoder import EncoderSettings, build
from zhihui.encoder.export import export

ROOT = Path(__file__).parent.parent
READMES = ("README.md", "README.zh-CN.md")
MODEL = "runs/quickstart/model"


def python_blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def run(block: str, model: Path) -> dict[str, object]:
    """Run an example with a model of ours in place of the one it names, and return its variables."""
    assert f'"{MODEL}"' in block
    variables: dict[str, object] = {"__name__": "example"}
    exec(compile(block.replace(MODEL, str(model)), "<example>", "exec"), variables)
    return variables


def by_library(blocks: list[str]) -> dict[str, str]:
    found = {
        name: [b for b in blocks if f"from {name} import" in b] for name in ("transformers", "sentence_transformers")
    }
    assert {name: len(own) for name, own in found.items()} == {"transformers": 1, "sentence_transformers": 1}
    return {name: own[0] for name, own in found.items()}


@pytest.fixture(autouse=True)
def _code_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))


@pytest.mark.parametrize("readme", READMES)
def test_both_examples_give_the_same_scores_and_find_the_right_document(readme, tmp_path, capsys):
    blocks = [b for b in python_blocks((ROOT / readme).read_text(encoding="utf-8")) if MODEL in b]
    examples = by_library(blocks)
    texts = re.findall(r'^    "(.*)",$', examples["transformers"], flags=re.MULTILINE)
    assert len(texts) == 3
    # Few tokens, so that a query shares some with its document.
    export(build("nano", texts, seed=0, vocabulary=480), tmp_path / "model")
    runs = {name: run(block, tmp_path / "model") for name, block in examples.items()}
    assert runs["transformers"]["documents"] == runs["sentence_transformers"]["documents"] == texts
    assert runs["transformers"]["queries"] == runs["sentence_transformers"]["queries"]
    scores = {name: np.asarray(variables["scores"]) for name, variables in runs.items()}
    assert np.abs(scores["transformers"] - scores["sentence_transformers"]).max() < 1e-5
    assert scores["transformers"].argmax(axis=1).tolist() == [0, 1, 2]
    assert capsys.readouterr().out.count("[[") == 2


def test_the_readmes_show_the_same_examples():
    english, chinese = (
        [re.sub(r'""".*?"""', "", b) for b in python_blocks((ROOT / readme).read_text(encoding="utf-8")) if MODEL in b]
        for readme in READMES
    )
    assert english == chinese


@pytest.mark.parametrize(("pooling", "document_prompt"), [("lasttoken", ""), ("mean", "文档："), ("cls", "")])
def test_both_examples_of_a_card_give_the_same_scores(pooling, document_prompt, tmp_path):
    settings = EncoderSettings(
        pooling=pooling, max_length=64, prompts={"query": 'Instruct: "检索"\nQuery: ', "document": document_prompt}
    )
    texts = ["租房押金不退怎么办", "干香菇怎么泡发", "出租人不退押金可以起诉", "干香菇用温水泡半小时"]
    export(build("tiny", texts, seed=0, settings=settings), tmp_path / "model", name=MODEL)
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    examples = by_library(python_blocks(card))
    scores = {name: np.asarray(run(block, tmp_path / "model")["scores"]) for name, block in examples.items()}
    assert np.abs(scores["transformers"] - scores["sentence_transformers"]).max() < 1e-5
    # The example encodes as zhihui does: prompts, length and pooling are the model's.
    encoder = build("tiny", texts, seed=0, settings=settings)
    variables = run(examples["sentence_transformers"], tmp_path / "model")
    own = encoder.encode_queries(variables["queries"]) @ encoder.encode_documents(variables["documents"]).T
    assert np.abs(scores["transformers"] - own).max() < 1e-5
