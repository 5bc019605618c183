"""`zhihui eval`: from folders to results, report and mteb's files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from numpy.typing import NDArray
from typer.testing import CliRunner

from zhihui.commands import evaluate
from zhihui.errors import InputError
from zhihui.evaluation import stage
from zhihui.records import Passage, RetrievalSet, write_beir
from zhihui.runs import read_json, read_manifest

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

PASSAGES = {
    "p1": "银杏叶子在深秋变黄，公园里到处都是拍照的游客。",
    "p2": "自行车链条生锈以后，可以先用除锈剂清洗再上油。",
    "p3": "豆浆要煮沸五分钟以上才能喝，没有煮熟会引起恶心。",
    "p4": "护照到期前半年就可以去出入境大厅申请换发。",
}
QUERIES = {"a": "豆浆煮多久才能喝", "b": "护照快到期了怎么换发", "c": "链条生锈怎么处理", "d": "去哪里看红叶"}
QRELS = {"a": {"p3": 1}, "b": {"p4": 2}, "c": {"p2": 1}, "d": {"p1": 1}}


class Characters:
    """An encoder that counts hashed characters."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.fingerprint = f"characters of {name}"
        self.documents = 0

    def encode_queries(self, texts: Sequence[str], *, instruction: str | None = None) -> NDArray[np.float32]:
        return self._vectors([f"{instruction or ''}{text}" for text in texts])

    def encode_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.documents += len(texts)
        return self._vectors(texts)

    def _vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.zeros((len(texts), 16), dtype=np.float32)
        for row, text in enumerate(texts):
            for character in text:
                vectors[row, hashlib.sha256(character.encode()).digest()[0] % 16] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> dict[str, Characters]:
    made: dict[str, Characters] = {}

    def load(model: str, *, device: str | None = None) -> Characters:
        return made.setdefault(model, Characters(Path(model).name))

    monkeypatch.setattr("zhihui.encoder.load", load)
    return made


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """A folder of two sets; the second has a dev split beside test."""
    corpus = {key: Passage(text=text) for key, text in PASSAGES.items()}
    write_beir(
        tmp_path / "sets" / "one",
        RetrievalSet(name="one", corpus=corpus, queries=QUERIES, qrels={"test": QRELS}),
    )
    fewer = {key: QRELS[key] for key in "ab"}
    write_beir(
        tmp_path / "sets" / "two",
        RetrievalSet(name="two", corpus=corpus, queries=QUERIES, qrels={"test": fewer, "dev": QRELS}),
    )
    (tmp_path / "sets" / "notes").mkdir()
    return tmp_path / "sets"


def run(*arguments: str | Path) -> str:
    app = typer.Typer()
    app.command()(evaluate.command)
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_folder_of_sets_is_measured_whole(sets: Path, tmp_path: Path, loaded: dict[str, Characters]) -> None:
    out = tmp_path / "out"
    text = run("models/m", "--data", sets, "--out", out, "--hybrid", "--json")
    shown = json.loads(text)
    assert set(shown["average"]) == {"bm25", "m", "hybrid"}
    assert set(shown["sets"]) == {"one", "two"}
    assert read_json(out / "results.json") == shown["average"]
    for system in shown["average"]:
        values = [shown["sets"][name][system]["ndcg_at_10"]["value"] for name in ("one", "two")]
        average = shown["average"][system]["ndcg_at_10"]
        assert average["value"] == pytest.approx(sum(values) / 2)
        assert average["low"] <= average["value"] <= average["high"]
        for name, value in zip(("one", "two"), values, strict=True):
            (file,) = (out / "mteb" / "results" / f"local__{system}").glob(f"*/{name}.json")
            assert read_json(file)["scores"]["test"][0]["ndcg_at_10"] == pytest.approx(value, abs=6e-6)
    assert loaded["models/m"].documents == 2 * len(PASSAGES)
    manifest = read_manifest(out)
    assert manifest is not None
    assert (manifest.stage, manifest.counts["queries"]) == ("evaluate", 6)
    assert "two" in (out / "report.html").read_text(encoding="utf-8")


def test_the_same_again_does_nothing_and_other_settings_need_overwrite(
    sets: Path, tmp_path: Path, loaded: dict[str, Characters]
) -> None:
    arguments = ["models/m", "--data", sets / "one", "--out", tmp_path / "out", "--json"]
    first = run(*arguments)
    encoded = loaded["models/m"].documents
    assert run(*arguments) == first
    assert loaded["models/m"].documents == encoded
    with pytest.raises(InputError, match="other settings"):
        run(*arguments, "--instruction", "找出答案：")
    assert run(*arguments, "--instruction", "找出答案：", "--overwrite") != first


def test_a_killed_run_goes_on_at_the_next_set(
    sets: Path, tmp_path: Path, loaded: dict[str, Characters], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["models/m", "--data", sets, "--out", tmp_path / "out", "--json"]
    measure_set = stage.measure_set

    def killed(folder: Path, data: RetrievalSet, *rest: Any) -> Any:
        if data.name == "two":
            raise KeyboardInterrupt
        return measure_set(folder, data, *rest)

    monkeypatch.setattr(stage, "measure_set", killed)
    with pytest.raises((KeyboardInterrupt, AssertionError)):
        run(*arguments)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(stage, "measure_set", measure_set)
    gone_on = json.loads(run(*arguments))
    assert loaded["models/m"].documents == 2 * len(PASSAGES)
    fresh = json.loads(run(*arguments[:-3], "--out", tmp_path / "fresh", "--json"))
    assert (gone_on["average"], gone_on["sets"]) == (fresh["average"], fresh["sets"])


def test_without_models_the_baseline_is_measured(sets: Path, tmp_path: Path) -> None:
    text = run("--data", sets / "one", "--out", tmp_path / "out")
    assert "bm25" in text
    assert "nDCG@10" in text
    assert set(read_json(tmp_path / "out" / "results.json")) == {"bm25"}


def test_models_of_one_name_are_told_apart(sets: Path, tmp_path: Path, loaded: dict[str, Characters]) -> None:
    shown = json.loads(
        run("a/m", "b/m", "--data", sets / "one", "--out", tmp_path / "out", "--baseline", "none", "--json")
    )
    assert set(shown["average"]) == {"a/m", "b/m"}


def test_each_evaluation_has_a_default_folder_of_its_own(
    sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outs = {json.loads(run("--data", sets / name, "--json"))["out"] for name in ("one", "two", "one")}
    assert len(outs) == 2
    assert all(Path(out, "report.html").is_file() for out in outs)


def test_a_missing_split_shows_before_any_model_is_loaded(
    sets: Path, tmp_path: Path, loaded: dict[str, Characters]
) -> None:
    with pytest.raises(InputError, match="one: no split 'dev'"):
        run("m", "--data", sets / "two", "--data", sets / "one", "--split", "dev", "--out", tmp_path / "out")
    assert loaded == {}
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "sets", "--split", "dev"], "one: no split 'dev'; there are: test"),
        (["--data", "sets/two", "--split", "train"], "two: no split 'train'; there are: dev, test"),
        (["--data", "nowhere"], "nowhere: no such folder"),
        (["--data", "sets/notes"], "neither a BEIR folder nor a folder of such"),
        ([], "no set to measure on"),
        (["--data", "sets/one", "--baseline", "none"], "nothing to measure"),
        (["--data", "sets/one", "--hybrid"], "name a model"),
    ],
)
def test_mistakes_are_one_line(
    sets: Path, tmp_path: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message) as found:
        run(*arguments)
    assert "\n" not in str(found.value)
