"""`zhihui eval --task`: C-MTEB's tasks from a mirror, into files that mteb's results repository takes."""

from __future__ import annotations

import errno
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))
import hub_mirror

from zhihui.evaluation.cmteb import tasks
from zhihui.evaluation.metrics import METRICS, score_run
from zhihui.evaluation.registry import systems
from zhihui.runs import read_json

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Bigrams:
    """An encoder that counts hashed bigrams, and notes what it was told."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.fingerprint = f"bigrams of {name}"
        self.encoded = 0
        self.told: set[str | None] = set()

    def encode_queries(self, texts: Sequence[str], *, instruction: str | None = None) -> NDArray[np.float32]:
        self.told.add(instruction)
        return self.encode_documents(texts)

    def encode_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.encoded += len(texts)
        vectors = np.zeros((len(texts), 32), dtype=np.float32)
        for row, text in enumerate(texts):
            for pair in zip(f"^{text}", text, strict=False):
                vectors[row, hashlib.sha256("".join(pair).encode()).digest()[0] % 32] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> dict[str, Bigrams]:
    made: dict[str, Bigrams] = {}

    def load(model: str, *, device: str | None = None) -> Bigrams:
        return made.setdefault(model, Bigrams(model))

    monkeypatch.setattr("zhihui.encoder.load", load)
    return made


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hub_mirror.all_tasks(tmp_path_factory.mktemp("mirror"))


def test_the_eight_tasks_become_files_for_mteb(
    zhihui: Callable[..., Any], mirror: Path, tmp_path: Path, loaded: dict[str, Bigrams]
) -> None:
    out = tmp_path / "out"
    arguments = ["acme/one", "--task", "all", "--data-dir", mirror, "--out", out, "--baseline", "none", "--json"]
    done = zhihui("eval", *arguments)
    assert done.status == 0, done.err
    shown = json.loads(done.out)
    assert list(shown["sets"]) == sorted(tasks())
    encoder = loaded["acme/one"]
    assert encoder.told == {task.instruction for task in tasks().values()}
    assert not (out / "vectors").exists()
    place = out / "mteb" / "results" / "acme__one" / encoder.fingerprint
    assert read_json(place / "model_meta.json")["name"] == "acme/one"
    for name, task in tasks().items():
        written = read_json(place / f"{name}.json")
        (scores,) = written["scores"]["dev"]
        assert (written["task_name"], scores["hf_subset"], scores["languages"]) == (name, "default", ["cmn-Hans"])
        assert scores["main_score"] == scores["ndcg_at_10"]
        assert written["dataset_revision"] not in (task.hub.revision, task.older.revision)
        ours = shown["sets"][name]["acme/one"]
        for metric in METRICS:
            assert scores[metric] == pytest.approx(ours[metric]["value"], abs=6e-6), metric
    average = [shown["sets"][name]["acme/one"]["ndcg_at_10"]["value"] for name in tasks()]
    assert shown["average"]["acme/one"]["ndcg_at_10"]["value"] == pytest.approx(sum(average) / 8)
    encoded = encoder.encoded
    assert zhihui("eval", *arguments).out == done.out
    assert encoder.encoded == encoded


def test_a_passage_with_the_querys_id_is_dropped_where_mteb_drops_it(
    zhihui: Callable[..., Any], mirror: Path, tmp_path: Path, loaded: dict[str, Bigrams]
) -> None:
    found = {}
    for name in ("T2Retrieval", "DuRetrieval"):
        out = tmp_path / name
        assert zhihui("eval", "a/m", "--task", name, "--data-dir", mirror, "--out", out, "--json").status == 0
        rows = [json.loads(line) for line in (out / "sets" / name / "found.jsonl").read_text().splitlines()]
        (found[name],) = [row for row in rows if row["system"] == "a/m" and row.get("query_id") == "5"]
    kept, dropped = found["DuRetrieval"], found["T2Retrieval"]
    assert kept["top"][0][0] == "5"
    assert dropped["top"] == kept["top"][1:]
    assert dropped["ranks"] == {key: rank - 1 for key, rank in kept["ranks"].items()}
    by_hand = score_run({"5": {"3": 1}}, {"5": dict(kept["top"][1:])})["5"]
    assert dropped["ndcg_at_10"] == pytest.approx(by_hand["ndcg_at_10"])


def test_baselines_and_two_models_in_one_call(
    zhihui: Callable[..., Any], mirror: Path, tmp_path: Path, loaded: dict[str, Bigrams]
) -> None:
    out = tmp_path / "out"
    more = ["--random", "--hybrid", "--dense-share", 0.7, "--rrf", "--cache", tmp_path / "cache", "--json"]
    done = zhihui("eval", "a/m", "b/n", "--task", "EcomRetrieval", "--data-dir", mirror, "--out", out, *more)
    assert done.status == 0, done.err
    shown = json.loads(done.out)["average"]
    fused = {f"{way} of {model}" for way in ("hybrid", "rrf") for model in ("a/m", "b/n")}
    assert set(shown) == {"bm25", "random", "a/m", "b/n", *fused}
    assert shown["a/m"] == shown["b/n"]
    assert any((tmp_path / "cache").iterdir())
    for model in loaded.values():
        assert model.encoded == len(hub_mirror.PASSAGES) + len({query for query, _, _ in hub_mirror.QRELS})


def test_an_instruction_of_ones_own_replaces_the_tasks(
    zhihui: Callable[..., Any], mirror: Path, tmp_path: Path, loaded: dict[str, Bigrams]
) -> None:
    arguments = ["a/m", "--task", "DuRetrieval", "--data-dir", mirror, "--out", tmp_path / "out"]
    assert zhihui("eval", *arguments, "--instruction", "找出答案").status == 0
    assert loaded["a/m"].told == {"找出答案"}


def test_tasks_and_ones_own_sets_in_one_call(
    zhihui: Callable[..., Any], mirror: Path, tmp_path: Path, loaded: dict[str, Bigrams]
) -> None:
    from zhihui.records import Passage, RetrievalSet, write_beir

    corpus = {key: Passage(text=text) for key, text in hub_mirror.PASSAGES.items()}
    own = RetrievalSet(name="own", corpus=corpus, queries={"q": "护照"}, qrels={"test": {"q": {"4": 1}}})
    write_beir(tmp_path / "own", own)
    tasks = ["--task", "DuRetrieval", "--data-dir", mirror]
    done = zhihui("eval", "a/m", "--data", tmp_path / "own", *tasks, "--out", tmp_path / "out", "--json")
    assert set(json.loads(done.out)["sets"]) == {"own", "DuRetrieval"}
    assert loaded["a/m"].told == {None, hub_mirror.tasks()["DuRetrieval"].instruction}


@pytest.mark.parametrize("place", ["cache", "results"])
def test_a_full_disk_fails_in_one_line_and_leaves_nothing(
    zhihui: Callable[..., Any],
    mirror: Path,
    tmp_path: Path,
    loaded: dict[str, Bigrams],
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    targets = {"cache": "zhihui.encoder.cache.np.save", "results": "zhihui.evaluation.stage.write_found"}
    arguments = ["a/m", "--task", "DuRetrieval", "--data-dir", mirror, "--out", tmp_path / "out", "--json"]
    with monkeypatch.context() as patched:
        patched.setattr(targets[place], full)
        failed = zhihui("eval", *arguments)
    assert (failed.status, failed.out) == (1, "")
    assert (
        failed.err
        == f"zhihui: {tmp_path / 'out'}: the disk is full; free some space and run the same again, it goes on\n"
    )
    assert not (tmp_path / "out").exists()
    encoded = loaded["a/m"].encoded
    again = zhihui("eval", *arguments)
    assert again.status == 0, again.err
    assert (loaded["a/m"].encoded == encoded) == (place == "results")


def test_the_published_scores_are_shown(zhihui: Callable[..., Any]) -> None:
    shown = zhihui("eval", "--published")
    assert shown.status == 0
    assert [line for line in shown.out.splitlines() if "age-hybrid" in line and "86.88" in line and "74.97" in line]
    assert set(json.loads(zhihui("eval", "--published", "--json").out)) == set(systems())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "T2Retreival"], "task 'T2Retreival' is unknown; did you mean T2Retrieval?"),
        (["--task", "all", "--data-dir", "nowhere"], "nowhere: no such folder; a mirror holds"),
        (["--data-dir", "nowhere"], "name tasks with --task, or all"),
        (["--system", "zhihiu", "--task", "all"], "system 'zhihiu' is unknown; did you mean zhihui?"),
        (["--system", "age-hybrid", "--task", "all"], "its weights were never published, so it cannot be run"),
        (["--system", "seed1.6", "--task", "all"], "it is behind a paid service"),
        (["--system", "youtu", "--task", "all"], "allow it by --trust-remote-code"),
        (
            ["--system", "zhihui", "--model-dir", "nowhere", "--task", "all"],
            "nowhere: neither a model folder nor holds",
        ),
        (["--model-dir", "nowhere", "--task", "all"], "belongs to a system; name one with --system"),
        (["--task", "all", "--device", "cpu", "--workers", "2"], "exclude each other"),
        (["--task", "all", "--hybrid", "--dense-share", "1.5", "m"], "give a share from 0 to 1"),
    ],
)
def test_mistakes_are_one_line(
    zhihui: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    loaded: dict[str, Bigrams],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = zhihui("eval", *arguments)
    assert (done.status, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") == 1
    assert not any(tmp_path.iterdir())
    assert loaded == {}


def test_a_model_without_a_tokenizer_is_one_line(zhihui: Callable[..., Any], mirror: Path, tmp_path: Path) -> None:
    from transformers import Qwen2Config, Qwen2Model

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    Qwen2Model(Qwen2Config(vocab_size=32, num_key_value_heads=1, **sizes)).save_pretrained(tmp_path / "model")
    done = zhihui("eval", tmp_path / "model", "--task", "DuRetrieval", "--data-dir", mirror, "--out", tmp_path / "out")
    assert (done.status, done.err) == (
        2,
        f"zhihui: {tmp_path / 'model'}: no tokenizer.json; copy its files beside the weights\n",
    )
    assert not (tmp_path / "out").exists()


def test_a_recipe_measures_tasks_too(zhihui: Callable[..., Any], mirror: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "measure.yaml"
    settings = {"tasks": ["DuRetrieval"], "data_dir": str(mirror), "random": True}
    recipe.write_text(json.dumps({"stages": {"evaluate": settings}}))
    done = zhihui("run", recipe, "--out", tmp_path / "out", "--json")
    assert done.status == 0, done.err
    found = read_json(tmp_path / "out" / "evaluate" / "results.json")
    assert set(found) == {"bm25", "random"}
    part = hub_mirror.newer(tmp_path / "part", "DuRetrieval")
    (part / "DuRetrieval" / "corpus" / "dev-00000-of-00001.parquet").unlink()
    recipe.write_text(json.dumps({"stages": {"evaluate": {**settings, "data_dir": str(part)}}}))
    refused = zhihui("run", recipe, "--out", tmp_path / "other", "--json")
    assert refused.status == 2
    assert "DuRetrieval/corpus/dev-*.parquet: no such file; fetch the data set again" in refused.err
    assert not (tmp_path / "other" / "evaluate").exists()
